"""Calls that begin part of the way down the scheduler's run: `strength`, in pipelines that start from a video or a picture."""

import inspect
import re
import textwrap
import types
import warnings
import weakref

import numpy as np
import pytest
import torch
from diffusers import (
    CogVideoXVideoToVideoPipeline,
    FlowMatchEulerDiscreteScheduler,
    StableDiffusion3Img2ImgPipeline,
    UniPCMultistepScheduler,
    WanVideoToVideoPipeline,
)
from diffusers.pipelines.wan import pipeline_wan_video2video
from kit.pipelines import FLOW
from kit.trust import attached, tensor
from kit.watch import branch, captured
from kit.zoo import Member, Still, member, picture

import stg_lab as lab
from stg_lab.families import family_of
from stg_lab.families.caller_frame import running
from stg_lab.sampling.ablate import ablate

STEPS, TAKEN = 8, 4
WEAK = lab.skip([1], part="attention")


def cogvideox():
    """Its scheduler counts no steps."""
    one = member("cogvideox")
    pipe = CogVideoXVideoToVideoPipeline(None, None, one.pipe.vae, one.pipe.transformer, one.pipe.scheduler)
    call = {k: v for k, v in one.call.items() if k != "num_frames"}
    return Member(pipe, {**call, "video": [picture(16, 32)] * 9})


def wan(scheduler):
    """Its scheduler is not told where the call begins, and finds out at its first step."""
    one = member("wan-5b")
    parts = {n: one.pipe.components[n] for n in ("tokenizer", "text_encoder", "transformer", "vae")}
    call = {k: v for k, v in one.call.items() if k != "num_frames"}
    return Member(WanVideoToVideoPipeline(**parts, scheduler=scheduler), {**call, "video": [picture(32, 64)] * 9})


def sd3():
    """Its scheduler is told."""
    one = member("sd3")
    pipe = StableDiffusion3Img2ImgPipeline(**one.pipe.components)
    return Still(pipe, {**one.call, "image": picture(16, 24)})


MADE = {
    "cogvideox": cogvideox,
    "wan-euler": lambda: wan(FlowMatchEulerDiscreteScheduler(shift=3.0)),
    "wan-unipc": lambda: wan(UniPCMultistepScheduler(**FLOW)),
    "sd3": sd3,
}


@pytest.fixture(params=MADE)
def one(request, monkeypatch):
    # The pipeline cleans its prompts with ftfy, installed or not.
    monkeypatch.setattr(pipeline_wan_video2video, "ftfy", types.SimpleNamespace(fix_text=str), raising=False)
    made = MADE[request.param]()
    made.pipe.set_progress_bar_config(disable=True)
    made.call |= {"strength": 0.5, "guidance_scale": 3.0, "num_inference_steps": STEPS}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*is of no family that the lab knows")
        lab.describe(made.pipe)  # that it is unknown is told once, and is not what is tested here
        yield made


def taken(one):
    """The timesteps that the pipeline itself says it steps at."""
    seen = []
    one.stock(callback_on_step_end=lambda pipe, i, t, given: seen.append(float(t)) or given)
    return seen


def guided(recording, step, weight=0.0):
    """CFG of scale 3, written down again, where it acts; with a weak model's vector at a weight."""
    c, u = (branch(recording, name, step) for name in ("cond", "uncond"))
    total = u + 3.0 * (c - u)
    return total + weight * (c - branch(recording, "skip", step)) if weight else total


def test_a_finished_recording_is_whole_and_holds_the_steps_that_were_taken(one):
    stock = tensor(one.stock())
    recorded, trace = attached(one)
    assert torch.equal(recorded, stock)
    recording = trace.recording
    assert recording.complete
    assert (recording.steps, recording.planned, recording.settings["steps"]) == (TAKEN, TAKEN, TAKEN)
    assert list(recording.ds.run_step.values) == list(range(TAKEN))
    np.testing.assert_allclose(recording.ds.timestep.values, taken(one), rtol=1e-6)


def test_windows_and_schedules_count_the_steps_that_are_taken(one):
    _, trace = attached(one, lab.CFG(3.0, stop=0.5) + lab.STG([0, 0, 2, 1], WEAK))
    recording = trace.recording
    cond = [branch(recording, "cond", step) for step in range(TAKEN)]
    skip = [branch(recording, "skip", step) for step in range(2, TAKEN)]
    assert torch.equal(branch(recording, "guided", 0), guided(recording, 0))
    assert torch.equal(branch(recording, "guided", 1), guided(recording, 1))
    assert torch.equal(branch(recording, "guided", 2), cond[2] + 2.0 * (cond[2] - skip[0]))
    assert torch.equal(branch(recording, "guided", 3), cond[3] + 1.0 * (cond[3] - skip[1]))
    again = recording.reweight(lab.CFG(3.0, stop=0.5) + lab.STG([0, 0, 2, 1], WEAK))
    np.testing.assert_allclose(again.values, recording.prediction("guided").values, atol=1e-5)
    with pytest.raises(lab.GuidanceError, match=f"3 scales were given for a run of {TAKEN} steps"):
        attached(one, lab.STG([1, 1, 1], WEAK))


def test_x0_is_that_of_the_steps_that_are_taken(one):
    """Rescaled in x0, from the noise levels that the scheduler has at these timesteps."""
    _, trace = attached(one, lab.CFG(3.0).in_x0().rescale(1.0))
    ds, scheduler = trace.recording.ds, one.pipe.scheduler
    for step in range(TAKEN):
        place = [float(t) for t in scheduler.timesteps].index(float(ds.timestep[step]))
        if hasattr(scheduler, "sigmas"):
            a, b = 1.0, -float(scheduler.sigmas[place])
        else:
            alpha = float(scheduler.alphas_cumprod[int(ds.timestep[step])])
            a, b = alpha**0.5, -((1 - alpha) ** 0.5)
        x_t = torch.from_numpy(ds.x_t[step].values)
        x0 = {name: a * x_t + b * branch(trace.recording, name, step) for name in ("cond", "guided")}
        deviation = {name: values.flatten(1).std(1, correction=0) for name, values in x0.items()}
        torch.testing.assert_close(deviation["guided"], deviation["cond"], rtol=1e-4, atol=1e-5)


def test_restart_is_refused_before_the_denoiser_runs(one):
    with (
        captured(one.pipe) as calls,
        pytest.raises(
            lab.GuidanceError, match=r"takes only 4 of the 8 steps of its scheduler.*Leave \.restart\(\.\.\.\) out"
        ),
    ):
        attached(one, lab.CFG(3.0).restart(0.2, 0.5))
    assert len(calls) == 1  # the call that was about to be made


def test_a_plan_has_the_steps_that_are_taken_or_says_that_it_cannot_tell(one):
    if family_of(one.pipe).pipelines:
        planned = lab.plan(one.pipe, lab.CFG(3.0), **{k: v for k, v in one.call.items() if k != "guidance_scale"})
        recording = attached(one)[1].recording
        assert planned.shape == recording.ds.x_t.shape[1:]
        np.testing.assert_allclose([step.sigma for step in planned.steps], recording.ds.sigma.values, rtol=1e-6)
        return
    with pytest.raises(lab.CallError, match=r"of no family that the lab knows.*num_inference_steps=2"):
        lab.plan(one.pipe, lab.CFG(3.0), **{k: v for k, v in one.call.items() if k != "guidance_scale"})


def test_a_step_that_the_call_does_not_take_is_told_at_once():
    one = cogvideox()
    one.pipe.set_progress_bar_config(disable=True)
    call = {**one.arguments({}), "strength": 0.5, "num_inference_steps": STEPS}
    with (
        pytest.raises(lab.CallError, match=r"step 5 is out of range: the run has steps 0 to 3"),
    ):
        ablate(one.pipe, step=5, **call)


def hidden():
    """The stock pipeline, but for the name of the variable that its call has its timesteps in."""
    source = textwrap.dedent(inspect.getsource(CogVideoXVideoToVideoPipeline.__call__))
    names = vars(inspect.getmodule(CogVideoXVideoToVideoPipeline)).copy()
    exec("from __future__ import annotations\n" + re.sub(r"\btimesteps\b", "moments", source), names)
    return type("Hidden", (CogVideoXVideoToVideoPipeline,), {"__call__": names["__call__"]})


def test_a_pipeline_that_does_not_say_where_it_begins_is_recorded_only():
    one = cogvideox()
    one.pipe.__class__ = hidden()
    one.pipe.set_progress_bar_config(disable=True)
    one.call |= {"strength": 0.5, "num_inference_steps": STEPS, "guidance_scale": 3.0}
    recorded, trace = attached(one)
    assert trace.recording.complete
    assert trace.recording.steps == TAKEN
    assert torch.equal(recorded, tensor(one.stock()))
    with pytest.raises(lab.GuidanceError, match=r"Hidden begins at step 4 of the 8 .*Record only: guidance=None"):
        attached(one, lab.CFG(3.0, stop=0.5))


def test_looking_into_a_running_call_keeps_nothing_of_it():
    class Calling:
        def __call__(self):
            latents, timesteps = torch.zeros(3), [2, 1]
            kept = weakref.ref(latents)
            assert running(self, "timesteps") == {"timesteps": [2, 1]}
            assert latents is kept()
            del latents
            return kept() is None, timesteps

    assert Calling()() == (True, [2, 1])
