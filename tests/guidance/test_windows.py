"""Terms with a window act inside it alone, and outside it their passes are not even run."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kit.vectors import UNIT
from kit.watch import branch, passes

import stg_lab as lab
from stg_lab.guidance import Moment, combine

STEPS = 4
WEAK = lab.skip([1])


@pytest.mark.parametrize(
    ("start", "stop", "acting"),
    [
        (0.0, 1.0, [0, 1, 2, 3]),
        (0.0, 0.25, [0]),
        (0.75, 1.0, [3]),
        (0.25, 0.75, [1, 2]),
        (0.2, 0.6, [1, 2]),  # 0.8 <= step < 2.4
        (0.0, 0.01, [0]),
    ],
)
def test_a_weak_model_runs_inside_its_window_alone(tiny, start, stop, acting):
    with passes(tiny.pipe) as made:
        recording = tiny.sample(lab.CFG(4) + lab.STG(1, WEAK, start=start, stop=stop)).recording
    assert len(made) == 2 * STEPS + len(acting)
    for step in range(STEPS):
        c, u, p, guided = (branch(recording, name, step) for name in ("cond", "uncond", "skip", "guided"))
        cfg = u + 4.0 * (c - u)
        assert torch.equal(guided, cfg + (c - p) if step in acting else cfg)
        assert torch.isnan(p).all() == (step not in acting)


def test_an_empty_window_between_two_steps_leaves_the_stock_run(tiny):
    run = tiny.sample(lab.CFG(4) + lab.STG(1, WEAK, start=0.3, stop=0.4))  # no step in 1.2 <= step < 1.6
    assert torch.equal(run.output.frames, tiny.stock(guidance_scale=4.0))
    assert np.isnan(run.recording.prediction("skip")).all()


def test_cfg_acts_inside_its_window_alone(tiny):
    recording = tiny.sample(lab.CFG(4, start=0.25, stop=0.75)).recording
    for step in range(STEPS):
        c, u, guided = (branch(recording, name, step) for name in ("cond", "uncond", "guided"))
        assert torch.equal(guided, u + 4.0 * (c - u) if step in (1, 2) else c)


def test_two_windows_of_one_weak_model_share_its_branch(tiny):
    early, late = lab.STG(1, WEAK, stop=0.5), lab.STG(-2, WEAK, start=0.5)
    recording = tiny.sample(lab.CFG(1) + early + late).recording
    assert recording.branches == ["cond", "skip", "guided"]
    for step in range(STEPS):
        c, p, guided = (branch(recording, name, step) for name in ("cond", "skip", "guided"))
        assert torch.equal(guided, c + (1.0 if step < 2 else -2.0) * (c - p))


def test_overlapping_terms_of_one_weak_model_run_it_once(tiny):
    with passes(tiny.pipe) as made:
        run = tiny.sample(lab.CFG(4) + lab.STG(1, WEAK) + lab.STG(1, WEAK), record=False)
    assert len(made) == 3 * STEPS
    assert torch.allclose(run.output.frames, tiny.sample(lab.CFG(4) + lab.STG(2, WEAK)).output.frames, atol=1e-4)


def test_shares_that_name_a_step_exactly_hold_to_it():
    """start=k/n begins with step k and stop=k/n ends before it, whatever the shares are in binary."""
    wrong = [
        f"{k}/{steps}"
        for steps in range(1, 101)
        for k in range(1, steps)
        for begins, ends in [(lab.CFG(2, start=k / steps), lab.CFG(2, stop=k / steps))]
        if [begins.active(Moment(step, steps)) for step in (k - 1, k)] != [False, True]
        or [ends.active(Moment(step, steps)) for step in (k - 1, k)] != [True, False]
    ]
    assert wrong == []


@pytest.mark.parametrize(("share", "steps", "step"), [(0.07, 100, 7), (0.55, 20, 11), (0.28, 25, 7), (0.56, 25, 14)])
def test_shares_typed_as_decimals_hold_to_their_step(share, steps, step):
    assert [lab.CFG(2, start=share).active(Moment(k, steps)) for k in (step - 1, step)] == [False, True]
    assert [lab.CFG(2, stop=share).active(Moment(k, steps)) for k in (step - 1, step)] == [True, False]


@given(st.integers(1, 200), UNIT, UNIT)
def test_windows_that_meet_share_out_every_step(steps, one, other):
    """Step 0 is inside start=0 and the last one inside stop=1; where one window stops the next starts, and no step is lost."""
    low, high = sorted((one, other))
    bounds = [(a, b) for a, b in ((0.0, low), (low, high), (high, 1.0)) if a < b]
    for step in range(steps):
        inside = [lab.CFG(2, start=a, stop=b).inside(Moment(step, steps)) for a, b in bounds]
        assert sum(inside) == 1


# ---- in noise level ----


@pytest.mark.parametrize(
    ("sigma", "inside"),
    [(0.2, False), (0.2001, True), (0.5, True), (0.8, True), (0.8001, False), (0.0, False), (1.0, False)],
)
def test_a_window_in_sigma_is_open_below_and_closed_above(sigma, inside):
    """The guidance interval of Kynkaanniemi et al.: low < sigma <= high."""
    term = lab.STG(1, WEAK, sigma=(0.2, 0.8))
    assert term.active(Moment(0, 4, sigma)) == inside
    assert lab.CFG(4, sigma=(0.2, 0.8)).active(Moment(0, 4, sigma)) == inside


@pytest.mark.parametrize("bound", [0.1, 0.2, 0.3, 0.6, 0.7, 0.9, 14.6, 700.1])
def test_a_bound_typed_as_a_decimal_is_the_schedulers_float32(bound):
    sigma = float(np.float32(bound))
    assert lab.CFG(2, sigma=(0, bound)).inside(Moment(0, 4, sigma))
    assert not lab.CFG(2, sigma=(bound, math.inf)).inside(Moment(0, 4, sigma))


def test_a_window_in_both_is_where_both_are():
    term = lab.STG(1, WEAK, start=0.25, stop=0.75, sigma=(0.4, 0.7))
    acting = [[term.active(Moment(step, 4, sigma)) for sigma in (0.4, 0.5, 0.7, 0.9)] for step in range(4)]
    assert acting == [[False] * 4, [False, True, True, False], [False, True, True, False], [False] * 4]


@pytest.mark.parametrize("term", [lab.CFG(2, sigma=(0.1, 0.5)), lab.STG(1, WEAK, start=0.5, sigma=(0.1, 0.5))], ids=str)
def test_a_window_in_sigma_without_a_known_noise_level_is_refused_at_once(term):
    """At the first step, even where the term would act at a later one; none is taken for one that does not act."""
    guidance, b = lab.CFG(1) + term, {name: np.ones((1, 2)) for name in ("cond", "uncond", "skip")}
    for ask in (term.active, guidance.needed, lambda at: combine(guidance, b, at)):
        with pytest.raises(
            lab.GuidanceError, match=r"window of .* is in sigma, and the noise level of the step is not"
        ):
            ask(Moment(0, 4))


def sigmas(rig):
    return rig.sample(guidance_scale=1.0).recording.ds.sigma.values


@pytest.mark.parametrize(("low", "high"), [(0, 3), (0, 1), (1, 3), (2, 3), (1, 2)])
def test_a_window_in_sigma_decides_which_weak_passes_are_run(tiny, low, high):
    """Both bounds are noise levels at which steps of this very run start: the lower one is out, the higher one in."""
    levels = sorted(sigmas(tiny))
    with passes(tiny.pipe) as made:
        run = tiny.sample(lab.CFG(4) + lab.STG(1, WEAK, sigma=(levels[low], levels[high])))
    assert len(made) == 2 * STEPS + (high - low)
    for step, sigma in enumerate(run.recording.ds.sigma.values):
        c, u, p, guided = (branch(run.recording, name, step) for name in ("cond", "uncond", "skip", "guided"))
        acts = levels[low] < sigma <= levels[high]
        cfg = u + 4.0 * (c - u)
        assert torch.equal(guided, cfg + (c - p) if acts else cfg)
        assert torch.isnan(p).all() == (not acts)


def test_a_window_in_sigma_and_one_in_steps_at_once(tiny):
    levels = sigmas(tiny)
    with passes(tiny.pipe) as made:
        run = tiny.sample(lab.STG(1, WEAK, sigma=(levels[3], levels[1]), stop=0.5))  # steps 1, 2 and steps 0, 1
    assert len(made) == STEPS + 1
    assert not np.isnan(run.recording.prediction("skip").isel(step=1)).any()


def test_cfg_in_a_window_in_sigma_is_cond_outside(tiny):
    levels = sigmas(tiny)
    recording = tiny.sample(lab.CFG(4, sigma=(levels[3], levels[1]))).recording
    for step in range(STEPS):
        c, u, guided = (branch(recording, name, step) for name in ("cond", "uncond", "guided"))
        assert torch.equal(guided, u + 4.0 * (c - u) if step in (1, 2) else c)


# ---- off is off ----


@pytest.mark.parametrize(
    "term",
    [
        lab.STG(0, WEAK),
        lab.STG(0.0, WEAK).apg(),
        lab.STG(0, WEAK).zero_star(2),
        lab.STG([0, 0, 0, 0], WEAK),
        lab.STG(lambda share: 0.0, WEAK),
        lab.STG(1, WEAK, start=0.3, stop=0.4),
        lab.STG(1, WEAK, sigma=(5, 6)),
        lab.STG(1, WEAK, sigma=(0, 1e-6)),
    ],
    ids=str,
)
@pytest.mark.parametrize("scale", [1, 4])
def test_a_term_that_is_off_costs_no_pass_and_leaves_the_stock_bits(tiny, term, scale):
    with passes(tiny.pipe) as made:
        run = tiny.sample(lab.CFG(scale) + term)
    assert len(made) == (STEPS if scale == 1 else 2 * STEPS)
    assert torch.equal(run.output.frames, tiny.stock(guidance_scale=float(scale)))


def test_cfg_of_one_computes_no_unconditional_prediction_whatever_is_put_on_it(tiny):
    for guidance in (lab.CFG(1), lab.CFG(1).apg(momentum=0.5), lab.CFG(1).zero_star(), lab.CFG(1).rescale(0.7)):
        with passes(tiny.pipe) as made:
            run = tiny.sample(guidance)
        assert len(made) == STEPS
        assert torch.equal(run.output.frames, tiny.stock(guidance_scale=1.0))


# ---- probes ----


@pytest.mark.parametrize("scale", [1, 4])
def test_a_probe_runs_its_pass_and_changes_nothing(tiny, scale):
    with passes(tiny.pipe) as made:
        run = tiny.sample(lab.CFG(scale) + lab.Probe(WEAK) + lab.Probe(lab.skip([2]), start=0.5))
    assert len(made) == (1 if scale == 1 else 2) * STEPS + STEPS + STEPS // 2
    assert torch.equal(run.output.frames, tiny.stock(guidance_scale=float(scale)))
    assert not np.isnan(run.recording.prediction("skip:block:1")).any()
    assert np.isnan(run.recording.prediction("skip:block:2")).all(("sample", "channel", "frame", "y", "x")).values.tolist() == [
        True, True, False, False,
    ]  # fmt: skip


def test_a_probe_in_a_window_in_sigma_runs_inside_it_alone(tiny):
    levels = sigmas(tiny)
    with passes(tiny.pipe) as made:
        tiny.sample(lab.CFG(1) + lab.Probe(WEAK, sigma=(levels[3], levels[1])))
    assert len(made) == STEPS + 2


def test_a_probe_beside_an_acting_term_of_its_weak_model_shares_the_pass(tiny):
    with passes(tiny.pipe) as made:
        run = tiny.sample(lab.CFG(4) + lab.STG(1, WEAK, stop=0.5) + lab.Probe(WEAK))
    assert len(made) == 3 * STEPS
    alone = tiny.sample(lab.CFG(4) + lab.STG(1, WEAK, stop=0.5))
    assert torch.equal(run.output.frames, alone.output.frames)
    assert not np.isnan(run.recording.prediction("skip")).any()
