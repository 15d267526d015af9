"""Published rules against diffusers' guiders, used as the pure functions of two predictions that they are."""

import math

import numpy as np
import pytest
import torch
from diffusers.guiders import (
    AdaptiveProjectedGuidance,
    ClassifierFreeGuidance,
    ClassifierFreeZeroStarGuidance,
    MagnitudeAwareGuidance,
    TangentialClassifierFreeGuidance,
)
from diffusers.guiders.adaptive_projected_guidance import MomentumBuffer
from diffusers.guiders.guider_utils import rescale_noise_cfg
from hypothesis import given
from hypothesis import strategies as st
from kit.vectors import branches, samples

import stg_lab as lab
from stg_lab.guidance import Moment, as_guidance, combine

STEPS = 5
SHAPE = (3, 2, 3, 2, 2)
CU = branches("cond", "uncond")
SCALES = [1.5, 4.0, 9.0]


def pair(seed=0, *, dtype=torch.float32, near=0.5):
    """A conditional prediction and an unconditional one that is not far from it, as models give them."""
    g = torch.Generator().manual_seed(seed)
    c, d = (torch.randn(SHAPE, generator=g, dtype=torch.float64) for _ in range(2))
    size = torch.rand(3, 1, 1, 1, 1, generator=g, dtype=torch.float64) + 0.5
    return {"cond": (c * size).to(dtype), "uncond": ((c + near * d) * size).to(dtype)}


def ours(guidance, b, step=3, memory=None):
    return combine(as_guidance(guidance), b, Moment(step, STEPS, memory={} if memory is None else memory))


def theirs(guider, b, step=3):
    guider.set_state(step, STEPS, torch.tensor(0))
    return guider.forward(b["cond"], b["uncond"]).pred


def same(a, b):
    return torch.allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_cfg_has_diffusers_bits(scale, dtype):
    b = pair(dtype=dtype)
    assert torch.equal(ours(lab.CFG(scale), b), theirs(ClassifierFreeGuidance(scale), b))


@pytest.mark.parametrize("phi", [0.3, 0.7, 1.0])
def test_rescaling_is_diffusers(phi):
    b = pair()
    plain = ours(lab.CFG(4), b)
    assert same(ours(lab.CFG(4).rescale(phi), b), rescale_noise_cfg(plain, b["cond"], phi))
    assert same(ours(lab.CFG(4).rescale(phi), b), theirs(ClassifierFreeGuidance(4.0, phi), b))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("zero_steps", [0, 1, 2])
def test_zero_star_is_diffusers(scale, zero_steps):
    b, guider = pair(), ClassifierFreeZeroStarGuidance(scale, zero_init_steps=zero_steps)
    for step in range(STEPS):
        guided = ours(lab.CFG(scale).zero_star(zero_steps), b, step)
        assert same(guided, theirs(guider, b, step))
        assert guided.any() == (step >= zero_steps)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("seed", range(4))
def test_tangential_damping_is_diffusers(scale, seed):
    b = pair(seed)
    assert same(ours(lab.CFG(scale).tangential(), b), theirs(TangentialClassifierFreeGuidance(scale), b))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("alpha", [0.0, 0.5, 8.0])
def test_magnitude_aware_guidance_is_diffusers(scale, alpha):
    """Its norm fails on video of five dimensions, so it gets a row of tokens."""
    b = {name: x.flatten(2) for name, x in pair(near=0.2).items()}
    assert same(ours(lab.CFG(scale).magnitude(alpha), b), theirs(MagnitudeAwareGuidance(scale, alpha), b))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("norm", [0.8, 2.0, math.inf])
@pytest.mark.parametrize("momentum", [0.0, -0.5, 0.7])
def test_apg_is_diffusers_in_the_papers_form(scale, eta, norm, momentum):
    """c + (w - 1) * update, which diffusers calls the original formulation with the scale w - 1; five steps in a row."""
    guider = AdaptiveProjectedGuidance(
        scale - 1, momentum or None, norm if math.isfinite(norm) else 0.0, eta=eta, use_original_formulation=True
    )
    guider.momentum_buffer = MomentumBuffer(momentum) if momentum else None
    memory = {}
    for step in range(STEPS):
        b = pair(step)
        guided = ours(lab.CFG(scale).apg(eta, norm=norm, momentum=momentum), b, step, memory)
        assert same(guided, theirs(guider, b, step))


@pytest.mark.parametrize("rule", [{"eta": 0.0}, {"eta": 1.0, "norm": 0.8}], ids=str)
def test_diffusers_other_form_of_apg_is_another_method_once_the_vector_changes(rule):
    """u + w * update: equal where the update is c - u, and off by (c - u) - update elsewhere."""
    b = pair()
    same_vector = AdaptiveProjectedGuidance(4.0, None, 0.0, eta=1.0)
    assert same(ours(lab.CFG(4).apg(1.0), b), theirs(same_vector, b))
    other = AdaptiveProjectedGuidance(4.0, None, rule.get("norm", 0.0), eta=rule["eta"])
    papers = ours(lab.CFG(4).apg(**rule), b)
    update = (papers - b["cond"]) / 3
    assert not same(papers, theirs(other, b))
    assert same(papers - theirs(other, b), b["cond"] - b["uncond"] - update)


# ---- second implementations, sample by sample in float64 ----


def apg(c, u, w, *, eta, norm, before, momentum):
    m = (c - u) + momentum * before
    length = math.sqrt(m @ m)
    short = m * min(1.0, norm / length) if length else m
    along = c * (short @ c) / (c @ c) if c.any() else 0 * c
    return c + (w - 1) * (short - along + eta * along), m


def zero_star(c, u, w):
    fit = (c @ u) / (u @ u) * u if u.any() else u
    return fit + w * (c - fit)


def magnitude(c, u, w, alpha):
    far, length = math.sqrt((c - u) @ (c - u)), math.sqrt(u @ u)
    damping = math.exp(-alpha * far / length) if length else float(alpha == 0)
    return c + (w - 1) * damping * (c - u)


W = st.floats(1.01, 10)


@given(CU, W, st.floats(-1, 2), st.floats(0.01, 30), st.floats(-0.9, 0.9))
def test_apg_over_two_steps_is_the_algorithm_written_out(b, w, eta, norm, momentum):
    memory, before = {}, np.zeros_like(b["cond"]).reshape(len(b["cond"]), -1)
    for step, given_now in enumerate((b, {"cond": b["uncond"], "uncond": b["cond"] * 0.5})):
        guided = ours(lab.CFG(w).apg(eta, norm=norm, momentum=momentum), given_now, step, memory)
        for i, (c, u, g) in enumerate(samples(given_now["cond"], given_now["uncond"], guided)):
            expected, before[i] = apg(c, u, w, eta=eta, norm=norm, before=before[i], momentum=momentum)
            assert np.allclose(g, expected, rtol=1e-8, atol=1e-8)


@given(CU, W, st.floats(0, 10))
def test_zero_star_and_magnitude_are_their_formulas_and_always_numbers(b, w, alpha):
    with np.errstate(all="raise", under="ignore"):
        star, damped = ours(lab.CFG(w).zero_star(0), b), ours(lab.CFG(w).magnitude(alpha), b)
    for c, u, s, m in samples(b["cond"], b["uncond"], star, damped):
        assert np.allclose(s, zero_star(c, u, w), rtol=1e-8, atol=1e-8)
        assert np.allclose(m, magnitude(c, u, w, alpha), rtol=1e-8, atol=1e-8)


@given(CU, W)
def test_rules_that_are_neutral_are_cfg(b, w):
    plain = ours(lab.CFG(w), b)
    for guidance in (lab.CFG(w).apg(1.0), lab.CFG(w).apg(1.0, norm=1e6), lab.CFG(w).magnitude(0)):
        assert np.allclose(ours(guidance, b), plain, rtol=1e-9, atol=1e-9)


@given(branches("cond", "uncond", "skip"), W, st.floats(-3, 5))
def test_a_rule_on_a_skip_term_treats_the_weak_model_as_it_would_the_unconditional_one(b, w, s):
    """Every rule on STG(s, weak) is the rule on CFG(s + 1) with the weak prediction as the unconditional one."""
    for put in (
        lambda t: t.apg(0.3, norm=1.0),
        lambda t: t.zero_star(0),
        lambda t: t.tangential(),
        lambda t: t.magnitude(2),
    ):
        swapped = ours(put(lab.CFG(abs(s) + 1)), {"cond": b["cond"], "uncond": b["skip"]})
        assert np.allclose(ours(put(lab.STG(abs(s), lab.skip([1]))), b), swapped, rtol=1e-9, atol=1e-9)
        both = ours(lab.CFG(w) + put(lab.STG(s, lab.skip([1]))), b)  # and CFG beside it stays itself
        assert np.allclose(both, ours(lab.CFG(w), b) + ours(put(lab.STG(s, lab.skip([1]))), b) - b["cond"], atol=1e-8)


def test_rules_act_one_after_the_other():
    """Weak prediction first, in the order given; then the vector, in the order given."""
    b = {name: x.double().numpy() for name, x in pair(near=0.3).items()}
    damped_then_clipped = ours(lab.CFG(4).magnitude(0.5).apg(1.0, norm=0.5), b) - b["cond"]
    clipped_then_damped = ours(lab.CFG(4).apg(1.0, norm=0.5).magnitude(0.5), b) - b["cond"]
    for a, o, c, u in samples(damped_then_clipped, clipped_then_damped, b["cond"], b["uncond"]):
        d = c - u
        damping = math.exp(-0.5 * np.linalg.norm(d) / np.linalg.norm(u))
        damped, clipped = d * damping, d * min(1, 0.5 / np.linalg.norm(d))
        assert np.allclose(a, 3 * damped * min(1, 0.5 / np.linalg.norm(damped)))
        assert np.allclose(o, 3 * clipped * damping)


def test_momentum_belongs_to_a_term_and_to_a_run():
    b = pair()
    momentum = lab.CFG(3).apg(1.0, momentum=0.5)
    two, memory = momentum + lab.STG(2, lab.skip([1])).apg(1.0, momentum=-0.5), {}
    b = {**b, "skip": b["uncond"] * 0.3}
    c, u, p = b["cond"], b["uncond"], b["skip"]
    assert same(ours(two, b, 0, memory), c + 2 * (c - u) + 2 * (c - p))
    assert same(ours(two, b, 1, memory), c + 2 * 1.5 * (c - u) + 2 * 0.5 * (c - p))
    assert same(ours(two, b, 0), c + 2 * (c - u) + 2 * (c - p))


def test_a_rule_rests_outside_its_terms_window():
    """Zero steps outside the window do not stand still; momentum waits and goes on where it was."""
    b, c = pair(), pair()["cond"]
    late = lab.CFG(4, start=0.4).zero_star(3)
    assert [bool(ours(late, b, step).any()) for step in range(STEPS)] == [True, True, False, True, True]
    assert ours(late, b, 0) is b["cond"]
    assert ours(lab.CFG(1).zero_star(), b, 0) is b["cond"]
    assert ours(lab.STG(0, lab.skip([1])).zero_star(), b, 0) is b["cond"]
    twice = lab.CFG([4, 1, 4, 4, 4]).apg(1.0, momentum=0.5)
    memory = {}
    for step, share in ((0, 1.0), (1, 0.0), (2, 1.5)):
        assert same(ours(twice, b, step, memory), c + 3 * share * (c - b["uncond"]))


def three(seed=0):
    """A conditional, an unconditional and a weak prediction."""
    g = torch.Generator().manual_seed(seed)
    return {name: torch.randn(SHAPE, generator=g, dtype=torch.float64) for name in ("cond", "uncond", "skip")}


def test_the_parts_along_and_beside_cfg_add_up_to_the_vector():
    """By projection matrices of numpy, sample by sample."""
    b, weak, off = three(), lab.skip([4]), lab.CFG([1.0] * STEPS)
    along, beside = (ours(off + lab.STG(2, weak).part(which), b) - b["cond"] for which in ("along_cfg", "beside_cfg"))
    whole = ours(lab.STG(2, weak), b) - b["cond"]
    assert torch.allclose(along + beside, whole)
    for i in range(SHAPE[0]):
        cfg, vector = ((b["cond"] - b[name])[i].numpy().ravel() for name in ("uncond", "skip"))
        expected = 2 * np.outer(cfg, cfg) @ vector / (cfg @ cfg)
        assert np.allclose(along[i].numpy().ravel(), expected)
        assert abs(beside[i].numpy().ravel() @ cfg) < 1e-9


def test_parts_add_to_a_cfg_that_acts():
    b, weak = three(), lab.skip([4])
    both = ours(lab.CFG(3) + lab.STG(1, weak).part("along_cfg"), b)
    along = ours(lab.CFG([1.0] * STEPS) + lab.STG(1, weak).part("along_cfg"), b) - b["cond"]
    assert torch.allclose(both, ours(lab.CFG(3), b) + along)


def test_a_part_asks_for_the_unconditional_prediction():
    weak = lab.skip([4])
    assert as_guidance(lab.STG(1, weak).part("along_cfg")).needs_uncond
    assert not as_guidance(lab.STG(1, weak)).needs_uncond
    with pytest.raises(lab.GuidanceError, match="needs the branch 'uncond'"):
        ours(lab.STG(1, weak).part("along_cfg"), {k: v for k, v in three().items() if k != "uncond"})
    with pytest.raises(lab.GuidanceError, match="'along_cfg' or 'beside_cfg', got 'along'"):
        lab.STG(1, weak).part("along")
    total = lab.CFG([1.0, 1.0]) + lab.STG(1, weak).part("beside_cfg")
    assert lab.Guidance.from_dict(total.to_dict(), lab.weak.parse) == total
