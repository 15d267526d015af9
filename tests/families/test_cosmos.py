"""Cosmos: two scheduler calls a step, CFG in x0 with a scale that counts otherwise, a guardrail."""

import functools
import inspect

import numpy as np
import pytest
import torch
from kit.trust import attached
from kit.watch import branch, left_behind
from kit.zoo import STEPS, member

import stg_lab as lab

WEAK = lab.skip([1])


@pytest.fixture
def one():
    return member("cosmos")


def sampled(one, guidance=None, **call):
    return lab.sample(one.pipe, guidance=guidance, **one.arguments(call))


def steps_made(one, guidance):
    """The arguments of every real `scheduler.step` of a call."""
    made, step = [], type(one.pipe.scheduler).step

    @functools.wraps(step)
    def keep(self, *args, **kwargs):
        made.append(inspect.signature(step).bind(self, *args, **kwargs).arguments)
        return step(self, *args, **kwargs)

    scheduler = type(one.pipe.scheduler)
    scheduler.step = keep
    try:
        with lab.attach(one.pipe, guidance=guidance, record=True) as trace:
            one.stock()
    finally:
        scheduler.step = step
    return made, trace.recording


def test_predictions_are_x0_and_only_the_call_that_takes_the_step_is_guided(one):
    made, recording = steps_made(one, lab.STG(1.5, WEAK))
    assert len(made) == 2 * STEPS
    for step in range(STEPS):
        first, second = made[2 * step : 2 * step + 2]
        x0 = [branch(recording, name, step) for name in ("uncond", "cond")]
        assert first.get("pred_original_sample") is None
        sigma = torch.tensor(float(recording.ds.sigma[step]), dtype=torch.float32)
        both = one.pipe.scheduler.precondition_outputs(first["sample"], first["model_output"], sigma)
        assert torch.equal(both, torch.cat(x0))
        guided = branch(recording, "guided", step)
        assert torch.equal(second["model_output"], guided)
        assert torch.equal(second["pred_original_sample"], guided)
        assert torch.equal(recording_x0(recording, "cond", step), x0[1])


def recording_x0(recording, name, step):
    return torch.from_numpy(recording.x0(name).isel(step=step).values)


def test_a_cfg_scale_is_one_more_than_the_pipelines_own_number(one):
    stock = one.stock(guidance_scale=4.0)
    run = sampled(one, lab.CFG(5))
    assert run.call["guidance_scale"] == 4.0
    assert torch.equal(run.output.frames, stock)
    c, u, g = (branch(run.recording, name, 0) for name in ("cond", "uncond", "guided"))
    assert torch.allclose(g, u + 5 * (c - u), atol=1e-4)
    assert run.recording.settings["guidance_scale"] == 5
    assert np.array_equal(run.baseline.output.frames.numpy(), stock.numpy())


def test_a_sum_without_cfg_turns_it_off_and_its_baseline_is_the_conditional_prediction(one):
    run = sampled(one, lab.STG(1.0, WEAK))
    assert "uncond" not in run.recording.branches
    assert torch.equal(run.baseline.output.frames, one.stock(guidance_scale=1.0))
    run = sampled(one, lab.STG(1.0, WEAK), guidance_scale=4.0)
    assert torch.equal(run.baseline.output.frames, one.stock(guidance_scale=4.0))


@pytest.mark.parametrize("scale", [1.5, 2.0])
def test_scales_that_the_pipeline_cannot_have_are_refused(one, scale):
    with pytest.raises(lab.GuidanceError, match=r"know no CFG\(.*above 1\. Type a CFG scale above 2, or 1 for none"):
        sampled(one, lab.CFG(scale))


def test_two_scales_that_disagree_are_told_in_the_pipelines_own_number(one):
    with pytest.raises(lab.GuidanceError, match=r"guidance_scale=5 and CFG\(5\) disagree"):
        sampled(one, lab.CFG(5), guidance_scale=5.0)
    assert sampled(one, lab.CFG(5), guidance_scale=4.0).call["guidance_scale"] == 4.0
    with pytest.raises(lab.GuidanceError, match=r"CFG\(5\).*guidance_scale \+ 1=8.*Call it with guidance_scale=4"):
        attached(one, lab.CFG(5) + lab.STG(1, WEAK))
    with pytest.raises(lab.GuidanceError, match=r"Add lab.CFG\(scale\) with a scale above 2"):
        attached(one, lab.STG(1, WEAK, reference="uncond"), guidance_scale=1.0)
    assert left_behind(one.pipe) == []


def test_cfgpp_takes_its_noise_from_the_unconditional_prediction(one):
    with pytest.raises(lab.GuidanceError, match="step 2 ends at the noise level it starts at"):
        sampled(one, lab.CFGpp(0.6))
    _, trace = attached(one, lab.CFGpp(0.6, stop=0.6))
    ds = trace.recording.ds
    for step in range(STEPS - 1):
        now, after = float(ds.sigma[step]), float(ds.sigma[step + 1])
        x, (c, u) = (
            torch.from_numpy(ds.x_t[step].values),
            (branch(trace.recording, n, step) for n in ("cond", "uncond")),
        )
        expected = u + 0.6 * (c - u) + after * (x - u) / now
        assert torch.allclose(torch.from_numpy(ds.x_t[step + 1].values), expected, rtol=1e-4, atol=1e-4)


def test_what_the_guardrail_refuses_is_not_decoded(one):
    run = sampled(one)
    one.pipe.safety_checker.check_video_safety = lambda frames: None
    with pytest.raises(lab.CallError, match="the Cosmos guardrail has refused a video"):
        lab.decode(one.pipe, run.recording.ds.final)
    one.pipe.safety_checker.check_video_safety = lambda frames: 0 * frames
    assert not lab.decode(one.pipe, run.recording.ds.final).any()
