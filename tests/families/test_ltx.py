"""What only LTX has: packed latents, a given picture, and LTX-2's sound and guidance of its own."""

import numpy as np
import pytest
import torch
from kit.trust import attached
from kit.watch import branch, left_behind
from kit.zoo import STEPS, generators, member

import stg_lab as lab
from stg_lab.errors import UnsupportedPipelineError

NATIVE = {"stg_scale": 1.0, "modality_scale": 3.0, "guidance_rescale": 0.7, "spatio_temporal_guidance_blocks": [1]}


def test_latents_returned_as_tokens_are_shown_by_the_sizes_of_the_call():
    for name in ("ltx", "ltx-image", "ltx2"):
        one = member(name)
        call = {**one.call, "num_inference_steps": 2}
        shown = lab.sample(one.pipe, record=False, output_type="np", **call).video
        assert np.allclose(lab.sample(one.pipe, record=False, output_type="latent", **call).video, shown, atol=1e-5)


def test_tokens_without_their_sizes_are_not_decoded():
    one = member("ltx")
    with pytest.raises(lab.CallError, match=r"\(1, 96, 8\).*packed tokens.*run.recording.ds.final"):
        lab.decode(one.pipe, one.stock())


def test_a_vae_that_wants_a_timestep_decodes_as_the_pipeline_by_default():
    one = member("ltx")
    vae = type(one.pipe.vae).from_config(one.pipe.vae.config, timestep_conditioning=True)
    one.pipe.register_modules(vae=vae.eval())
    shown = one.stock(output_type="np")
    _, trace = attached(one)
    assert np.allclose(lab.decode(one.pipe, trace.recording.ds.final), shown, atol=1e-5)


def test_a_schedule_that_is_not_numbers_is_told():
    with pytest.raises(UnsupportedPipelineError, match="1 steps that are not numbers"):
        attached(member("ltx"), num_inference_steps=1)


@pytest.mark.parametrize("name", ["ltx", "ltx-image"])
def test_the_pipelines_own_rescaling_is_told_before_any_weak_pass(name):
    one = member(name)
    with pytest.raises(
        lab.GuidanceError, match=r"rescales with guidance_rescale=0\.7\. Call it with guidance_rescale=0"
    ):
        attached(one, lab.STG(1.0, lab.skip([1])), guidance_rescale=0.7)
    with pytest.warns(UserWarning, match="recording only"):
        _, trace = attached(one, guidance_rescale=0.7)
    assert trace.rebuilt is False


def test_the_given_picture_stands_in_every_recorded_step():
    one = member("ltx-image")
    returned, trace = attached(one, lab.STG(1.0, lab.skip([1])))
    ds, whole = trace.recording.ds, one.unpacked(returned)
    picture = whole[:, :, 0].numpy()
    assert ds.sizes["frame"] == whole.shape[2]
    for step in range(STEPS):
        assert np.array_equal(ds.x_t.isel(step=step, frame=0).values, picture)
        assert np.array_equal(trace.recording.x0("skip").isel(step=step, frame=0).values, picture)
    assert not ds.prediction.isel(frame=0).values.any()
    assert ds.prediction.isel(frame=1).values.all()


def test_restart_leaves_the_given_picture_alone():
    one = member("ltx-image")
    guidance = lab.STG(1.0, lab.skip([1]))
    plain, _ = attached(one, guidance, num_inference_steps=4)
    restarted, _ = attached(one, guidance.restart(0.3, 0.999), num_inference_steps=4)
    a, b = one.unpacked(plain), one.unpacked(restarted)
    assert torch.equal(a[:, :, 0], b[:, :, 0])
    assert not torch.equal(a[:, :, 1:], b[:, :, 1:])


# ---- LTX-2 ----


def sounding(one, guidance=None, **call):
    """Video, sound and trace of a call of LTX-2."""
    with lab.attach(one.pipe, guidance=guidance, record=True) as trace:
        output = one.pipe(generator=generators(0, 1), **one.arguments(call))
    return output.frames, output.audio, trace


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_the_pipelines_own_guidance_is_rebuilt_and_its_passes_are_branches(scale):
    one = member("ltx2")
    stock = one.pipe(generator=generators(0, 1), **one.arguments({**NATIVE, "guidance_scale": scale}))
    video, sound, trace = sounding(one, guidance_scale=scale, **NATIVE)
    assert trace.rebuilt
    assert torch.equal(video, stock.frames)
    assert torch.equal(sound, stock.audio)
    branches = ["cond", *["uncond"] * (scale > 1), "stg", "modality", "guided"]
    assert list(trace.recording.branches) == branches
    assert all(not torch.equal(branch(trace.recording, "cond", 0), branch(trace.recording, b, 0)) for b in branches[1:])
    assert left_behind(one.pipe) == []


def test_skipping_attention_is_the_pipelines_own_stg_where_both_run_at_one_batch():
    one = member("ltx2")
    _, _, trace = sounding(one, lab.Probe(lab.skip([1], part="attention")), guidance_scale=1.0, **NATIVE)
    for step in range(STEPS):
        assert torch.equal(branch(trace.recording, "skip", step), branch(trace.recording, "stg", step))


def test_the_labs_guidance_does_not_replace_the_pipelines_own_unasked():
    one = member("ltx2")
    told = r"stg_scale=1, modality_scale=3, guidance_rescale=0.7\. Call it with stg_scale=0, modality_scale=1, guidance_rescale=0"
    for guidance in (lab.STG(1.0, lab.skip([1])), lab.CFG(3)):
        with pytest.raises(lab.GuidanceError, match=told):
            sounding(one, guidance, **NATIVE)


def test_guidance_acts_on_the_video_and_the_sound_is_guided_by_the_pipeline():
    one = member("ltx2")
    one.pipe.scheduler = type(one.pipe.scheduler)(shift=3.0)  # one with the settings of LTX-2 cannot make a single step
    stock, silent, _ = sounding(one, num_inference_steps=1)
    video, sound, trace = sounding(one, lab.STG(1.0, lab.skip([1])), num_inference_steps=1)
    assert trace.rebuilt
    assert not torch.equal(video, stock)
    assert torch.equal(sound, silent)  # of one step: later ones see the other video


def test_restart_is_refused_since_the_sound_would_stay_behind():
    with pytest.raises(lab.GuidanceError, match=r"sound.*Leave Restart out"):
        sounding(member("ltx2"), lab.STG(1.0, lab.skip([1])).restart(0.3, 0.999), num_inference_steps=4)


@pytest.mark.parametrize("axis", ["spatial", "temporal"])
def test_edits_by_place_know_tokens_of_sound_from_tokens_of_video(axis):
    _, _, trace = sounding(member("ltx2"), lab.Probe(lab.skip([1], part="attention", axis=axis)))
    assert not torch.equal(branch(trace.recording, "cond", 0), branch(trace.recording, "skip", 0))


def test_a_guidance_scale_of_1_turns_nothing_off_by_itself():
    one, rows = member("ltx2"), []
    own = ("prompt_embeds", "prompt_attention_mask", "height", "width", "num_frames")
    call = {name: value for name, value in one.call.items() if name.removeprefix("negative_") in own}
    call |= {"spatio_temporal_guidance_blocks": [1], "num_inference_steps": 2, "output_type": "latent"}

    def passes(**given):
        rows.clear()
        one.pipe(generator=generators(0, 1), **call, **given)
        return rows[: len(rows) // 2]

    handle = one.pipe.transformer.register_forward_pre_hook(lambda m, a, k: rows.append(len(k["hidden_states"])), with_kwargs=True)  # fmt: skip
    off = {"stg_scale": 0, "modality_scale": 1}
    assert passes() == passes(guidance_scale=1.0) == [2, 1, 1]
    assert passes(guidance_scale=1.0, **off) == [2, 1, 1]  # the sound still wants all of them
    sound = {"audio_guidance_scale": 1.0, "audio_stg_scale": 0, "audio_modality_scale": 1}
    assert passes(guidance_scale=1.0, **off, **sound) == [1]
    handle.remove()
