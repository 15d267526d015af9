"""What only pipelines that are given a picture have: an input beside the latents, and a frame that is not predicted."""

import copy
import functools
import types

import pytest
import torch
from diffusers import UniPCMultistepScheduler, WanImageToVideoPipeline, WanTransformer3DModel
from diffusers.pipelines.wan import pipeline_wan_i2v
from kit.pipelines import FLOW
from kit.trust import attached, tensor
from kit.watch import branch, captured, left_behind
from kit.zoo import STEPS, OnePicture, embeds, member, picture, prepared

import stg_lab as lab

WEAK = lab.STG(1.0, lab.skip([1]))
NAMES = ("wan-image", "wan-5b-image", "cogvideox-image")


def another(transformer, seed=0, **changes):
    config = {name: value for name, value in transformer.config.items() if not name.startswith("_")}
    return prepared(WanTransformer3DModel(**{**config, **changes}), seed)


@pytest.mark.parametrize("name", NAMES)
def test_steps_are_made_again_with_the_same_picture(name):
    """Restart changes the latents in the denoiser's input, and nothing else in it."""
    one = member(name)
    with captured(one.pipe) as calls:
        frames, trace = attached(one, WEAK.restart(0.3, 0.999), num_inference_steps=STEPS + 1)
    assert (trace.recording.ds.restart.values > 0).any()
    final = torch.from_numpy(trace.recording.ds.final.values)
    assert torch.equal(final, one.unpacked(frames))
    inputs = [kwargs["hidden_states"] for _, _, kwargs in calls.made]
    kept = {
        "wan-image": lambda x: x[:, 16:],  # mask and encoded picture
        "wan-5b-image": lambda x: x[:, :, :1],  # its latent frame
        "cogvideox-image": lambda x: x[:, :, 4:],
    }[name]
    assert len(inputs) > (STEPS + 1) * (1 if name.startswith("cogvideox") else 2)
    assert all(torch.equal(kept(x), kept(inputs[0])) for x in inputs)
    assert kept(inputs[0]).abs().sum() > 0
    assert not any(torch.equal(a, b) for a, b in zip(inputs[::2], inputs[2::2], strict=False))


def test_the_given_picture_stands_in_every_recorded_step_of_the_5b_model():
    one = member("wan-5b-image")
    frames, trace = attached(one, WEAK)
    ds, given = trace.recording.ds, one.unpacked(frames)[:, :, 0].numpy()
    for step in range(STEPS):
        assert (ds.x_t.isel(step=step, frame=0).values == given).all()
    assert (ds.prediction.isel(frame=0).values == 0).all()
    assert (trace.recording.x0("cond").isel(frame=0).values == given).all()


def test_what_is_predicted_for_the_given_frame_reaches_no_other():
    """The pipeline steps it and overwrites it, so that leaving it out of a recording loses nothing."""
    one = member("wan-5b-image")
    stock = tensor(one.stock())
    step = one.pipe.scheduler.step

    def garbled(model_output, *args, **kwargs):
        model_output = model_output.clone()
        model_output[:, :, 0] = 7.0
        return step(model_output, *args, **kwargs)

    one.pipe.scheduler.step = garbled
    assert torch.equal(tensor(one.stock()), stock)


def garbling(one, value):
    """The denoiser predicts something else for the given frame, in every pass."""
    tokens = 2 * 4 if one.name == "wan-5b-image" else 4 * 8  # of a frame

    def garble(module, args, output):
        output = output.clone()
        output[:, :tokens] += value
        return output

    return one.pipe.transformer.proj_out.register_forward_hook(garble)


@pytest.mark.parametrize("name", ["wan-5b-image", "ltx-image"])
def test_nor_under_a_guidance_that_asks_for_lengths_and_deviations(name):
    guidance = (lab.CFG(3).apg(0, norm=3.0) + lab.STG(1, lab.skip([1])).zero_star(0)).rescale(0.7)
    one, runs = member(name), []
    for value in (0.0, 7.0):
        hook = garbling(one, value)
        runs.append(one.sample(guidance))
        hook.remove()
    plain, garbled = runs
    assert torch.equal(tensor(garbled.output.frames), tensor(plain.output.frames))
    assert garbled.recording.ds.prediction.equals(plain.recording.ds.prediction)


def stepped_with(one, guidance):
    """What the scheduler was handed for the given frame, step by step."""
    kept, step = [], one.pipe.scheduler.step

    @functools.wraps(step)
    def keep(model_output, *args, **kwargs):
        kept.append(model_output[:, :, :1].clone())
        return step(model_output, *args, **kwargs)

    one.pipe.scheduler.step = keep
    try:
        with lab.attach(one.pipe, guidance=guidance):
            one.stock(guidance_scale=3.0, num_inference_steps=2)
    finally:
        del one.pipe.scheduler.step
    return kept


def test_the_given_frame_keeps_the_pipelines_own_prediction():
    one = member("wan-5b-image")
    own, guided = stepped_with(one, None), stepped_with(one, WEAK.rescale(0.7))
    assert torch.equal(own[0], guided[0])
    assert own[0].abs().sum() > 0


def test_the_cross_attention_that_is_skipped_is_that_of_text_and_picture():
    one = member("wan-image")
    with captured(one.pipe) as calls:
        _, trace = attached(one, lab.Probe(lab.skip([1], part="cross_attention_zero")))
    module, args, kwargs = calls.made[0]
    oracle = copy.deepcopy(module)
    with torch.no_grad():
        out = oracle.blocks[1].attn2.to_out[0]
        out.weight.zero_()
        out.bias.zero_()
        assert torch.allclose(branch(trace.recording, "skip", 0), oracle(*args, **kwargs)[0], atol=1e-5)


def test_the_empty_caption_keeps_the_picture(monkeypatch):
    # The pipeline cleans its prompts with ftfy, installed or not.
    monkeypatch.setattr(pipeline_wan_i2v, "ftfy", types.SimpleNamespace(fix_text=str), raising=False)
    one = member("wan-image")
    with captured(one.pipe) as calls:
        _, trace = attached(one, lab.Probe(lab.skip([1], prompt="none")))
    module, args, kwargs = calls.made[0]
    empty, _ = one.pipe.encode_prompt("", do_classifier_free_guidance=False, max_sequence_length=512)
    oracle = copy.deepcopy(module)
    del oracle.blocks[1]
    with torch.no_grad():
        expected = oracle(*args, **{**kwargs, "encoder_hidden_states": empty})[0]
    assert torch.equal(branch(trace.recording, "skip", 0), expected)


def test_a_last_picture_changes_nothing_in_how_it_is_guided():
    one = member("wan-image")
    tokens = 2 * (1 + 2 * 2)  # what CLIP sees of two pictures
    one.pipe.register_modules(transformer=another(one.pipe.transformer, pos_embed_seq_len=tokens))
    one.call |= {"last_image": picture(32, 64).rotate(180)}
    stock = tensor(one.stock())
    recorded, trace = attached(one, lab.Probe(lab.skip([1])))
    assert torch.equal(recorded, stock)
    assert trace.rebuilt


@pytest.mark.parametrize("name", ["wan-image", "wan-5b", "wan-5b-image"])
def test_the_scheduler_of_the_checkpoints_is_recorded_and_guided_alike(name):
    one = member(name)
    one.pipe.scheduler = UniPCMultistepScheduler(**FLOW)
    stock = tensor(one.stock())
    recorded, trace = attached(one, lab.Probe(lab.skip([1])))
    assert torch.equal(recorded, stock)
    assert trace.rebuilt
    x0 = trace.recording.x0("guided").isel(step=-1)
    final = trace.recording.ds.final
    assert abs(x0 - final).max() < 0.2 * abs(final).max()  # the last step leads to x0, but for the corrector


def test_both_transformers_of_wan_22_are_guided():
    """A14B: a model for high and one for low noise, without embeddings of the picture."""
    first = member("wan-image").pipe
    two = [another(first.transformer, seed, image_dim=None, added_kv_proj_dim=None) for seed in (0, 1)]
    parts = {n: first.components[n] for n in ("tokenizer", "text_encoder", "vae", "scheduler")}
    pipe = WanImageToVideoPipeline(**parts, transformer=two[0], transformer_2=two[1], boundary_ratio=0.8)
    pipe.set_progress_bar_config(disable=True)
    call = {**embeds(6, 16), "height": 32, "width": 64, "num_frames": 9, "image": picture(32, 64)}
    one = OnePicture(pipe, {**call, "guidance_scale": 4.0, "guidance_scale_2": 2.0, "num_inference_steps": 4})
    stock = tensor(one.stock())
    with captured(pipe) as calls:
        recorded, trace = attached(one, lab.Probe(lab.skip([1])))
    assert torch.equal(recorded, stock)
    assert trace.rebuilt
    assert {module for module, _, _ in calls.made} == set(two)
    guided, trace = attached(one, WEAK)
    scales = [4.0 if module is two[0] else 2.0 for module, _, _ in calls.made[::2]]
    for step, scale in enumerate(scales):
        c, u, p = (branch(trace.recording, name, step) for name in ("cond", "uncond", "skip"))
        assert torch.equal(branch(trace.recording, "guided", step), u + scale * (c - u) + (c - p))
    assert not torch.equal(guided, stock)
    assert left_behind(pipe) == []
