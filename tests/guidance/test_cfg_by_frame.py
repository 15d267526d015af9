"""SVD has a CFG scale for each frame, rising to the call's: rules, schedules and windows on CFG leave them what they are."""

import numpy as np
import pytest
import torch
from kit.trust import tensor
from kit.watch import branch
from kit.zoo import STEPS, member

import stg_lab as lab

FRAMES = 3


@pytest.fixture(scope="module")
def svd():
    return member("svd")


def sampled(svd, guidance, **call):
    call = {k: v for k, v in svd.arguments(call).items() if k != "max_guidance_scale"}
    return lab.sample(svd.pipe, guidance=guidance, seed=0, **call)


def rising(scale, low=1.0):
    """The pipeline's own scales, as recordings have their frames."""
    return torch.linspace(low, scale, FRAMES)[None, None, :, None, None]


def close(run, other):
    torch.testing.assert_close(tensor(run.output.frames), tensor(other), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("low", [1.0, 2.0])
@pytest.mark.parametrize(
    "same",
    [lab.CFG([3.0] * STEPS), lab.CFG(lambda share: 3), lab.CFG(3.0).apg(eta=1), lab.CFG(2.0) + lab.CFG(2.0).apg(eta=1)],
    ids=str,
)
def test_what_changes_nothing_gives_the_stock_videos(svd, same, low):
    stock = svd.stock(seed=0, max_guidance_scale=3.0, min_guidance_scale=low)
    run = sampled(svd, same, min_guidance_scale=low)
    close(run, stock)
    if not any(term.rules for term in run.guidance.terms):
        assert torch.equal(run.output.frames, stock)
    again = run.recording.reweight(same)
    np.testing.assert_allclose(again.values, run.recording.prediction("guided").values, rtol=1e-5, atol=1e-5)


def test_a_schedule_is_of_the_last_frames_scale(svd):
    scales = [2.0, 1.0, 4.0]
    recording = sampled(svd, lab.CFG(scales), min_guidance_scale=1.5).recording
    for step, scale in enumerate(scales):
        c, u, guided = (branch(recording, name, step) for name in ("cond", "uncond", "guided"))
        expected = c if scale == 1 else u + rising(scale, 1.5) * (c - u)
        torch.testing.assert_close(guided, expected, rtol=1e-6, atol=1e-6)


def test_a_window_ends_the_scales_of_all_frames(svd):
    recording = sampled(svd, lab.CFG(3.0, stop=0.5)).recording
    for step in range(STEPS):
        c, u, guided = (branch(recording, name, step) for name in ("cond", "uncond", "guided"))
        assert torch.equal(guided, u + rising(3.0) * (c - u) if step < 2 else c)


def test_a_rule_sees_the_vector_and_the_scales_come_after(svd):
    recording = sampled(svd, lab.CFG(3.0).apg(eta=0.0)).recording
    c, u, guided = (branch(recording, name, 0).double() for name in ("cond", "uncond", "guided"))
    along = ((c - u) * c).sum() / (c * c).sum() * c
    torch.testing.assert_close(guided, c + (rising(3.0).double() - 1) * ((c - u) - along), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "guidance",
    [
        lab.CFG(3.0) + lab.STG(1.5, lab.skip([1])),
        lab.CFG([3.0, 2.0, 5.0]) + lab.STG(1.5, lab.skip([1]), reference="cfg"),
        (lab.CFG(3.0).apg(eta=0.3) + lab.CFG(2.0, start=0.5)).rescale(0.5),
        lab.CFG(3.0).zero_star(),
        lab.CFGpp(0.6),
    ],
    ids=str,
)
def test_a_recording_reweights_to_what_was_stepped_with(svd, guidance):
    recording = sampled(svd, guidance).recording
    ours, live = recording.reweight(guidance).values, recording.prediction("guided").values
    np.testing.assert_allclose(ours, live, rtol=1e-4, atol=1e-4)


def test_another_scale_reweights_to_what_it_would_have_stepped_with(svd):
    first = sampled(svd, lab.CFG(3.0)).recording.reweight(lab.CFG(5.0)).isel(step=0)
    live = sampled(svd, lab.CFG(5.0)).recording.prediction("guided").isel(step=0)
    np.testing.assert_allclose(first.values, live.values, rtol=1e-5, atol=1e-5)


def test_a_first_frame_above_the_last_is_no_other_scale(svd):
    stock = svd.stock(seed=0, max_guidance_scale=2.0, min_guidance_scale=4.0)
    assert torch.equal(sampled(svd, lab.CFG(2.0), min_guidance_scale=4.0).output.frames, stock)
