"""One-step predictions: closed forms, and what a recording says of them."""

import math

import numpy as np
import pytest
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LMSDiscreteScheduler,
    UniPCMultistepScheduler,
)
from hypothesis import given
from hypothesis import strategies as st
from kit.pipelines import FLOW
from kit.vectors import UNIT

import stg_lab as lab
from stg_lab.errors import LabError
from stg_lab.families.noise import noise_level
from stg_lab.guidance import Restart
from stg_lab.x0 import PREDICTION_TYPES, noise_up, one_step, process, renoise_weight

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
    assert kind in ("sample", "sample_sigma")
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


# ---- the forward process, and back up in it ----

KINDS = [kind for kind in PREDICTION_TYPES if kind != "sample"]
# Noise levels of each process, the less noisy first.
PAIRS = {
    "flow": ({"sigma": 0.2}, {"sigma": 0.7}),
    "flow_reversed": ({"sigma": 0.8}, {"sigma": 0.3}),
    "epsilon": ({"alpha": 0.9}, {"alpha": 0.2}),
    "v_prediction": ({"alpha": 0.9}, {"alpha": 0.0}),
    "epsilon_sigma": ({"sigma": 0.5}, {"sigma": 14.0}),
    "v_prediction_sigma": ({"sigma": 0.02}, {"sigma": 700.0}),
    "sample_sigma": ({"sigma": 0.5}, {"sigma": 14.0}),
}
SHARES = UNIT.map(lambda share: 0.01 + 0.98 * share)


def at(kind, share):
    """(A, B) when a share of the noise is there; written here by the definitions of the processes."""
    if kind.startswith("flow"):
        return 1 - share, share
    return (1.0, share * 80) if kind.endswith("sigma") else (math.sqrt(1 - share), math.sqrt(share))


@pytest.mark.parametrize("level", [0.01, 0.3, 0.999])
@pytest.mark.parametrize("kind", KINDS)
def test_the_process_is_what_makes_the_noisy_sample(kind, level):
    named = {"alpha": level} if kind in ("epsilon", "v_prediction") else {"sigma": level}
    signal, noise = process(kind, **named)
    assert np.allclose(signal * X0 + noise * EPS, noised(kind, level)[0], atol=1e-12)


def test_the_process_of_a_model_that_predicts_x0_is_left_open():
    assert all(math.isnan(x) for x in process("sample", sigma=0.5))


@pytest.mark.parametrize("kind", KINDS)
def test_noising_up_reaches_the_marginal_of_the_higher_level(kind):
    """x_high = s (A x0 + B eps) + n eps' has the signal s A and the variance (s B)^2 + n^2."""
    (a, b), (a1, b1) = (process(kind, **level) for level in PAIRS[kind])
    signal, noise = noise_up((a, b), (a1, b1))
    assert signal * a == pytest.approx(a1)
    assert (signal * b) ** 2 + noise**2 == pytest.approx(b1**2)


@pytest.mark.parametrize("kind", KINDS)
@given(shares=st.tuples(SHARES, SHARES, SHARES).map(sorted))
def test_noising_up_twice_is_noising_up_once(kind, shares):
    low, middle, high = (at(kind, share) for share in shares)
    (s1, n1), (s2, n2), (s, n) = noise_up(low, middle), noise_up(middle, high), noise_up(low, high)
    assert s1 * s2 == pytest.approx(s, rel=1e-9)
    assert math.hypot(s2 * n1, n2) == pytest.approx(n, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_noised_up_samples_have_the_statistics_of_the_higher_level(kind):
    rng = np.random.default_rng(1)
    x0, eps, fresh = rng.standard_normal((3, 200_000))
    low, high = (process(kind, **level) for level in PAIRS[kind])
    signal, noise = noise_up(low, high)
    x = signal * (low[0] * x0 + low[1] * eps) + noise * fresh
    assert np.cov(x, x0)[0, 1] == pytest.approx(high[0], abs=0.02 * math.hypot(*high))
    assert x.std() == pytest.approx(math.hypot(*high), rel=0.02)


def test_noising_up_within_a_level_is_nothing_and_down_is_refused():
    for kind in KINDS:
        low, high = (process(kind, **level) for level in PAIRS[kind])
        assert noise_up(low, low) == pytest.approx((1.0, 0.0), abs=1e-7)
        assert noise_up(at(kind, 0.0), low) == pytest.approx(low)
        with pytest.raises(lab.GuidanceError, match="from a low level to a higher one"):
            noise_up(high, low)
    with pytest.raises(lab.GuidanceError, match="from a low level to a higher one"):
        noise_up((0.0, 1.0), (0.0, 1.0))


@pytest.mark.parametrize("kind", KINDS)
def test_the_renoise_weight_solves_its_equation(kind):
    """Moving the prediction by w d moves A' x0 + B' eps exactly as moving it by d moves A' x0 alone."""
    (a1, b1), (a, b) = (process(kind, **level) for level in PAIRS[kind])
    step = one_step(kind, **PAIRS[kind][1])
    by_x0 = a1 * step.prediction
    if a:  # eps = (x_t - A x0) / B
        by_both = a1 * step.prediction - b1 * a / b * step.prediction
        assert renoise_weight((a, b), (a1, b1)) * by_both == pytest.approx(by_x0)
    else:  # pure noise: eps is x_t itself
        assert renoise_weight((a, b), (a1, b1)) == 1


@given(st.lists(st.floats(0.001, 1), min_size=2, max_size=30, unique=True), st.tuples(SHARES, SHARES).map(sorted))
def test_restart_takes_the_nearest_steps_of_the_run(times, bounds):
    times = sorted(times, reverse=True)
    low, high = bounds
    if low == high:
        return
    restart = Restart(low, high)
    nearest = [np.abs(np.array(times) - t).argmin() for t in (high, low)]
    if nearest[0] == nearest[1]:
        with pytest.raises(lab.GuidanceError, match=r"holds no step of this run, whose steps start at \d"):
            restart.interval(times)
    else:
        assert restart.interval(times) == tuple(nearest)


def test_restart_between_two_steps_names_the_steps_of_the_run():
    assert Restart(0.2, 0.61).interval([1.0, 0.8, 0.6, 0.4, 0.2]) == (2, 4)
    with pytest.raises(
        lab.GuidanceError, match=r"t=0.41 and t=0.45 holds no step.*start at 1.000, 0.800, 0.600, 0.400"
    ):
        Restart(0.41, 0.45).interval([1.0, 0.8, 0.6, 0.4])


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
    [HeunDiscreteScheduler(), LMSDiscreteScheduler(), UniPCMultistepScheduler(prediction_type="v_prediction")],
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
