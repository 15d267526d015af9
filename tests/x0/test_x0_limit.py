"""Schedulers that limit x0 before they step on: what the lab calls x0 is the model's own, and says so."""

import warnings

import numpy as np
import pytest
import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    UniPCMultistepScheduler,
)
from kit.pipelines import FLOW
from kit.zoo import member

import stg_lab as lab
from stg_lab.families.noise import noise_level
from stg_lab.x0 import limit_of

LIMITS = {
    "none": {"clip_sample": False},
    "clip": {},  # the default
    "clip further out": {"clip_sample_range": 2.5},
    "thresholding": {"clip_sample": False, "thresholding": True},
    "thresholding goes before clipping": {"thresholding": True, "dynamic_thresholding_ratio": 0.8},
}
TYPES = ("epsilon", "v_prediction", "sample")


def limited(scheduler, x0):
    """What diffusers says that a scheduler does to x0."""
    if scheduler.config.thresholding:
        return scheduler._threshold_sample(x0)
    end = scheduler.config.clip_sample_range
    return x0.clamp(-end, end) if scheduler.config.clip_sample else x0


def steps(scheduler):
    """(x0 as the lab has it, x0 as the scheduler has it) at each step."""
    scheduler.set_timesteps(6)
    generator = torch.Generator().manual_seed(0)
    x, prediction = torch.randn(2, 2, 4, 3, 4, 4, generator=generator) * 1.5
    for t in scheduler.timesteps:
        mine = noise_level(scheduler, t).one_step(x, prediction)
        yield mine, scheduler.step(prediction, t, x).pred_original_sample


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("cls", [DDIMScheduler, DDPMScheduler])
def test_x0_is_the_stock_schedulers_own_before_its_limit(cls, limit, kind):
    scheduler = cls(prediction_type=kind, **LIMITS[limit])
    said = limit_of(cls.__name__, scheduler.config)
    beyond = False
    for mine, theirs in steps(scheduler):
        assert torch.allclose(limited(scheduler, mine), theirs, rtol=1e-4, atol=1e-5)
        beyond |= not torch.allclose(mine, theirs, rtol=1e-4, atol=1e-5)
    assert beyond == bool(said) == (limit != "none")
    assert said.startswith("thresholding" if "thresholding" in limit else "clip_sample" if said else "")


@pytest.mark.parametrize("cls", [CogVideoXDDIMScheduler, CogVideoXDPMScheduler])
def test_a_setting_that_does_nothing_is_not_called_a_limit(cls):
    scheduler = cls(prediction_type="v_prediction")
    assert scheduler.config.clip_sample
    assert limit_of(cls.__name__, scheduler.config) == ""
    scheduler.set_timesteps(6)
    x, prediction = torch.randn(2, 1, 3, 4, 4, 4, generator=torch.Generator().manual_seed(0)) * 3
    t = scheduler.timesteps[2]
    before = () if cls is CogVideoXDDIMScheduler else (None,)
    after = () if cls is CogVideoXDDIMScheduler else (scheduler.timesteps[1],)
    order = (prediction, *before, t, *after, x)
    theirs = scheduler.step(*order, return_dict=False)[1] if before else scheduler.step(*order).pred_original_sample
    assert torch.allclose(noise_level(scheduler, t).one_step(x, prediction), theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("thresholding", [False, True])
@pytest.mark.parametrize("cls", [UniPCMultistepScheduler, DPMSolverMultistepScheduler])
def test_multistep_schedulers_limit_x0_by_thresholding_alone(cls, thresholding):
    scheduler = cls(**FLOW, thresholding=thresholding)
    scheduler.set_timesteps(4)
    x, prediction = torch.randn(2, 1, 3, 4, 4, 4, generator=torch.Generator().manual_seed(0)) * 3
    mine = noise_level(scheduler, scheduler.timesteps[0]).one_step(x, prediction)
    scheduler._init_step_index(scheduler.timesteps[0])
    theirs = scheduler.convert_model_output(prediction, sample=x)
    assert bool(limit_of(cls.__name__, scheduler.config)) == thresholding
    expected = scheduler._threshold_sample(mine) if thresholding else mine
    assert torch.allclose(expected, theirs, rtol=1e-4, atol=1e-5)
    assert torch.allclose(mine, theirs, rtol=1e-4, atol=1e-5) != thresholding


# ---- runs ----


def clipping(**settings):
    one = member("latte")
    one.pipe.scheduler = DDIMScheduler.from_config(one.pipe.scheduler.config, clip_sample=True, **settings)
    return one


def test_a_run_that_keeps_x0_tells_it_once_and_its_recording_says_so_for_good(tmp_path):
    one = clipping(clip_sample_range=0.5)
    with pytest.warns(
        UserWarning, match=r"DDIMScheduler limits x0 in its own step \(clip_sample=True: to \[-0.5"
    ) as told:
        run = one.sample(lab.CFG(3.0), seed=0, record=tmp_path / "run.zarr")
    assert len(told) == 1
    assert "from_config(pipe.scheduler.config, clip_sample=False)" in str(told[0].message)
    recording = lab.open(tmp_path / "run.zarr")
    assert recording.x0_limit == "clip_sample=True: to [-0.5, 0.5]"
    x0 = recording.x0("guided")
    assert x0.attrs == {"limited_by_the_scheduler": recording.x0_limit}
    assert recording.x0_limit in recording._repr_html_()
    last = x0.isel(step=-1).values  # DDIM's last step ends at x0
    assert np.abs(last).max() > 0.5
    assert np.allclose(last.clip(-0.5, 0.5), recording.ds.final.values, atol=1e-5)
    assert run.recording.complete


def test_what_is_advised_makes_the_recorded_x0_the_schedulers_own():
    one = clipping()
    one.pipe.scheduler = type(one.pipe.scheduler).from_config(one.pipe.scheduler.config, clip_sample=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        recording = one.sample(lab.CFG(3.0), seed=0).recording
    assert recording.x0_limit == ""
    x0 = recording.x0("guided")
    assert not x0.attrs
    assert np.allclose(x0.isel(step=-1).values, recording.ds.final.values, atol=1e-5)


def test_sampling_that_needs_no_x0_goes_on_as_ever():
    one = clipping()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        guided = one.sample(lab.CFG(3.0) + lab.STG(1, lab.skip([1])), seed=0, record=False)
        one.sample((lab.CFG(3.0) + lab.STG(1, lab.skip([1]))).restart(0.3, 0.9), seed=0, record=False)
    assert np.isfinite(np.asarray(guided.video)).all()
    with pytest.warns(UserWarning, match="limits x0"):
        one.sample(lab.CFG(3.0).rescale(0.7).in_x0(), seed=0, record=False)
