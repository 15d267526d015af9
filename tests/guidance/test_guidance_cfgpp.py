"""CFG++ against its own algorithm written out: x0 from the guided prediction, the noise from the unconditional one."""

import math

import numpy as np
import pytest
import torch
from diffusers import CogVideoXDDIMScheduler, DDIMScheduler, EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler
from hypothesis import given
from hypothesis import strategies as st
from kit.pipelines import SMALL, Rig, tiny_wan
from kit.vectors import UNIT, branches
from kit.watch import branch, captured, passes
from kit.zoo import member

import stg_lab as lab
from stg_lab.families.noise import level_at, noise_level
from stg_lab.guidance import Moment, as_guidance, combine
from stg_lab.x0 import renoise_weight

WEAK = lab.skip([1])
CUX = branches("cond", "uncond", "x_t")


def one_prediction(b, strength, weight):
    """What the lab hands to the sampler in place of the two predictions."""
    return combine(as_guidance(lab.CFGpp(strength)), b, Moment(0, 1, next_weight=weight))


def flow(b, strength, sigma, after):
    """x' = (1 - sigma') x0(guided) + sigma' eps(uncond), and the plain Euler step of one prediction."""
    c, u, x_t = b["cond"], b["uncond"], b["x_t"]
    x0 = x_t - sigma * (u + strength * (c - u))
    eps = x_t + (1 - sigma) * u
    weight = renoise_weight((1 - sigma, sigma), (1 - after, after))
    return (1 - after) * x0 + after * eps, x_t + (after - sigma) * one_prediction(b, strength, weight)


def ddim_epsilon(b, strength, alpha, after):
    c, u, x_t = b["cond"], b["uncond"], b["x_t"]

    def x0(eps):
        return (x_t - math.sqrt(1 - alpha) * eps) / math.sqrt(alpha)

    one = one_prediction(b, strength, renoise_weight(*((math.sqrt(a), math.sqrt(1 - a)) for a in (alpha, after))))
    written_out = math.sqrt(after) * x0(u + strength * (c - u)) + math.sqrt(1 - after) * u
    return written_out, math.sqrt(after) * x0(one) + math.sqrt(1 - after) * one


def ddim_v(b, strength, alpha, after):
    c, u, x_t = b["cond"], b["uncond"], b["x_t"]

    def x0(v):
        return math.sqrt(alpha) * x_t - math.sqrt(1 - alpha) * v

    def eps(v):
        return math.sqrt(alpha) * v + math.sqrt(1 - alpha) * x_t

    one = one_prediction(b, strength, renoise_weight(*((math.sqrt(a), math.sqrt(1 - a)) for a in (alpha, after))))
    written_out = math.sqrt(after) * x0(u + strength * (c - u)) + math.sqrt(1 - after) * eps(u)
    return written_out, math.sqrt(after) * x0(one) + math.sqrt(1 - after) * eps(one)


def euler_sigma(b, strength, sigma, after):
    """Variance exploding: x' = x0 + sigma' eps."""
    c, u, x_t = b["cond"], b["uncond"], b["x_t"]
    one = one_prediction(b, strength, renoise_weight((1.0, sigma), (1.0, after)))
    return x_t - sigma * (u + strength * (c - u)) + after * u, x_t + (after - sigma) * one


@pytest.mark.parametrize("step", [flow, ddim_epsilon, ddim_v, euler_sigma])
@given(b=CUX, strength=UNIT, low=st.floats(0.02, 0.6), apart=st.floats(0.05, 0.3))
def test_one_prediction_steps_where_the_two_would(step, b, strength, low, apart):
    noisy_first = (low + apart, low) if step in (flow, euler_sigma) else (low, low + apart)
    written_out, ours = step(b, strength, *noisy_first)
    assert np.allclose(written_out, ours, rtol=1e-8, atol=1e-8)


@given(CUX, UNIT, st.floats(0.05, 0.95))
def test_the_last_step_is_plain_interpolation(b, strength, sigma):
    """All noise is taken away, so no noise is put back: CFG++ is CFG with the scale lambda."""
    written_out, ours = flow(b, strength, sigma, 0.0)
    assert np.allclose(written_out, ours)
    assert renoise_weight((1 - sigma, sigma), (1.0, 0.0)) == pytest.approx(1)


@pytest.mark.parametrize("to_one", [True, False])
@pytest.mark.parametrize("kind", [DDIMScheduler, CogVideoXDDIMScheduler])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_diffusers_ddim_steps_where_the_two_predictions_would(prediction, kind, to_one):
    """With the weight that the lab reads off the scheduler itself; at every step, the last one too."""
    scheduler = kind(
        prediction_type=prediction,
        clip_sample=False,
        set_alpha_to_one=to_one,
        steps_offset=1,
        timestep_spacing="leading",
    )
    scheduler.set_timesteps(6)
    rng = np.random.default_rng(0)
    alphas = [float(scheduler.alphas_cumprod[int(t)]) for t in scheduler.timesteps]
    end = 1.0 if to_one else float(scheduler.alphas_cumprod[0])
    for t, alpha, after in zip(scheduler.timesteps, alphas, [*alphas[1:], end], strict=True):
        b = {name: rng.standard_normal((2, 3)) for name in ("cond", "uncond", "x_t")}
        one = torch.from_numpy(one_prediction(b, 0.6, noise_level(scheduler, t).next_weight))
        written_out, _ = (ddim_epsilon if prediction == "epsilon" else ddim_v)(b, 0.6, alpha, after)
        x = scheduler.step(one, t, torch.from_numpy(b["x_t"])).prev_sample
        assert np.allclose(x.numpy(), written_out, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("scheduler", "step"),
    [
        (FlowMatchEulerDiscreteScheduler(shift=3.0), flow),
        (EulerDiscreteScheduler(prediction_type="epsilon"), euler_sigma),
    ],
    ids=["flow", "sigma"],
)
def test_diffusers_euler_steps_where_the_two_predictions_would(scheduler, step):
    """With the weight that the lab reads off the scheduler itself."""
    scheduler.set_timesteps(6)
    rng = np.random.default_rng(0)
    for k, t in enumerate(scheduler.timesteps):
        b = {name: rng.standard_normal((2, 3)) for name in ("cond", "uncond", "x_t")}
        sigma, after = (float(s) for s in scheduler.sigmas[k : k + 2])
        x_t = torch.from_numpy(b["x_t"])
        weight = noise_level(scheduler, t).next_weight
        scheduler.scale_model_input(x_t, t) if step is euler_sigma else None
        x = scheduler.step(torch.from_numpy(one_prediction(b, 0.6, weight)), t, x_t).prev_sample
        assert np.allclose(x.numpy(), step(b, 0.6, sigma, after)[0], rtol=1e-5, atol=1e-5)


# ---- in a run ----


def check_run(recording, strengths):
    ds = recording.ds
    sigmas = np.append(ds.sigma.values, 0.0)
    states = np.concatenate([ds.x_t.values, ds.final.values[None]]).astype(np.float64)
    for k, strength in enumerate(strengths):
        b = {name: branch(recording, name, k).double().numpy() for name in ("cond", "uncond")}
        ahead, _ = flow({**b, "x_t": states[k]}, strength, sigmas[k], sigmas[k + 1])
        assert np.allclose(ahead, states[k + 1], rtol=1e-4, atol=1e-4)
    return states


def test_every_state_of_a_run_is_where_the_algorithm_leads(tiny):
    check_run(tiny.sample(lab.CFGpp(0.6)).recording, [0.6] * 4)
    check_run(tiny.sample(lab.CFGpp([0.1, 0.9, 0, 1])).recording, [0.1, 0.9, 0, 1])
    plain = tiny.sample(lab.CFG(1.5)).recording
    with pytest.raises(AssertionError):
        check_run(plain, [0.5] * 4)


def test_no_strength_is_the_unconditional_sampler(tiny):
    recording = tiny.sample(lab.CFGpp(0)).recording
    for step in range(recording.steps):
        u, guided = (branch(recording, name, step) for name in ("uncond", "guided"))
        assert torch.allclose(u, guided, atol=1e-5)


def test_outside_its_window_cfgpp_leaves_cond(tiny):
    recording = tiny.sample(lab.CFGpp(0.5, start=0.25, stop=0.75)).recording
    for step in range(recording.steps):
        c, guided = (branch(recording, name, step) for name in ("cond", "guided"))
        assert torch.equal(c, guided) == (step in (0, 3))


@pytest.mark.parametrize("scheduler", ["unipc", "dpm"])
@pytest.mark.parametrize(
    "guidance",
    [
        lab.CFGpp(0.6) + lab.STG(1, WEAK),
        lab.STG(1, WEAK) + lab.CFGpp(0.6, start=0.75),  # not even first acting at the last step saves it
    ],
    ids=str,
)
def test_samplers_of_another_kind_are_refused_before_a_weak_pass(scheduler, guidance):
    rig = Rig(tiny_wan(scheduler), SMALL)
    with (
        passes(rig.pipe) as made,
        pytest.raises(lab.GuidanceError, match=r"CFG\+\+ needs a sampler that steps from one noise level to the next"),
    ):
        rig.sample(guidance)
    assert len(made) <= 1


def test_a_stochastic_sampler_is_refused(tiny):
    rig = tiny.copy()
    rig.pipe.scheduler = FlowMatchEulerDiscreteScheduler(stochastic_sampling=True)
    with pytest.raises(lab.GuidanceError, match=r"CFG\+\+ needs a sampler"):
        rig.sample(lab.CFGpp(0.6))


@pytest.mark.parametrize("name", ["cosmos", "allegro"])
def test_a_run_that_ends_where_its_last_step_starts_is_refused_before_the_denoiser_runs(name):
    """final_sigmas_type="sigma_min", as Cosmos has it, repeats the last noise level."""
    one = member(name)
    if name == "allegro":
        one.pipe.scheduler = EulerDiscreteScheduler(final_sigmas_type="sigma_min")
    call = {k: v for k, v in one.arguments({}).items() if k != "guidance_scale"}
    told = r"step 2 ends at the noise level it starts at.*final_sigmas_type='zero'.*stop=2/3"
    with captured(one.pipe) as calls:
        with pytest.raises(lab.GuidanceError, match=told):
            lab.plan(one.pipe, lab.CFGpp(0.6), **call)
        with pytest.raises(lab.GuidanceError, match=told):
            lab.sample(one.pipe, guidance=lab.CFGpp(0.6), **call)
        assert len(calls) == 0
        with pytest.raises(lab.GuidanceError, match=told), lab.attach(one.pipe, guidance=lab.CFGpp(0.6)):
            one.stock(guidance_scale=3.0)
        assert len(calls) == 1  # the call that was about to be made
    run = lab.sample(one.pipe, guidance=lab.CFGpp(0.6, stop=2 / 3), **call)  # as the message says
    assert run.recording.complete


def test_a_step_that_stays_at_its_noise_level_is_refused_and_harms_no_other_guidance():
    weight = renoise_weight((0.5, 0.5), (0.5, 0.5))
    b = {"cond": np.ones((1, 2)), "uncond": np.zeros((1, 2))}
    with pytest.raises(lab.GuidanceError, match="step 0 ends at the noise level it starts at"):
        one_prediction(b, 0.5, weight)
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(sigmas=[0.8, 0.5, 0.5])
    assert math.isnan(level_at(scheduler, 1).next_weight)


def test_latte_runs_under_cfgpp_where_ddim_adds_no_noise():
    one = member("latte")
    one.pipe.scheduler = DDIMScheduler(clip_sample=False)
    call = {k: v for k, v in one.arguments({}).items() if k != "guidance_scale"}
    recording = lab.sample(one.pipe, guidance=lab.CFGpp(0.6), **call).recording
    ds, alphas = recording.ds, one.pipe.scheduler.alphas_cumprod.double()
    states = np.concatenate([ds.x_t.values, ds.final.values[None]]).astype(np.float64)
    ends = [*(float(alphas[int(t)]) for t in ds.timestep.values), 1.0]
    for k in range(recording.steps):
        b = {name: branch(recording, name, k).double().numpy() for name in ("cond", "uncond")}
        ahead, _ = ddim_epsilon({**b, "x_t": states[k]}, 0.6, ends[k], ends[k + 1])
        assert np.allclose(ahead, states[k + 1], rtol=1e-4, atol=1e-4)
    with pytest.raises(lab.GuidanceError, match=r"eta=0\.5. Call it with eta=0"):
        lab.sample(one.pipe, guidance=lab.CFGpp(0.6), eta=0.5, **call)
    one.pipe.scheduler = DDIMScheduler(clip_sample=True)
    with pytest.raises(lab.GuidanceError, match=r"CFG\+\+ needs a sampler.*does not clip x0"):
        lab.sample(one.pipe, guidance=lab.CFGpp(0.6), **call)
