"""STG on Open-Sora, the paper's factorised model: each skip against a denoiser changed by hand, equations 20 and 21, x0, the plan."""

import copy

import numpy as np
import pytest
import torch
from accelerate import cpu_offload, cpu_offload_with_hook
from kit.watch import branch, captured
from kit.zoo import STEPS, member

import stg_lab as lab

LAYER, CFG = 1, 7.0
BATCH = lab.Passes(rows="batch")
SPACE, TIME = (lab.skip([LAYER], part="attention", axis=axis) for axis in ("spatial", "temporal"))


@pytest.fixture
def one():
    return member("opensora")


def attached(one, guidance, **call):
    with captured(one.pipe) as calls, lab.attach(one.pipe, guidance=guidance, record=True, passes=BATCH) as trace:
        one.stock(guidance_scale=CFG, **call)
    return trace.recording, calls.made


def values_alone(attention):
    """A self-attention whose map is the identity: what is left of it are the values and the projection."""

    def forward(hidden_states, rotation=None):
        return attention.proj(attention.qkv(hidden_states).chunk(3, dim=-1)[2])

    return forward


@pytest.mark.parametrize("axis", ["spatial", "temporal"])
@pytest.mark.parametrize("part", ["attention", "block"])
def test_a_skip_along_one_axis_is_a_denoiser_without_it_bit_for_bit(one, part, axis):
    recording, calls = attached(one, lab.Probe(lab.skip([LAYER], part=part, axis=axis)))
    for step, (module, args, kwargs) in enumerate(calls):
        oracle = copy.deepcopy(module)
        block = getattr(oracle, f"{axis}_blocks")[LAYER]
        if part == "attention":
            block.attn.forward = values_alone(block.attn)
        else:
            block.forward = lambda hidden_states, *_: hidden_states
        with torch.no_grad():
            cond = -oracle(*args, **kwargs)[0][1:, :4]  # of the batch [uncond, cond]
        assert torch.equal(branch(recording, "skip", step), cond)
        assert (cond - branch(recording, "cond", step)).abs().max() > 1e-3


@pytest.mark.parametrize("part", ["attention", "block"])
def test_space_and_time_are_skipped_apart_and_added_up(one, part):
    """Equation 20, with a scale for each; and equation 21, where the temporal vector loses its part along the spatial one."""
    space, time = (lab.skip([LAYER], part=part, axis=axis) for axis in ("spatial", "temporal"))
    both = lab.STG(2.0, space) + lab.STG(1.5, time)
    recordings = [attached(one, guidance)[0] for guidance in (both, both.orthogonalize())]
    for step in range(STEPS):
        for number, recording in enumerate(recordings):
            names = ["cond", "uncond", *recording.weak, "guided"]
            c, u, p, q, guided = (branch(recording, name, step).double() for name in names)
            d_space, d_time = c - p, c - q
            if number:
                d_time = d_time - (d_time * d_space).sum() / (d_space * d_space).sum() * d_space
            expected = u + CFG * (c - u) + 2.0 * d_space + 1.5 * d_time
            assert torch.allclose(guided, expected, atol=1e-4, rtol=1e-5)
        first, second = (branch(recording, "guided", 0) for recording in recordings)
        assert not torch.allclose(first, second, atol=1e-3)


def test_x0_is_the_noisy_latents_plus_the_models_velocity(one):
    recording, calls = attached(one, lab.STG(1.0, SPACE))
    for step, (module, args, kwargs) in enumerate(calls):
        with torch.no_grad():
            velocity = module(*args, **kwargs)[0][1:, :4]
        x_t, t = torch.from_numpy(recording.ds.x_t.isel(step=step).values), kwargs["timestep"][0]
        ours = torch.from_numpy(recording.x0("cond").isel(step=step).values)
        assert torch.allclose(ours, x_t + t / 1000 * velocity, atol=1e-4)
    assert np.allclose(recording.x0("guided").isel(step=-1), recording.ds.final, atol=1e-4)


def test_without_a_caption_it_sees_the_embedding_that_stands_for_none(one):
    """Which is what the unconditional half of the batch sees."""
    recording, _ = attached(
        one, lab.Probe(lab.skip([LAYER], prompt="none")) + lab.Probe(lab.skip([LAYER], prompt="negative"))
    )
    none, negative = (branch(recording, name, 0) for name in recording.weak)
    assert torch.allclose(none, negative, atol=1e-5)
    assert not torch.allclose(none, branch(recording, "cond", 0), atol=1e-3)


def test_the_plan_has_its_steps_and_its_shape(one):
    call = one.arguments({"num_frames": 22})
    plan = lab.plan(one.pipe, guidance=lab.CFG(CFG) + lab.STG(2.0, SPACE) + lab.STG(2.0, TIME), **call)
    assert plan.shape == (1, 4, 7, 4, 7)
    assert lab.sample(one.pipe, guidance=lab.CFG(CFG), **call, seed=0).recording.ds.final.shape == plan.shape


def test_what_the_paper_says_and_leaves_open_is_told(one):
    text = str(lab.describe(one.pipe))
    assert "(OpenSoraPipeline, stg_lab.opensora)" in text
    for said in (
        "CFG 7",
        "12th layer of 28",
        "lab.skip([11], ...)",
        "lab.skip([12], ...)",
        "eq. 20",
        "STG-A at scale 2",
    ):
        assert said in text
    assert "spatial and temporal" in text


def test_a_length_that_it_cannot_make_is_told_before_anything_is_written(one, tmp_path):
    with pytest.raises(lab.CallError, match="17 frames or more, or pictures, got num_frames=9"):
        lab.sample(one.pipe, record=tmp_path / "run.zarr", **one.arguments({"num_frames": 9}))
    assert not (tmp_path / "run.zarr").exists()


@pytest.mark.parametrize("how", ["model", "sequential"])
def test_it_offloads_as_other_pipelines_do(one, how):
    """What `enable_model_cpu_offload` and `enable_sequential_cpu_offload` attach, with the CPU for the device they ask for."""
    guidance, modules = lab.STG(1.0, SPACE), (one.pipe.transformer, one.pipe.vae)
    stock = [one.stock(output_type="np"), one.sample(guidance, output_type="np").video]
    for module in modules:
        cpu_offload_with_hook(module, "cpu") if how == "model" else cpu_offload(module, torch.device("cpu"))
    if how == "sequential":
        assert all(p.is_meta for module in modules for p in module.parameters())
    assert np.array_equal(one.stock(output_type="np"), stock[0])
    offloaded = one.sample(guidance, output_type="np")
    assert np.array_equal(offloaded.video, stock[1])
    assert np.allclose(lab.decode(one.pipe, offloaded.recording.ds.final), stock[1], atol=1e-5)
