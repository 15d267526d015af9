"""Identities between guidance methods, for any predictions: what one is called elsewhere, and in which space it may be summed."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.vectors import SCALES, branches

import stg_lab as lab
from stg_lab.guidance import Moment, as_guidance, combine
from stg_lab.x0 import one_step

WEAK, OTHER = lab.skip([1]), lab.skip([2], part="attention")
SPACE, TIME = (lab.skip([1], part="attention", axis=axis) for axis in ("spatial", "temporal"))
CUP = branches("cond", "uncond", "skip")
CFG_SCALES = st.floats(1, 12)

LEVELS = {
    "flow": {"sigma": 0.7},
    "flow_reversed": {"sigma": 0.3},
    "epsilon": {"alpha": 0.4},
    "v_prediction": {"alpha": 0.4},
    "epsilon_sigma": {"sigma": 3.0},
    "v_prediction_sigma": {"sigma": 3.0},
    "sample": {},
    "sample_sigma": {"sigma": 3.0},
}


def guided(guidance, b, **at):
    return combine(as_guidance(guidance), b, Moment(**{"step": 1, "steps": 4, **at}))


def close(a, b):
    return np.allclose(a, b, rtol=1e-9, atol=1e-9)


@given(CUP, CFG_SCALES)
def test_stg_without_weight_is_cfg(b, w):
    assert np.array_equal(guided(lab.CFG(w) + lab.STG(0, WEAK), b), guided(lab.CFG(w), b))


@given(CUP)
def test_no_cfg_and_no_stg_is_cond(b):
    assert guided(lab.CFG(1) + lab.STG(0, WEAK), b) is b["cond"]
    assert guided(lab.CFG(1) + lab.STG([0] * 4, WEAK), b) is b["cond"]
    assert guided(None, b) is b["cond"]


@given(CUP, CFG_SCALES, SCALES)
def test_the_papers_form_is_the_delta_form(b, w, s):
    """u + w (c - u) + s (c - p), as in the paper, and c + (w - 1)(c - u) + s (c - p), as in LTX-2."""
    c, u, p = b["cond"], b["uncond"], b["skip"]
    both = guided(lab.CFG(w) + lab.STG(s, WEAK), b)
    assert close(both, u + w * (c - u) + s * (c - p))
    assert close(both, c + (w - 1) * (c - u) + s * (c - p))
    assert close(both, guided(lab.convention("A", WEAK, cfg=w, scale=s), b))


@given(CUP, SCALES)
def test_extrapolation_from_the_weak_model_has_a_scale_one_larger(b, s):
    """p + s' (c - p) = c + (s' - 1)(c - p): autoguidance, and the first Hunyuan fork of STG."""
    c, p = b["cond"], b["skip"]
    assert close(p + s * (c - p), guided(lab.STG(s - 1, WEAK), b))


@given(CUP, st.floats(1.01, 12))
def test_convention_b_puts_the_weak_model_in_the_place_of_the_unconditional_one(b, w):
    """u_p + w (c - u_p) = CFG + (w - 1)(u - u_p)."""
    c, u, p = b["cond"], b["uncond"], b["skip"]
    ours = guided(lab.convention("B", WEAK, cfg=w), b)
    assert close(ours, p + w * (c - p))
    assert close(ours, u + w * (c - u) + (w - 1) * (u - p))


@given(CUP, st.floats(1.01, 12), SCALES)
def test_convention_c_points_away_from_the_weak_model_from_where_cfg_led(b, w, s):
    """g + s (g - u_p), as in the authors' Wan pipeline."""
    c, u, p = b["cond"], b["uncond"], b["skip"]
    g = u + w * (c - u)
    assert close(guided(lab.convention("C", WEAK, cfg=w, scale=s), b), g + s * (g - p))


@given(CUP, st.floats(1.01, 12), SCALES)
def test_a_reference_changes_where_a_vector_points_and_nothing_else(b, w, s):
    c, u, p = b["cond"], b["uncond"], b["skip"]
    g = u + w * (c - u)
    for reference, start in {"cond": c, "uncond": u, "cfg": g}.items():
        assert close(guided(lab.CFG(w) + lab.STG(s, WEAK, reference=reference), b), g + s * (start - p))
    assert close(guided(lab.STG(s, WEAK, reference="cfg"), b), c + s * (c - p))  # CFG that is off leaves cond


def test_conventions_b_and_c_carry_the_negative_prompt_and_need_cfg():
    for name, scale in (("B", None), ("C", 2.0)):
        [cfg, stg] = lab.convention(name, WEAK, cfg=4, scale=scale).terms
        assert (cfg, stg.weak, stg.scale) == (lab.CFG(4), lab.skip([1], prompt="negative"), scale or 3)
        assert lab.convention(name, WEAK, cfg=4, scale=scale).needs_uncond
    assert not lab.convention("A", WEAK, cfg=4, scale=2).needs_uncond
    assert (lab.CFG(4) + lab.STG(1, WEAK, reference="uncond")).needs_uncond


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: lab.convention("D", WEAK, cfg=4), "'D' is unknown. Known: A: weak pass with the caption"),
        (lambda: lab.convention("A", WEAK, cfg=4), "A needs scale=..., the weight"),
        (lambda: lab.convention("C", WEAK, cfg=4), "C needs scale=..., the weight"),
        (lambda: lab.convention("B", WEAK, cfg=4, scale=1), "B has no scale of its own.*leave scale out"),
        (lambda: lab.convention("B", WEAK, cfg=1), "needs CFG above 1, got cfg=1"),
        (lambda: lab.convention("C", WEAK, cfg=0.5, scale=1), "needs CFG above 1, got cfg=0.5"),
        (
            lambda: lab.convention("A", lab.skip([1], prompt="none"), cfg=4, scale=1),
            "leave prompt= out of skip:block:1",
        ),
        (lambda: lab.convention("B", lab.skip([1], prompt="negative"), cfg=4), "leave prompt= out of skip:block:1"),
        (
            lambda: lab.convention("B", lab.per_step(WEAK, None), cfg=4),
            "the negative prompt, which per_step.* cannot be given",
        ),
    ],
)
def test_a_convention_that_cannot_be_is_refused(make, says):
    with pytest.raises(lab.GuidanceError, match=says):
        make()


@given(CUP, CFG_SCALES, SCALES, SCALES)
def test_terms_commute_and_add(b, w, s, r):
    b = {**b, "skip:block:1": b["skip"], "skip:attention:2": b["uncond"] * 2 - b["skip"]}
    one, two, cfg = lab.STG(s, WEAK), lab.STG(r, OTHER), lab.CFG(w)
    first = guided(cfg + one + two, b)
    for other in (two + one + cfg, one + (cfg + two), (two + cfg) + one):
        assert close(guided(other, b), first)
    assert close(guided(one + lab.STG(r, WEAK), b), guided(lab.STG(s + r, WEAK), b))


# ---- spaces ----


def in_x0(guidance, b, x_t, kind):
    """The sum over one-step predictions, taken back to the model's own space by inverting x0 by hand."""
    step = one_step(kind, **LEVELS[kind])
    x0 = guided(guidance, {name: step(x_t, p) for name, p in b.items()})
    return (x0 - step.sample * x_t) / step.prediction


@pytest.mark.parametrize("kind", LEVELS)
@given(b=branches("cond", "uncond", "skip", "x_t"), w=CFG_SCALES, s=SCALES)
@settings(max_examples=30)
def test_a_weighted_sum_is_the_same_in_either_space(kind, b, w, s):
    """Its coefficients add up to one, so the noisy sample drops out."""
    x_t = b.pop("x_t")
    at = {"one_step": one_step(kind, **LEVELS[kind]), "x_t": x_t}
    b = {**b, "skip:block:1": b["skip"], "skip:attention:2": b["uncond"] - b["skip"]}
    for guidance in (
        lab.CFG(w) + lab.STG(s, WEAK),
        lab.convention("C", lab.skip([1]), cfg=w + 1, scale=s),
        lab.CFG(w) + lab.STG(s, WEAK) + lab.STG(1 - s, OTHER, reference="uncond"),
    ):
        assert np.allclose(in_x0(guidance, b, x_t, kind), guided(guidance, b), rtol=1e-7, atol=1e-7)
        assert np.array_equal(guided(guidance.in_x0(), b, **at), guided(guidance, b))


@pytest.mark.parametrize("kind", LEVELS)
@pytest.mark.parametrize("per", ["sample", "frame"])
@pytest.mark.parametrize("loses", ["temporal", "spatial"])
def test_orthogonalization_is_the_same_in_either_space(kind, loses, per):
    """It knows the directions of two differences, and those do not depend on the space."""
    rng = np.random.default_rng(3)
    names = ("cond", "uncond", str(SPACE), str(TIME))
    b = {name: rng.standard_normal((2, 3, 2, 4, 2)) for name in names}
    x_t = rng.standard_normal((2, 3, 2, 4, 2))
    guidance = (lab.CFG(3) + lab.STG(1.5, SPACE) + lab.STG(0.7, TIME)).orthogonalize(loses=loses, per=per)
    expected = guided(guidance, b)
    assert close(in_x0(guidance, b, x_t, kind), expected)
    at = {"one_step": one_step(kind, **LEVELS[kind]), "x_t": x_t}
    assert np.array_equal(guided(guidance.in_x0(), b, **at), expected)


DIFFERS = {
    "rescaling": lab.CFG(4).rescale(0.7),
    "projection": lab.CFG(4).apg(0.0),
    "a bounded norm": lab.CFG(4).apg(1.0, norm=1.0),
    "CFG-Zero*": lab.CFG(4).zero_star(0),
    "tangential": lab.CFG(4).tangential(),
    "magnitude": lab.CFG(4).magnitude(1.0),
}


@pytest.mark.parametrize("kind", [k for k in LEVELS if not k.startswith("sample")])
@pytest.mark.parametrize("name", DIFFERS)
def test_what_asks_for_lengths_or_for_the_prediction_itself_differs_between_the_spaces(name, kind):
    """And in x0 space it is the method applied to one-step predictions, which is what the papers mean."""
    rng = np.random.default_rng(4)
    b = {name: rng.standard_normal((2, 3, 4)) for name in ("cond", "uncond")}
    x_t = rng.standard_normal((2, 3, 4))
    guidance = as_guidance(DIFFERS[name])
    ours = guided(guidance.in_x0(), b, one_step=one_step(kind, **LEVELS[kind]), x_t=x_t)
    assert close(ours, in_x0(guidance, b, x_t, kind))
    assert np.abs(ours - guided(guidance, b)).max() > 1e-3


def test_momentum_alone_differs_between_the_spaces_from_the_second_step_on():
    """Within one step a sum of vectors is linear; over steps the factor between the spaces changes."""
    rng = np.random.default_rng(5)
    b = {name: rng.standard_normal((2, 3)) for name in ("cond", "uncond")}
    native, x0 = {}, {}
    guidance = as_guidance(lab.CFG(4).apg(1.0, momentum=0.5))
    for step, same in ((0, True), (1, False)):
        at = {"step": step, "one_step": one_step("flow", sigma=0.9 - 0.3 * step), "x_t": b["cond"] + 1}
        a = guided(guidance, b, memory=native, **at)
        assert close(a, guided(guidance.in_x0(), b, memory=x0, **at)) == same


def test_standing_still_is_a_prediction_of_zero_in_either_space():
    b = {"cond": np.ones((1, 2)), "uncond": np.full((1, 2), 3.0)}
    guidance = lab.CFG(4).zero_star(2)
    at = {"one_step": one_step("flow", sigma=0.5), "x_t": np.full((1, 2), 7.0)}
    for summed in (as_guidance(guidance), guidance.in_x0()):
        assert not guided(summed, b, **at).any()
        assert guided(summed, b, **{**at, "step": 2}).all()


@pytest.mark.parametrize(
    "guidance", [lab.CFG(4, start=0.5).apg().in_x0(), lab.CFG(1).apg().in_x0().rescale(0.5)], ids=str
)
def test_where_nothing_acts_x0_space_leaves_cond_as_it_is(guidance):
    b = {name: np.random.default_rng(6).standard_normal((2, 3)) for name in ("cond", "uncond")}
    assert guided(guidance, b, one_step=one_step("flow", sigma=0.01), x_t=b["cond"] * 9) is b["cond"]


@pytest.mark.parametrize(
    ("step", "says"),
    [
        (None, "needs the step's x_t and its coefficients"),
        (one_step("flow", sigma=0.0), "step 1 starts with no noise"),
        (one_step("epsilon", alpha=0.0), "step 1 starts with no signal"),
    ],
)
def test_x0_space_without_a_way_back_is_refused(step, says):
    b = {"cond": np.ones((1, 2)), "uncond": np.zeros((1, 2))}
    with pytest.raises(lab.GuidanceError, match=says):
        guided(lab.CFG(4).apg().in_x0(), b, one_step=step, x_t=b["cond"])


def test_v_prediction_without_any_signal_left_can_be_guided_in_x0():
    """CogVideoX begins there."""
    b = {"cond": np.ones((1, 2)), "uncond": np.zeros((1, 2))}
    step = one_step("v_prediction", alpha=0.0)
    assert np.isfinite(guided(lab.CFG(4).apg().in_x0(), b, one_step=step, x_t=b["cond"])).all()
    assert math.isinf(one_step("epsilon", alpha=0.0).sample)
