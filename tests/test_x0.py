"""One-step predictions: closed forms, and what a recording says of them."""

import math

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)
from kit.pipelines import FLOW

import stg_lab as lab
from stg_lab.errors import LabError
from stg_lab.families.noise import noise_level
from stg_lab.x0 import PREDICTION_TYPES, one_step

RNG = np.random.default_rng(0)
X0, EPS = RNG.standard_normal((2, 4, 3, 5)), RNG.standard_normal((2, 4, 3, 5))


def noised(kind: str, level: float) -> tuple[np.ndarray, np.ndarray]:
    """x_t and the ideal model's output at a noise level, from the definitions of the processes."""
    s, a = level, level
    if kind == "flow":
        return (1 - s) * X0 + s * EPS, EPS - X0
    if kind == "flow_reversed":
        return s * X0 + (1 - s) * EPS, X0 - EPS
    if kind == "epsilon":
        return math.sqrt(a) * X0 + math.sqrt(1 - a) * EPS, EPS
    if kind == "v_prediction":
        return math.sqrt(a) * X0 + math.sqrt(1 - a) * EPS, math.sqrt(a) * EPS - math.sqrt(1 - a) * X0
    if kind == "epsilon_sigma":
        return X0 + s * EPS, EPS
    if kind == "v_prediction_sigma":  # v of the variance-preserving process whose signal is 1 / sqrt(sigma^2 + 1)
        signal, noise = 1 / math.sqrt(s * s + 1), s / math.sqrt(s * s + 1)
        return X0 + s * EPS, signal * EPS - noise * X0
    assert kind == "sample"
    return X0 + s * EPS, X0


@pytest.mark.parametrize("level", [0.01, 0.3, 0.999])
@pytest.mark.parametrize("kind", PREDICTION_TYPES)
def test_x0_is_recovered_from_a_perfect_prediction(kind, level):
    x_t, output = noised(kind, level)
    named = {"alpha": level} if kind in ("epsilon", "v_prediction") else {"sigma": level}
    assert np.allclose(one_step(kind, **named)(x_t, output), X0, atol=1e-9)


def test_x0_holds_for_torch_and_large_noise():
    x_t, output = noised("v_prediction_sigma", 80.0)
    step = one_step("v_prediction_sigma", sigma=80.0)
    assert torch.allclose(step(torch.from_numpy(x_t), torch.from_numpy(output)), torch.from_numpy(X0), atol=1e-9)


def test_v_prediction_without_any_signal_left_is_finite():
    """Zero terminal SNR: x0 = -v, and nothing is divided by sqrt(alpha) = 0."""
    assert np.array_equal(one_step("v_prediction", alpha=0.0)(EPS, -X0), X0)


def test_an_unknown_prediction_type_is_named_with_a_hint():
    with pytest.raises(lab.GuidanceError, match=r"'flwo' is unknown. Did you mean 'flow'\?.*Known: flow"):
        one_step("flwo", sigma=0.5)


@pytest.mark.parametrize("kind", [k for k in PREDICTION_TYPES if k != "sample"])
def test_a_missing_noise_level_is_named(kind):
    with pytest.raises(
        lab.GuidanceError, match="needs alpha=" if kind in ("epsilon", "v_prediction") else "needs sigma="
    ):
        one_step(kind)


@pytest.mark.parametrize(
    "scheduler",
    [
        FlowMatchEulerDiscreteScheduler(shift=3.0),
        FlowMatchEulerDiscreteScheduler(invert_sigmas=True),
        UniPCMultistepScheduler(**FLOW),
        DPMSolverMultistepScheduler(**FLOW),
    ],
    ids=["euler", "euler-inverted", "unipc", "dpm"],
)
@pytest.mark.parametrize("begin", [True, False])
def test_the_noise_level_is_read_before_the_step_it_belongs_to(scheduler, begin):
    """With or without `set_begin_index`, and at every step after the first."""
    scheduler.set_timesteps(4)
    if begin:
        scheduler.set_begin_index(0)
    else:
        scheduler._begin_index = None
    x = torch.from_numpy(EPS)
    for k, t in enumerate(scheduler.timesteps):
        level = noise_level(scheduler, t)
        sigma = float(scheduler.sigmas[k])
        assert (level.sigma, level.timestep) == (sigma, float(t))
        kind = "flow_reversed" if scheduler.config.get("invert_sigmas") else "flow"
        x_t, output = noised(kind, sigma)
        assert np.allclose(level.one_step(x_t, output), X0)
        x = scheduler.step(torch.zeros_like(x), t, x).prev_sample


def test_an_ideal_model_is_sampled_to_its_x0():
    """Euler with the exact velocity lands on x0: the process that the formula assumes is the scheduler's own."""
    for inverted in (False, True):
        scheduler = FlowMatchEulerDiscreteScheduler(invert_sigmas=inverted)
        scheduler.set_timesteps(5)
        x = torch.from_numpy(noised("flow_reversed" if inverted else "flow", float(scheduler.sigmas[0]))[0])
        for t in scheduler.timesteps:
            v = torch.from_numpy(X0 - EPS if inverted else EPS - X0)
            assert torch.allclose(noise_level(scheduler, t).one_step(x, v), torch.from_numpy(X0), atol=1e-5)
            x = scheduler.step(v, t, x).prev_sample
        assert torch.allclose(x, torch.from_numpy(X0), atol=1e-5)


@pytest.mark.parametrize(
    "scheduler",
    [DDIMScheduler(), EulerDiscreteScheduler(), UniPCMultistepScheduler(prediction_type="v_prediction")],
    ids=lambda s: type(s).__name__,
)
def test_an_unknown_scheduler_is_named(scheduler):
    scheduler.set_timesteps(3)
    with pytest.raises(LabError, match=rf"{type(scheduler).__name__} \(prediction_type=.*Known: FlowMatchEuler"):
        noise_level(scheduler, scheduler.timesteps[0])


def test_x0_in_a_recording_is_x_t_minus_sigma_v(small_and_trained):
    rec = small_and_trained.sample(lab.CFG(4) + lab.STG(1, lab.skip([1]))).recording
    sigma = rec.ds.sigma.values.astype(np.float32)[:, None, None, None, None, None]
    for name in rec.branches:
        expected = rec.ds.x_t.values - sigma * rec.prediction(name).values
        assert np.array_equal(rec.x0(name).values, expected)


def test_the_last_x0_of_the_guided_prediction_is_the_final_sample(small_and_trained):
    run = small_and_trained.sample(lab.CFG(4) + lab.STG(1, lab.skip([1])))
    last = run.recording.x0("guided").isel(step=-1).values
    assert np.array_equal(last, run.output.frames.numpy())
    assert np.array_equal(run.recording.ds.final.values, run.output.frames.numpy())
