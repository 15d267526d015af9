"""Rectified-CFG++ against its algorithm written out with the transformer alone, and what it costs."""

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from kit.pipelines import SMALL, Rig, generators, tiny_wan
from kit.watch import branch, captured, left_behind, passes
from kit.zoo import member

import stg_lab as lab
from stg_lab.guidance import as_guidance
from stg_lab.interop.json_file import from_json

STEPS = 3


@pytest.fixture(scope="module")
def euler():
    rig = Rig(tiny_wan(), SMALL)
    rig.pipe.scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    return rig


def by_hand(calls, x, sigmas, scale, power, share, contexts):
    """Algorithm 1: the latents after each step. `calls` are the pipeline's own, of which only what stays is taken."""
    found = []
    for k, (module, _, kwargs) in enumerate(calls):
        t, after = sigmas[k], sigmas[k + 1]

        def v(x, t, context, module=module, kwargs=kwargs):
            given = {
                **kwargs,
                "hidden_states": x,
                "timestep": torch.full((len(x),), 1000 * t),
                "encoder_hidden_states": context,
            }
            with torch.no_grad():
                return module(**given)[0]

        cond = v(x, t, contexts[0])
        half = x + share * (after - t) * cond
        there = t + share * (after - t)
        x = x + (after - t) * (
            cond + scale * (1 - t) ** power * (v(half, there, contexts[0]) - v(half, there, contexts[1]))
        )
        found.append(x)
    return found


@pytest.mark.parametrize(
    ("scale", "power", "share", "prompt"), [(2.5, 0, 0.5, "none"), (4.0, 1.5, 0.5, "negative"), (1.5, 0, 1.0, "none")]
)
def test_it_is_the_algorithm_of_the_paper(euler, scale, power, share, prompt):
    guidance = lab.rectified_cfg(scale, power, prompt=prompt, share=share)
    call = {"num_inference_steps": STEPS, "negative_prompt": "a blue two growing"}
    with captured(euler.pipe) as calls, passes(euler.pipe) as made:
        recording = euler.sample(guidance, **call).recording
    own = 1 if prompt == "none" else 2
    text = "" if prompt == "none" else "a blue two growing"
    first = calls.made[0][2]
    like = first["encoder_hidden_states"]
    empty, _ = euler.pipe.encode_prompt(text, do_classifier_free_guidance=False, max_sequence_length=like.shape[1])
    x = torch.from_numpy(recording.ds.x_t[0].values)
    sigmas = [float(s) for s in euler.pipe.scheduler.sigmas]
    expected = by_hand(calls.made[::own], x, sigmas, scale, power, share, (like, empty.to(like)))
    for k, latents in enumerate([*recording.ds.x_t[1:].values, recording.ds.final.values]):
        assert np.allclose(latents, expected[k], atol=3e-4 * float(expected[k].abs().max()))
    assert len(made) == STEPS * (own + 2)
    plan = lab.plan(euler.pipe, guidance, **euler.arguments(call))
    assert plan.passes == len(made) == plan.cost
    assert left_behind(euler.pipe) == []


def test_off_is_off_to_the_bit_and_runs_no_pass(euler):
    with passes(euler.pipe) as made:
        off = euler.sample(lab.rectified_cfg(0), num_inference_steps=STEPS)
    assert len(made) == STEPS
    stock = euler.pipe(
        **euler.arguments({"num_inference_steps": STEPS}), guidance_scale=1.0, generator=generators(0, 1)
    )
    assert np.array_equal(off.output.frames, stock.frames)


@pytest.mark.parametrize("rows", ["own", "batch"])
@pytest.mark.parametrize("name", ["mochi", "sd3"])
def test_rows_of_one_call_and_signals_that_rise(name, rows):
    """Pipelines that compute uncond and cond in one call; Mochi counts its noise from the other end."""
    one = member(name)
    guidance = lab.rectified_cfg(2.0, prompt="negative")
    with (
        captured(one.pipe) as calls,
        lab.attach(one.pipe, guidance=guidance, record=True, passes=lab.Passes(rows=rows)) as trace,
    ):
        one.stock(guidance_scale=3.0)
    recording, scheduler = trace.recording, one.pipe.scheduler
    negative, caption = (
        next(n for n, w in recording.weak.items() if ("negative" in w) == flag) for flag in (True, False)
    )
    for k, (module, args, kwargs) in enumerate(calls.made):
        now, after = (float(s) for s in scheduler.sigmas[k : k + 2])
        with torch.no_grad():
            cond = module(*args, **kwargs)[0].chunk(2)[1]
            half = kwargs["hidden_states"].chunk(2)[1] + (after - now) / 2 * cond
            there = torch.full_like(kwargs["timestep"].float(), 1000 * (now + after) / 2)
            moved = module(*args, **{**kwargs, "hidden_states": torch.cat([half, half]), "timestep": there})[0]
        u, c = (one.predicted(piece) for piece in moved.chunk(2))
        for name_, expected in ((negative, u), (caption, c)):
            got = branch(recording, name_, k)
            assert torch.allclose(got, expected, atol=2e-4 * float(expected.abs().max()))


def test_other_models_and_arguments_are_told_before_any_compute(tiny):
    for name, message in (("svd", "rearrange|flow models"), ("latte", "flow models"), ("cogvideox", "flow models")):
        one = member(name)
        guided = lab.attach(one.pipe, guidance=lab.rectified_cfg(2, prompt="negative"))
        with captured(one.pipe) as calls, pytest.raises(lab.GuidanceError, match=message), guided:
            one.stock()
        assert len(calls) <= 1
    for wrong in (
        lambda: lab.rectified_cfg("a"), lambda: lab.rectified_cfg(2, prompt="caption"), lambda: lab.rectified_cfg(2, -1),
        lambda: lab.predictor(0), lambda: lab.predictor(1.5), lambda: lab.CFG(2).by_signal("a"),
    ):  # fmt: skip
        with pytest.raises(lab.GuidanceError):
            wrong()
    with pytest.raises(lab.GuidanceError, match="Probe"):
        tiny.sample(lab.CFG(4) + lab.Probe(lab.predictor(prompt="negative")), num_inference_steps=1)


def test_it_goes_into_a_file_and_prints():
    guidance = as_guidance(lab.rectified_cfg(2.5, 1.5, start=0.1))
    assert from_json(lab.export(guidance, to="json")) == guidance
    for model in (lab.predictor(), lab.predictor(1.0, prompt="none")):
        assert lab.weak.parse(str(model)) == model
        assert eval(repr(model), {"lab": lab}) == model


def test_a_vector_by_signal_is_weighed_by_the_level_of_the_step(tiny):
    recording = tiny.sample(lab.CFG(4).by_signal(2), num_inference_steps=3).recording
    for k in range(3):
        cond, uncond = branch(recording, "cond", k), branch(recording, "uncond", k)
        signal = 1 - float(recording.ds.noise[k])
        assert torch.allclose(branch(recording, "guided", k), cond + 3 * signal**2 * (cond - uncond), atol=1e-5)
