"""First-order attribution is the derivative that it claims to be: of the skips' own strength, for every sample by itself."""

import numpy as np
import pytest
import torch
from kit.pipelines import PROMPT, SMALL, Rig, tiny_wan
from kit.watch import captured, denoisers, left_behind, passes
from kit.zoo import member

import stg_lab as lab
from stg_lab.sampling.attribute import gated
from stg_lab.sampling.states import Runs
from stg_lab.sampling.sweep_grid import skips

PARTS = ("block", "attention_zero", "feedforward", "attention")
PAIR = ["a red seven moving left", "a blue two growing"]


def attribute(rig, **changes):
    return lab.attribute(rig.pipe, **{"step": 1, "parts": PARTS, "progress": False, **rig.arguments({}), **changes})


def vectors(rig, weak, along="cfg", **changes):
    """`(<c - p, v>, |v|, |c - p|)` for each weak model and sample at step 1, from a recorded run."""
    with lab.attach(rig.pipe, guidance=sum(map(lab.Probe, weak), start=lab.Guidance()), record=True) as trace:
        rig.stock(**changes)
    rec = trace.recording
    now = {b: rec.prediction(b).isel(step=1).values.astype(np.float64) for b in rec.branches}
    samples = len(now["cond"])
    v = (now["cond"] - now["uncond"] if along == "cfg" else now["cond"]).reshape(samples, -1)
    names = {text: name for name, text in rec.weak.items()}
    g = np.stack([(now["cond"] - now[names[str(w)]]).reshape(samples, -1) for w in weak])
    return (g * v).sum(2), np.linalg.norm(v, axis=1), np.linalg.norm(g, axis=2)


def limit(rig, found, t, **changes):
    """The derivatives by the strength of skips of which only a share t and t / 2 is skipped, without the error of order t."""
    places = [(i, j) for (i, j), text in np.ndenumerate(found.weak.values) if text]
    weak = [
        [lab.skip([int(found.layer[i])], part=str(found.part[j].item()), strength=s) for i, j in places]
        for s in (t, t / 2)
    ]
    (whole, length, far), (half, _, near) = (vectors(rig, w, **changes) for w in weak)
    slope = (4 * half - whole) / t
    return places, slope, length, (4 * near - far) / t


CFG_ON = {"guidance_scale": 3.0}


@pytest.mark.parametrize(
    ("name", "parts", "call"),
    [
        ("wan", (*PARTS, "cross_attention_zero"), CFG_ON),
        ("mochi", ("block", "attention"), CFG_ON),
        ("latte", PARTS, CFG_ON),
        ("svd", PARTS, {}),
        ("hunyuan15", PARTS, {}),
    ],
)
def test_it_is_the_limit_of_skips_of_vanishing_strength(name, parts, call):
    """Two samples: text streams, blocks that fold frames or places into their batch, several modules under one gate."""
    one = member(name)
    call = {**one.two(), **call}
    found = attribute(one, parts=parts, layers=[0, 1], **call)
    places, slope, length, _ = limit(one, found, 0.02, count=2, **call)
    estimated = np.stack([found.inner[0, i, j].values for i, j in places])
    scale = abs(slope).max(axis=0)
    assert (abs(estimated - slope) < 0.02 * scale + 0.02 * abs(slope)).all()
    projected = np.stack([found.projection[0, i, j].values for i, j in places])
    assert np.allclose(projected * length, estimated, rtol=1e-4)
    assert left_behind(one.pipe) == []


def test_a_branch_that_is_normalised_afterwards_has_no_derivative_by_its_length():
    """Mochi: half of the attention's output is the same as all of it, and none of it is not."""
    one = member("mochi")
    found = attribute(one, parts=("block", "attention_zero"), guidance_scale=3.0)
    by_part = abs(found.inner).max(("step", "layer", "sample"))
    assert by_part[1] < 1e-3 * by_part[0]
    exact = lab.ablate(one.pipe, 1, parts="attention_zero", progress=False, **one.arguments(CFG_ON))
    assert (exact.rms > 1e-2).all()


def test_the_error_of_a_difference_falls_with_its_strength(tiny):
    found = attribute(tiny, prompt=PAIR, layers=[1])
    exact = found.inner.values[0, 0]
    errors = []
    for t in (0.4, 0.1):
        weak = [lab.skip([1], part=part, strength=t) for part in PARTS]
        inner, _, _ = vectors(Pair(tiny), weak)
        errors.append(abs(inner / t - exact).sum())
    assert 0 < errors[1] < 0.4 * errors[0]


class Pair(Rig):
    """The same pipeline, called with two captions."""

    def __init__(self, rig):
        super().__init__(rig.pipe, {**rig.call, "prompt": PAIR, "guidance_scale": 5.0})

    def stock(self, **changes):
        return super().stock(seed=0, **changes)


def test_where_blocks_add_little_it_is_the_exact_sweep():
    """With every residual branch shrunk by a tenth, the error of first order, relative to the vector, shrinks as well."""
    rig, errors = Rig(tiny_wan(), SMALL), []
    branches = [m for b in rig.pipe.transformer.blocks for m in (b.attn1.to_out[0], b.attn2.to_out[0], b.ffn.net[2])]
    for _ in range(3):
        found = attribute(rig, parts=PARTS[:3])
        exact = lab.ablate(rig.pipe, 1, parts=PARTS[:3], axes="joint", progress=False, **rig.arguments({}))
        length = (exact.l2 * exact.cosine_cfg).sel(axis="joint")
        errors.append(float(abs(found.projection - length).max() / abs(length).max()))
        with torch.no_grad():
            for branch in branches:
                branch.weight.mul_(0.1)
                branch.bias.mul_(0.1)
    assert errors[2] < 0.2 * errors[1] < 0.2 * 0.5 * errors[0]


def test_samples_do_not_mix(tiny):
    both = attribute(tiny, prompt=PAIR, seed=3)
    for i, caption in enumerate(PAIR):
        alone = attribute(tiny, prompt=caption, seed=3 + i)
        scale = abs(alone.inner).max()
        assert abs(both.inner.isel(sample=[i]) - alone.inner).max() < 1e-4 * scale
    assert abs(both.inner[..., 0] - both.inner[..., 1]).max() > 0.1 * scale


def test_probes_estimate_the_norm_of_the_derivative(tiny):
    found = attribute(tiny, probes=200, guidance_scale=5.0)
    places, _, _, norms = limit(tiny, found, 0.05, guidance_scale=5.0)
    ratio = np.stack([found.l2[0, i, j].values for i, j in places]) / norms
    assert (abs(ratio - 1) < 4 / np.sqrt(2 * 200)).all()  # four standard errors
    assert abs(ratio.mean() - 1) < 0.1


def test_the_gates_leave_the_bits_of_the_prediction(tiny):
    seen = []

    def visit(state):
        with torch.enable_grad():
            gates, prediction = gated(
                state, list(skips(tiny.pipe, state.at.family, None, PARTS, ("joint",)).of.values())
            )
        seen.append((gates, prediction, state.cond))

    Runs.plan(tiny.pipe, 1, 0, None, None, tiny.arguments({})).visit(0, [1], (), visit)
    [(gates, prediction, cond)] = seen
    assert gates.shape == (12, 1)
    assert prediction.requires_grad
    assert np.array_equal(prediction.detach().numpy(), cond)


@pytest.mark.parametrize("wanted", [True, False])
def test_weights_keep_what_they_say_of_gradients_and_get_none(tiny, wanted):
    rig = tiny.copy()
    rig.pipe.transformer.requires_grad_(wanted)
    stock = rig.stock(guidance_scale=4.0)
    attribute(rig, guidance_scale=4.0)
    parameters = list(rig.pipe.transformer.parameters())
    assert {p.requires_grad for p in parameters} == {wanted}
    assert all(p.grad is None for p in parameters)
    assert left_behind(rig.pipe) == []
    assert all(m._compiled_call_impl is None for d in denoisers(rig.pipe) for m in d.modules())
    assert torch.equal(rig.stock(guidance_scale=4.0), stock)


def test_inference_mode_around_it_does_not_matter(tiny):
    with torch.inference_mode():
        inside = attribute(tiny)
    assert inside.inner.equals(attribute(tiny).inner)


def test_a_gate_that_is_never_reached_is_told(tiny):
    rig = tiny.copy()
    rig.pipe.transformer.blocks[1].forward = lambda hidden_states, *args: hidden_states
    with pytest.raises(lab.GuidanceError, match="feedforward 1 was never reached"):
        attribute(rig, parts="feedforward")


def test_one_pass_serves_all_layers_and_parts(tiny):
    with passes(tiny.pipe) as few:
        attribute(tiny, step=[0, 1])
    assert len(few) == 2 * 2 + 2  # the pipeline's own with CFG, and one for each state


def test_it_aligns_with_the_sweep_of_the_same_states(tiny):
    call = {"step": [0, 2], "prompt": PAIR, "seed": [0, 7], "progress": False, "layers": [0, 2], "parts": PARTS[:3]}
    arguments = {**tiny.arguments({}), **call}
    exact = lab.ablate(tiny.pipe, **arguments).sel(axis="joint")
    found = lab.attribute(tiny.pipe, along="cond", **arguments)
    assert found.projection.dims == ("step", "layer", "part", "sample")
    for name in ("step", "layer", "part", "caption", "seed", "weak", "timestep", "sigma"):
        assert found[name].values.tolist() == exact[name].values.tolist(), name
    rank = lab.analysis.rank_correlation(exact.l2 * exact.cosine_cond, found.projection)
    assert rank.models.values.tolist() == [6, 6]
    assert (rank.rho > 0.5).all()  # three blocks of random weights, not far from linear


def test_a_recorded_state_is_the_same_state(tiny):
    run = tiny.sample(lab.CFG(4), seed=2)
    fresh = attribute(tiny, guidance=lab.CFG(4), seed=2, step=3)
    taken = lab.attribute(tiny.pipe, 3, state=run.recording, parts=PARTS, progress=False)
    assert fresh.inner.equals(taken.inner)


def test_what_the_model_lacks_is_nan_and_told(tiny):
    found = attribute(tiny, parts=("block", "attention_video"))
    assert found.inner.sel(part="attention_video").isnull().all()
    assert found.inner.sel(part="block").notnull().all()
    assert "for models that keep text" in found.why.sel(layer=0, part="attention_video").item()


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"along": "cgf"}, lab.GuidanceError, "along 'cgf' is unknown. Did you mean 'cfg'"),
        ({"guidance_scale": 1.0}, lab.GuidanceError, "needs the unconditional prediction.*along='cond'"),
        ({"probes": -1}, lab.CallError, "probes is a whole number from 0"),
        ({"step": 9}, lab.CallError, "step 9 is out of range"),
        ({"parts": "blocks"}, lab.GuidanceError, "part 'blocks' is unknown"),
        ({"prompt": None}, lab.CallError, "no prompt was given"),
    ],
)
def test_wrong_arguments_are_told_before_any_compute(tiny, wrong, error, message):
    with captured(tiny.pipe) as calls, pytest.raises(error, match=message):
        attribute(tiny, **{"prompt": PROMPT, **wrong})
    assert len(calls) == 0
