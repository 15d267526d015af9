"""Kandinsky 5: names of its own, latents that are overwritten, sparse attention."""

import pytest
import torch
from kit.trust import attached
from kit.watch import branch, left_behind
from kit.zoo import STEPS, member, noise

import stg_lab as lab
from stg_lab.families import family_of

WEAK = lab.skip([1])


@pytest.fixture(params=["kandinsky", "kandinsky-picture"])
def one(request):
    return member(request.param)


def test_what_a_step_started_from_is_recorded_although_the_pipeline_writes_over_it(one):
    seen = []

    def keep(pipe, step, timestep, tensors):
        seen.append(tensors["latents"][..., :4].clone())
        return {}

    frames, trace = attached(one, callback_on_step_end=keep)
    x_t = trace.recording.ds.x_t.values
    for step in range(1, STEPS):
        assert torch.equal(torch.from_numpy(x_t[step]), one.unpacked(seen[step - 1]))
    assert torch.equal(one.unpacked(frames), one.unpacked(seen[-1]))


def test_latents_of_ones_own_stay_as_they_are_so_that_the_baseline_starts_from_them_too(one):
    channels = 9 if "picture" in one.name else 4
    given = noise(1, 3, 4, 8, channels, seed=5)
    before = given.clone()
    run = lab.sample(one.pipe, guidance=lab.CFG(3) + lab.STG(1, WEAK), latents=given, **one.arguments({}))
    assert torch.equal(given, before)
    assert torch.equal(run.baseline.output.frames, one.stock(latents=before.clone(), guidance_scale=3.0))


def test_embeddings_stand_for_a_prompt_under_their_own_name(one):
    call = {k: v for k, v in one.arguments({}).items() if k != "prompt_embeds_qwen"}
    with pytest.raises(lab.CallError, match=r"no prompt was given.*prompt_embeds_qwen"):
        lab.sample(one.pipe, **call)
    assert len(lab.sample(one.pipe, **one.arguments(one.two())).output.frames) == 2


def test_the_first_rounds_of_restart_start_from_what_the_denoiser_was_given(one):
    guidance = lab.STG(1.0, WEAK).restart(0.3, 0.95)
    _, trace = attached(one, guidance, num_inference_steps=4)
    again = trace.recording.ds.restart.values > 0
    assert again.any()
    first = int(again.argmax())
    c, p, g = (branch(trace.recording, name, first) for name in ("cond", "skip", "guided"))
    u = branch(trace.recording, "uncond", first)
    assert torch.equal(g, u + 5 * (c - u) + (c - p))
    assert left_behind(one.pipe) == []


def test_tokens_of_sparse_attention_have_no_places(one):
    family, transformer = family_of(one.pipe), one.pipe.transformer
    call = {"hidden_states": noise(1, 3, 4, 8, 4, seed=0), "sparse_params": {"to_fractal": True}}
    with pytest.raises(lab.GuidanceError, match=r"sparse \(NABLA\).*cannot be edited by place"):
        family.grid(transformer, (), call)
