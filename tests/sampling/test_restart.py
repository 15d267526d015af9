"""Restart sampling (Hyung et al. 2025, Alg. 3): part of the run again from fresh noise, recorded as extra steps."""

import copy

import numpy as np
import pytest
import torch
from diffusers import FlowMatchHeunDiscreteScheduler
from kit.pipelines import SCHEDULERS, generators
from kit.watch import branch, captured, left_behind, passes

import stg_lab as lab
from stg_lab.sampling.restart import STREAM

STEPS = 6
WEAK = lab.skip([1])
PLAIN = lab.CFG(4) + lab.STG(1, WEAK)
RESTART = PLAIN.restart(0.5, 0.9, 2, seed=3)


@pytest.fixture(params=["euler", "unipc", "dpm"])
def rig(tiny, request):
    rig = tiny.copy()
    rig.pipe.scheduler = SCHEDULERS[request.param]()
    return rig


def interval(recording):
    """The steps that were done again, read off the recording."""
    again = recording.ds.run_step.values[recording.ds.restart.values == 1].astype(int)
    return int(again[0]), int(again[-1]) + 1


def x_t(recording, row):
    return torch.from_numpy(recording.ds.x_t.isel(step=row).values)


def row_of(recording, step, restart):
    here = (recording.ds.run_step.values == step) & (recording.ds.restart.values == restart)
    [row] = np.flatnonzero(here)
    return int(row)


def test_the_recording_holds_every_round_and_says_which_step_belongs_to_it(tiny):
    recording = tiny.sample(RESTART, num_inference_steps=STEPS).recording
    first, end = interval(recording)
    again = list(range(first, end))
    assert recording.complete
    assert recording.ds.run_step.values.tolist() == [*range(end), *again, *again, *range(end, STEPS)]
    assert recording.ds.restart.values.tolist() == [0] * end + [1] * len(again) + [2] * len(again) + [0] * (STEPS - end)
    main = recording.ds.timestep.values[recording.ds.restart.values == 0] / 1000
    assert [first, end] == [int(np.abs(main - t).argmin()) for t in (0.9, 0.5)]


def test_each_round_starts_from_the_forward_process_and_steps_as_a_fresh_scheduler_would(rig):
    """The whole of Restart written out anew: noise, a fresh scheduler, the transformer, the guided sum."""
    with captured(rig.pipe) as calls:
        run = rig.sample(RESTART, num_inference_steps=STEPS)
    recording = run.recording
    first, end = interval(recording)
    sigma = {s: float(recording.ds.sigma[row_of(recording, s, 0)]) for s in (first, end)}
    signal = (1 - sigma[first]) / (1 - sigma[end])
    noise = (sigma[first] ** 2 - signal**2 * sigma[end] ** 2) ** 0.5
    generator = torch.Generator().manual_seed(STREAM + 3)
    transformer, text = rig.pipe.transformer, [kwargs for _, _, kwargs in calls.made[:2]]
    x = after_step(rig, recording, end - 1)
    for round_ in (1, 2):
        x = signal * x + noise * torch.randn(x.shape[1:], generator=generator)[None]
        scheduler = copy.deepcopy(rig.pipe.scheduler)
        scheduler.set_timesteps(STEPS)
        scheduler.set_begin_index(first)
        for step in range(first, end):
            t = scheduler.timesteps[step]
            with torch.no_grad():
                c, u = (transformer(**{**k, "hidden_states": x, "timestep": t.expand(1)})[0] for k in text)
            row = row_of(recording, step, round_)
            assert torch.allclose(x_t(recording, row), x, atol=1e-5)
            assert torch.allclose(branch(recording, "cond", row), c, atol=1e-4)
            p = branch(recording, "skip", row)
            x = scheduler.step(u + 4.0 * (c - u) + (c - p), t, x, return_dict=False)[0]
    last = row_of(recording, end, 0)
    assert torch.allclose(x_t(recording, last), x, atol=1e-4)


def after_step(rig, recording, step):
    """The sample after a step of the run's own way down: what the same run without Restart has at the next one."""
    plain = rig.sample(PLAIN, num_inference_steps=STEPS).recording
    assert torch.equal(x_t(plain, step), x_t(recording, step))
    return x_t(plain, step + 1)


def test_the_pipeline_returns_what_the_last_round_led_to(tiny):
    run = tiny.sample(RESTART, num_inference_steps=STEPS)
    assert np.array_equal(run.recording.ds.final.values, run.output.frames.numpy())
    assert not torch.equal(run.output.frames, tiny.sample(PLAIN, num_inference_steps=STEPS).output.frames)


def test_without_guidance_of_ours_restart_steps_with_the_pipelines_own_cfg(tiny):
    recording = tiny.sample(lab.CFG(4).restart(0.5, 0.9), num_inference_steps=STEPS).recording
    for row in range(recording.steps):
        c, u, guided = (branch(recording, name, row) for name in ("cond", "uncond", "guided"))
        assert torch.equal(guided, u + 4.0 * (c - u))


def test_the_restart_noise_is_seeded_on_its_own_and_differs_from_the_starting_noise(tiny):
    def run(seed, restart_seed):
        guidance = PLAIN.restart(0.5, 0.9, seed=restart_seed)
        return tiny.sample(guidance, num_inference_steps=STEPS, seed=seed).recording

    a, b, c = run(0, 0), run(0, 0), run(0, 1)
    assert np.array_equal(a.ds.final.values, b.ds.final.values)
    assert not np.array_equal(a.ds.final.values, c.ds.final.values)
    first, end = interval(a)
    high, low = (float(a.ds.sigma[row_of(a, step, 0)]) for step in (first, end))
    signal = (1 - high) / (1 - low)
    before = x_t(tiny.sample(PLAIN, num_inference_steps=STEPS, seed=0).recording, end)
    noise = x_t(a, row_of(a, first, 1)) - signal * before
    start = x_t(a, 0)
    alike = torch.nn.functional.cosine_similarity(noise.flatten(), start.flatten(), dim=0)
    assert abs(float(alike)) < 0.1


@pytest.mark.parametrize("given", ["seed", "generators"])
def test_a_sample_does_not_depend_on_its_batch(tiny, given):
    def frames(prompts, first):
        own = {"seed": first} if given == "seed" else {"generator": generators(first, len(prompts))}
        return tiny.sample(RESTART, prompt=prompts, num_inference_steps=STEPS, **own).output.frames

    prompts = ["a red seven moving left", "a blue two growing"]
    both = frames(prompts, 5)
    assert torch.allclose(both[1], frames(prompts[1:], 6)[0], atol=1e-4)
    assert torch.allclose(both[0], frames(prompts[:1], 5)[0], atol=1e-4)


def test_no_two_samples_get_the_same_restart_noise(tiny):
    drawn = {}
    for seed in (0, 1):
        recording = tiny.sample(RESTART, num_inference_steps=STEPS, seed=seed).recording
        first, end = interval(recording)
        before, after = x_t(recording, row_of(recording, end, 0)), x_t(recording, row_of(recording, first, 1))
        high, low = (float(recording.ds.sigma[row_of(recording, step, 0)]) for step in (first, end))
        drawn[seed] = after - (1 - high) / (1 - low) * before
    alike = torch.nn.functional.cosine_similarity(drawn[0].flatten(), drawn[1].flatten(), dim=0)
    assert abs(float(alike)) < 0.1


def test_every_extra_step_costs_as_much_as_a_step(tiny):
    with passes(tiny.pipe) as made:
        recording = tiny.sample(RESTART, num_inference_steps=STEPS).recording
    assert len(made) == 3 * recording.steps


def test_a_recorder_around_it_hears_the_pipelines_own_steps_alone(tiny):
    with lab.attach(tiny.pipe, record=True) as outer:
        run = tiny.sample(RESTART, num_inference_steps=STEPS)
    assert outer.recording.steps == STEPS
    assert outer.recording.ds.restart.values.tolist() == [0] * STEPS
    assert run.recording.steps > STEPS


def test_nothing_is_left_and_the_stock_run_is_as_before(rig):
    rig.sample(RESTART, num_inference_steps=STEPS, record=False)
    assert left_behind(rig.pipe) == []
    plain = rig.sample(PLAIN, num_inference_steps=STEPS, record=False).output.frames
    rig.sample(RESTART, num_inference_steps=STEPS, record=False)
    assert torch.equal(rig.sample(PLAIN, num_inference_steps=STEPS, record=False).output.frames, plain)


def test_the_user_may_attach_it_around_a_call(tiny):
    with lab.attach(tiny.pipe, guidance=RESTART) as trace:
        frames = tiny.pipe(
            **tiny.arguments({"num_inference_steps": STEPS, "guidance_scale": 4.0, "generator": generators(0, 1)})
        ).frames
    assert trace.recorder is None
    assert torch.equal(frames, tiny.sample(RESTART, num_inference_steps=STEPS).output.frames)


@pytest.mark.parametrize(
    ("guidance", "says"),
    [
        (lambda: PLAIN.restart(0.5, 0.51), r"holds no step of this run.*Take a wider interval or more steps"),
        (lambda: PLAIN.restart(0.9, 0.5), r"0 < t_min < t_max <= 1"),
        (lambda: PLAIN.restart(0.0, 0.5), r"0 < t_min < t_max <= 1"),
        (lambda: PLAIN.restart(0.2, 0.5, 0), r"takes 1, 2, 3"),
    ],
)
def test_a_restart_that_cannot_be_is_refused(tiny, guidance, says):
    with passes(tiny.pipe) as made, pytest.raises(lab.GuidanceError, match=says):
        tiny.sample(guidance(), num_inference_steps=STEPS)
    assert len(made) <= 1  # the pipeline's own first call, whose arguments say what there is


def test_a_scheduler_that_cannot_be_rewound_is_refused(tiny):
    rig = tiny.copy()
    rig.pipe.scheduler = FlowMatchHeunDiscreteScheduler(shift=3.0)
    with passes(rig.pipe) as made, pytest.raises(lab.LabError, match="Restart cannot rewind FlowMatchHeun"):
        rig.sample(RESTART, num_inference_steps=STEPS)
    assert len(made) <= 1


def test_a_denoiser_that_is_given_more_than_the_latents_is_refused(tiny):
    rig = tiny.copy()
    stock = rig.pipe.transformer.forward
    rig.pipe.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: (args, {**kwargs, "hidden_states": kwargs["hidden_states"] + 1}), with_kwargs=True
    )
    with pytest.raises(lab.GuidanceError, match=r"not just the latents.*Leave Restart out"):
        rig.sample(RESTART, num_inference_steps=STEPS)
    assert stock == rig.pipe.transformer.forward


def test_a_restarted_run_is_made_again_from_its_recording(tiny):
    run = tiny.sample(RESTART, num_inference_steps=STEPS)
    assert run.recording.settings["guidance"]["restart"] == {"t_min": 0.5, "t_max": 0.9, "times": 2, "seed": 3}
    again = lab.rerun(run.recording, tiny.pipe)
    assert torch.equal(again.output.frames, run.output.frames)
