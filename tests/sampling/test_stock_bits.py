"""With no guidance of the lab's own, a pipeline gives what it gives without the lab, bit for bit."""

import numpy as np
import pytest
import torch
from kit.pipelines import PROMPT, SMALL, Rig, tiny_wan

import stg_lab as lab


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_recording_alone_changes_no_bit(each, scale):
    stock = each.stock(guidance_scale=scale)
    run = each.sample(guidance_scale=scale)
    assert run.output.frames.dtype == stock.dtype
    assert torch.equal(run.output.frames, stock)
    assert run.recording.complete


def test_the_default_call_without_the_lab_gives_the_same_pictures(small_and_trained):
    rig = small_and_trained
    stock = rig.stock(output_type="np", guidance_scale=5.0)
    run = rig.sample(output_type="np")  # 5.0 is the pipeline's own default
    assert np.array_equal(run.output.frames, stock)
    assert np.array_equal(run.video, stock)


def test_cfg_from_the_lab_is_the_pipelines_own_cfg(each):
    assert torch.equal(each.sample(lab.CFG(4)).output.frames, each.stock(guidance_scale=4.0))


@pytest.mark.parametrize("part", ["block", "attention"])
def test_stg_of_scale_zero_is_cfg_alone(each, part):
    run = each.sample(lab.CFG(4) + lab.Probe(lab.skip([1], part=part)), record=False)
    assert torch.equal(run.output.frames, each.stock(guidance_scale=4.0))


def test_stg_of_scale_zero_is_recorded_all_the_same(tiny):
    recording = tiny.sample(lab.CFG(4) + lab.Probe(lab.skip([1]))).recording
    assert recording.branches == ["cond", "uncond", "skip", "guided"]
    assert not np.isnan(recording.prediction("skip")).any()


def test_rescaling_by_zero_is_cfg_alone(tiny):
    assert torch.equal(tiny.sample(lab.CFG(4).rescale(0)).output.frames, tiny.stock(guidance_scale=4.0))


def test_a_run_without_cfg_is_the_conditional_prediction(tiny):
    stock = tiny.stock(guidance_scale=1.0)
    assert torch.equal(tiny.sample(lab.CFG(1)).output.frames, stock)
    assert torch.equal(tiny.sample(lab.Guidance()).output.frames, stock)  # the empty sum: cond


@pytest.mark.parametrize("scheduler", ["euler", "unipc"])
def test_guidance_in_bfloat16_keeps_the_dtypes_of_the_stock_run(scheduler):
    rig = Rig(tiny_wan(scheduler, dtype=torch.bfloat16), SMALL)
    seen: dict[str, list] = {}

    def watching(name):
        def callback(pipe, step, timestep, given):
            seen.setdefault(name, []).append(given["latents"].dtype)
            return given

        return callback

    rig.stock(guidance_scale=4.0, callback_on_step_end=watching("stock"))
    guided = rig.sample(lab.CFG(4) + lab.STG(1, lab.skip([1])), callback_on_step_end=watching("guided"), record=False)
    assert seen["guided"] == seen["stock"]
    assert guided.output.frames.dtype == seen["stock"][-1]


def test_guidance_does_act(each):
    stock = each.stock(guidance_scale=4.0)
    run = each.sample(lab.CFG(4) + lab.STG(1, lab.skip([1])), record=False)
    assert (run.output.frames - stock).abs().max() > 1e-2


def test_a_callback_that_changes_the_latents_is_followed(tiny):
    def halve(pipe, step, timestep, given):
        return {"latents": given["latents"] * 0.5} if step == 1 else {}

    stock = tiny.stock(guidance_scale=4.0, callback_on_step_end=halve)
    with pytest.warns(UserWarning, match="the latents were changed between steps 1 and 2"):
        run = tiny.sample(lab.CFG(4), callback_on_step_end=halve)
    assert torch.equal(run.output.frames, stock)
    assert not torch.equal(stock, tiny.stock(guidance_scale=4.0))


def test_text_exchanged_by_a_callback_reaches_the_weak_pass(tiny):
    """The weak pass takes the arguments of the call at hand, not those of the first step."""

    def silence(pipe, step, timestep, given):
        return {"prompt_embeds": torch.zeros_like(given["prompt_embeds"])}

    extra = {"callback_on_step_end": silence, "callback_on_step_end_tensor_inputs": ["latents", "prompt_embeds"]}
    recording = tiny.sample(lab.Probe(lab.skip([1])), **extra).recording
    twin = tiny.copy()
    twin.pipe.transformer.blocks[1].forward = lambda hidden_states, *_: hidden_states
    x_t = torch.from_numpy(recording.ds.x_t.isel(step=2).values)
    text = torch.zeros(1, 8, 16)
    with torch.no_grad():
        timestep = torch.tensor([recording.ds.timestep.values[2]], dtype=torch.float32)
        expected = twin.pipe.transformer(x_t, timestep, text, return_dict=False)[0]
    assert torch.equal(torch.from_numpy(recording.prediction("skip").isel(step=2).values), expected)


def test_attach_around_ones_own_call_is_sample(small_and_trained):
    rig, guidance = small_and_trained, lab.CFG(3) + lab.STG(1, lab.skip([1]))
    run = rig.sample(guidance, seed=5)
    with lab.attach(rig.pipe, guidance=guidance, record=True) as trace:
        own = rig.stock(seed=5, guidance_scale=3.0)
    assert torch.equal(own, run.output.frames)
    assert np.array_equal(trace.recording.ds.prediction.values, run.recording.ds.prediction.values)


def test_prompts_given_as_embeddings_are_the_same_prompts(tiny):
    with torch.no_grad():
        embeds, negative = tiny.pipe.encode_prompt(PROMPT, max_sequence_length=8, device="cpu")
    text = {"prompt": None, "prompt_embeds": embeds, "negative_prompt_embeds": negative}
    assert torch.equal(tiny.sample(lab.CFG(4), **text).output.frames, tiny.stock(guidance_scale=4.0))
