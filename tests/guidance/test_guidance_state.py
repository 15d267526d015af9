"""Scales that see the state, rules with memory, and the words of ComfyUI, each against its formula written anew in numpy."""

import math

import numpy as np
import pytest
import torch
from kit.watch import branch, passes

import stg_lab as lab
from stg_lab.guidance import Moment, as_guidance, combine
from stg_lab.interop.json_file import from_json
from stg_lab.x0 import OneStep

SHAPE = (2, 3, 5, 4, 2)
STEPS = 6


def predictions(step, near=0.3, names=("uncond",)):
    g = np.random.default_rng(step)
    c = g.normal(size=SHAPE)
    return {"cond": c, **{name: c + near * g.normal(size=SHAPE) for name in names}}


def moment(step, memory, sigma=0.5, x_t=None):
    """A step of a flow model."""
    return Moment(
        step,
        STEPS,
        sigma,
        one_step=OneStep(1.0, -sigma),
        x_t=np.zeros(SHAPE) if x_t is None else x_t,
        memory=memory,
        signal=1 - sigma,
        level=sigma,
    )


def each(x):
    return x.reshape(len(x), -1)


def cos(a, b):
    return (each(a) * each(b)).sum(1) / np.linalg.norm(each(a), axis=1) / np.linalg.norm(each(b), axis=1)


# ---- until ----


def test_adaptive_guidance_acts_up_to_the_step_at_which_a_sample_agrees():
    near = np.array([[3.0, 1.0, 0.5, 0.05, 0.5, 0.05], [3.0, 0.01, 3.0, 3.0, 3.0, 3.0]])
    total, memory, acting = as_guidance(lab.CFG(4).until(0.99)), {}, []
    for step in range(STEPS):
        b = predictions(step)
        b["uncond"] = b["cond"] + near[:, step].reshape(2, 1, 1, 1, 1) * (b["uncond"] - b["cond"]) / 0.3
        guided = combine(total, b, moment(step, memory))
        full = b["uncond"] + 4 * (b["cond"] - b["uncond"])
        acting.append([np.allclose(guided[i], full[i]) and not np.allclose(full[i], b["cond"][i]) for i in range(2)])
        assert all(a or np.array_equal(guided[i], b["cond"][i]) for i, a in enumerate(acting[-1]))
    assert acting == [[True, True], [True, True], [True, False], [True, False], [False, False], [False, False]]


def test_a_weak_model_that_agrees_is_not_run_any_more(tiny):
    weak = lab.skip([1])
    always = tiny.sample(lab.CFG(4) + lab.Probe(weak), num_inference_steps=4).recording
    agreed = [float(cos(branch(always, "cond", k).numpy(), branch(always, "skip", k).numpy())[0]) for k in range(4)]
    threshold = max(agreed[:2])  # reached by one of the first two steps
    ends = int(np.argmax(np.array(agreed) >= threshold)) + 1
    with passes(tiny.pipe) as made:
        run = tiny.sample(lab.CFG(4) + lab.STG(0.0001, weak).until(threshold - 1e-6), num_inference_steps=4).recording
    assert len(made) == 2 * 4 + ends
    assert [bool(torch.isnan(branch(run, "skip", k)).all()) for k in range(4)] == [k >= ends for k in range(4)]


def test_agreement_says_which_step_that_would_be(tiny):
    recording = tiny.sample(lab.CFG(4), num_inference_steps=4).recording
    found = lab.analysis.agreement(recording, -1)
    assert found.dims == ("step", "sample")
    assert found.through.values.tolist() == [1]
    assert lab.analysis.agreement(recording, 1.0).through.values.tolist() == [4]
    for k in range(4):
        assert float(found[k, 0]) == pytest.approx(
            cos(branch(recording, "cond", k).numpy(), branch(recording, "uncond", k).numpy())[0], abs=1e-6
        )


# ---- caps, functions of one's own ----


@pytest.mark.parametrize("ratio", [0.0, 0.1, 5.0])
def test_a_cap_shortens_what_is_long_beside_cond(ratio):
    b = predictions(0)
    d = b["cond"] - b["uncond"]
    lengths = [np.linalg.norm(each(x), axis=1) for x in (d, b["cond"])]
    factor = np.minimum(1, ratio * lengths[1] / lengths[0]).reshape(2, 1, 1, 1, 1)
    assert np.allclose(combine(as_guidance(lab.CFG(4).cap(ratio)), b, moment(0, {})), b["cond"] + 3 * factor * d)


def test_a_function_sees_the_predictions_and_remembers():
    seen = []

    def factor(view):
        view.memory["before"] = view.memory.get("before", 0) + 1
        seen.append((view.memory["before"], view.done, view.cosine))
        return view.norm(view.vector) / view.norm(view.cond)

    total, memory = as_guidance(lab.CFG(3).seeing(factor)), {}
    for step in range(3):
        b = predictions(step)
        d = b["cond"] - b["uncond"]
        ratio = (np.linalg.norm(each(d), axis=1) / np.linalg.norm(each(b["cond"]), axis=1)).reshape(2, 1, 1, 1, 1)
        assert np.allclose(combine(total, b, moment(step, memory)), b["cond"] + 2 * ratio * d)
        assert seen[-1][0] == step + 1
        assert seen[-1][1] == step / STEPS
        assert np.allclose(seen[-1][2], cos(b["cond"], b["uncond"]))
    assert str(total) == "CFG(3).seeing(factor='factor')"
    back = from_json(lab.export(total, to="json"))
    with pytest.raises(lab.GuidanceError, match="Give it again"):
        combine(back, b, moment(0, {}))
    for bad in (lambda view: "a", lambda view: math.nan, lambda view: [1, 2, 3]):
        with pytest.raises(lab.GuidanceError, match="gave"):
            combine(as_guidance(lab.CFG(3).seeing(bad)), b, moment(0, {}))


@pytest.mark.parametrize(
    "off",
    [
        lab.CFG(4).seeing(lambda view: 1), lab.CFG(4).cap(100), lab.CFG(4).until(1), lab.CFG(4).sliding(strength=0), lab.CFG(4).momentum(0),
        lab.CFG(4).bands(space=[1, 1]), lab.CFG(4).ramp(1),
    ],
    ids=str,
)  # fmt: skip
def test_off_is_off_to_the_bit(off):
    memory, plain = {}, {}
    for step in range(3):
        b = {name: torch.from_numpy(x).float() for name, x in predictions(step).items()}
        unruled = combine(as_guidance(lab.CFG(4).apg(eta=1)), b, moment(step, plain))
        assert torch.equal(combine(as_guidance(off), b, moment(step, memory)), unruled)


# ---- feedback ----


def test_feedback_guidance_is_the_authors_update():
    """generate_images_FBG.py in its own units (x0 plus sigma times noise), the state that follows given from outside."""
    tau, delta, pi, most = 0.02, -0.003, 0.9, 6.0
    sigmas = [0.9, 0.7, 0.5, 0.3]
    total, memory, log_p = as_guidance(lab.CFG(2).feedback(tau, delta, pi=pi, most=most)), {}, np.zeros(2)
    draw, scales, last = np.random.default_rng(0), [], None
    for step, t in enumerate(sigmas):
        b, x_t = predictions(step, near=2.0), draw.normal(size=SHAPE)
        x, sigma = x_t / (1 - t), t / (1 - t)
        if last is not None:
            before, s, dc, du = last
            variance = (s**2 - sigma**2) * sigma**2 / s**2
            errors = [
                ((x - (sigma**2 / s**2 * before + (s**2 - sigma**2) / s**2 * d)) ** 2).reshape(2, -1).sum(1)
                for d in (dc, du)
            ]
            log_p = np.clip(
                log_p - tau / (2 * variance) * (errors[0] - errors[1]) + delta,
                math.log((1 - pi) * most / (most - 1)),
                3.0,
            )
        last = (x, sigma, x_t - t * b["cond"], x_t - t * b["uncond"])
        scales.append(np.exp(log_p) / (np.exp(log_p) - (1 - pi)))
        expected = b["uncond"] + scales[-1].reshape(2, 1, 1, 1, 1) * (b["cond"] - b["uncond"])
        assert np.allclose(combine(total, b, moment(step, memory, t, x_t)), expected)
    assert np.ptp(scales) > 0.1


# ---- rules with memory ----


def test_sliding_mode_switches_against_the_surface():
    total, memory, before = as_guidance(lab.CFG(5).sliding(2.0, 0.05)), {}, None
    for step in range(4):
        b = predictions(step)
        e = b["cond"] - b["uncond"]
        moved = e if before is None else e - 0.05 * np.sign((e - before) + 2.0 * before)
        assert np.allclose(combine(total, b, moment(step, memory)), b["cond"] + 4 * moved)
        before = e


@pytest.mark.parametrize("term", [lab.CFG(1), lab.CFG(4)], ids=str)
def test_momentum_goes_on_from_the_average_of_what_was(term):
    total, memory, average = as_guidance(term.momentum(0.7, 0.4)), {}, None
    for step in range(5):
        b = predictions(step)
        v = b["uncond"] + term.scale * (b["cond"] - b["uncond"])
        expected = v if average is None else v + 0.7 * (v - average)
        average = v if average is None else 0.4 * average + 0.6 * v
        assert np.allclose(combine(total, b, moment(step, memory)), expected)


def test_momentum_takes_no_pass_and_a_run_is_made_again_from_its_record(tiny):
    guidance = lab.CFG(1).momentum(0.5, 0.5)
    with passes(tiny.pipe) as made:
        recording = tiny.sample(guidance, num_inference_steps=4).recording
    assert len(made) == 4
    again = recording.reweight(guidance)
    for k in range(4):
        assert np.allclose(again[k], branch(recording, "guided", k), atol=1e-6)
    assert not np.allclose(branch(recording, "guided", 2), branch(recording, "cond", 2), atol=1e-3)


# ---- ComfyUI's words ----


def test_perp_neg_takes_what_is_orthogonal_to_the_caption():
    g, n = 4.0, 0.7
    b = predictions(0, names=("uncond", "empty"))
    pos, neg = b["cond"] - b["empty"], b["uncond"] - b["empty"]
    along = ((each(neg) * each(pos)).sum(1) / (each(pos) ** 2).sum(1)).reshape(2, 1, 1, 1, 1)
    expected = b["empty"] + g * (pos - n * (neg - along * pos))
    total = as_guidance(lab.STG(g - 1, lab.empty()).perp_neg(n))
    assert np.allclose(combine(total, b, moment(0, {})), expected)
    assert total.needs_uncond


def test_the_empty_caption_is_a_pass_of_its_own(tiny):
    plain = tiny.sample(lab.CFG(4), negative_prompt="", num_inference_steps=2).recording
    with passes(tiny.pipe) as made:
        run = tiny.sample(
            lab.CFG(4) + lab.Probe(lab.empty()), negative_prompt="a blue two growing", num_inference_steps=2
        ).recording
    assert len(made) == 6
    assert torch.allclose(branch(run, "empty", 0), branch(plain, "uncond", 0), atol=1e-5)
    assert not torch.allclose(branch(run, "empty", 0), branch(run, "uncond", 0), atol=1e-3)
    assert lab.weak.parse(str(lab.empty())) == lab.empty()


def denoised(b, x_t, t):
    return {name: x_t - t * p for name, p in b.items()}


def test_cfg_norm_is_the_node():
    t, x_t, b = 0.4, np.random.default_rng(7).normal(size=SHAPE), predictions(0, near=1.0)
    x = denoised(b, x_t, t)
    cfg = x["uncond"] + 4 * (x["cond"] - x["uncond"])
    ratio = np.linalg.norm(x["cond"], axis=1, keepdims=True) / (np.linalg.norm(cfg, axis=1, keepdims=True) + 1e-8)
    expected = cfg * np.clip(ratio, 0, 1)
    ours = combine(as_guidance(lab.CFG(4).norm()), b, moment(0, {}, t, x_t))
    assert np.allclose(x_t - t * ours, expected)


def test_mahiro_is_the_node():
    t, g = 0.4, 4.0
    x_t, b = np.random.default_rng(7).normal(size=SHAPE), predictions(0, near=1.0)
    x = {name: torch.from_numpy(p) for name, p in denoised(b, x_t, t).items()}
    for sample in range(2):  # the node takes its mean over a batch, here of one
        c, u = (x[name][sample : sample + 1] for name in ("cond", "uncond"))
        leap, against, cfg = c * g, u * g, u + g * (c - u)
        merge = (leap + cfg) / 2
        signed = [torch.sqrt(y.abs()) * y.sign() for y in (against, merge)]
        alike = 2 * (torch.nn.functional.cosine_similarity(*signed).mean() + 1)
        expected = (alike * cfg + (4 - alike) * leap) / 4
        ours = combine(as_guidance(lab.CFG(g).mahiro()), b, moment(0, {}, t, x_t))
        assert np.allclose((x_t - t * ours)[sample : sample + 1], expected.numpy())


@pytest.mark.parametrize("shape", ["linear", "triangle"])
def test_scales_over_frames_are_the_nodes(shape):
    b, g, least = predictions(0), 5.0, 2.0
    frames = SHAPE[2]
    values = np.linspace(0, 1, frames)
    rise = values if shape == "linear" else 2 * np.abs(values - np.floor(values + 0.5))
    scale = (rise * (g - least) + least).reshape(1, 1, frames, 1, 1)
    ours = combine(as_guidance(lab.CFG(g).ramp((least - 1) / (g - 1), shape)), b, moment(0, {}))
    assert np.allclose(ours, b["uncond"] + scale * (b["cond"] - b["uncond"]))


@pytest.mark.parametrize(
    "term",
    [
        lab.CFG(4).until(0.98), lab.CFG(4).cap(0.3), lab.CFG(2).feedback(0.02), lab.CFG(4).sliding(3, 0.2), lab.CFG(1).momentum(0.3, 0.2),
        lab.STG(3, lab.empty()).perp_neg(0.5), lab.CFG(4).norm(), lab.CFG(4).mahiro(), lab.CFG(4).ramp(0.5, "triangle"),
    ],
    ids=str,
)  # fmt: skip
def test_they_go_into_a_file(term):
    assert from_json(lab.export(as_guidance(term), to="json")) == as_guidance(term)


def test_what_cannot_be_is_said():
    for make in (
        lambda: lab.CFG(4).until(2), lambda: lab.CFG(4).cap(-1), lambda: lab.CFG(4).feedback(pi=1), lambda: lab.CFG(4).sliding(rate=-1),
        lambda: lab.CFG(4).momentum(decay=1), lambda: lab.CFG([1, 2]).mahiro(), lambda: lab.STG(0, lab.empty()).perp_neg(),
        lambda: lab.CFG(4).ramp(shape="round"), lambda: lab.CFG(4).seeing(5), lambda: lab.empty(prompt="negative"),
    ):  # fmt: skip
        with pytest.raises(lab.GuidanceError):
            make()
