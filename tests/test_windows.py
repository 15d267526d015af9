"""Terms with a window act inside it alone, and outside it their passes are not even run."""

import numpy as np
import pytest
import torch
from kit.watch import branch, passes

import stg_lab as lab

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
        if [begins.active(k - 1, steps), begins.active(k, steps)] != [False, True]
        or [ends.active(k - 1, steps), ends.active(k, steps)] != [True, False]
    ]
    assert wrong == []


@pytest.mark.parametrize(("share", "steps", "step"), [(0.07, 100, 7), (0.55, 20, 11), (0.28, 25, 7), (0.56, 25, 14)])
def test_shares_typed_as_decimals_hold_to_their_step(share, steps, step):
    assert lab.CFG(2, start=share).active(step, steps)
    assert not lab.CFG(2, stop=share).active(step, steps)
