"""What `sample` returns, whatever form the pipeline's output has; and making a recorded run again."""

import pickle

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan, WanPipeline
from kit.pipelines import PROMPT, Rig, randomise
from PIL import Image

import stg_lab as lab
from stg_lab.digits.i2v_pipeline import ImageArchitecture, build_i2v
from stg_lab.sampling.provenance import PICTURE_BYTES

GUIDANCE = lab.CFG(4) + lab.STG(1, lab.skip([1]))


@pytest.fixture(scope="module")
def learned(tiny) -> Rig:
    """A pipeline with Wan's own kind of VAE, tiny and random: a decoder that is no matrix."""
    vae = AutoencoderKLWan(
        base_dim=4, z_dim=24, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True],
        latents_mean=[0.1] * 24, latents_std=[1.5] * 24,
    ).eval()  # fmt: skip
    randomise(vae, seed=2)
    pipe = WanPipeline(**{**tiny.pipe.components, "vae": vae})
    pipe.set_progress_bar_config(disable=True)
    return Rig(pipe, {"height": 32, "width": 32, "num_frames": 9, "max_sequence_length": 8, "num_inference_steps": 2})


@pytest.mark.parametrize("rig", ["tiny", "learned", "digits"])
def test_every_output_type_gives_the_same_video(rig, request):
    rig = request.getfixturevalue(rig)
    stock = rig.stock(output_type="np", guidance_scale=4.0)
    for output_type, tolerance in (("np", 0), ("pt", 1e-6), ("latent", 1e-6), ("pil", 0.6 / 255)):
        run = rig.sample(lab.CFG(4), output_type=output_type, record=False)
        assert run.video.dtype == np.float32
        assert run.video.shape == stock.shape, output_type
        assert abs(run.video - stock).max() <= tolerance, output_type


def test_latents_of_as_many_frames_as_colours_are_latents_all_the_same(tiny):
    """Three latent frames (five pictures here, nine in Wan) look like three colour channels in the wrong place."""
    run = tiny.sample(lab.CFG(4), output_type="latent", record=False)
    assert run.output.frames.shape == (1, 24, 3, 8, 8)
    assert run.video.shape == (1, 5, 16, 16, 3)


def test_a_plain_tuple_is_a_video_too(tiny):
    run = tiny.sample(lab.CFG(4), output_type="np", return_dict=False, record=False)
    assert isinstance(run.output, tuple)
    assert np.array_equal(run.video, tiny.stock(output_type="np", guidance_scale=4.0))


@pytest.mark.parametrize("rig", ["tiny", "learned"])
def test_decoding_is_the_pipelines_own(rig, request):
    rig = request.getfixturevalue(rig)
    stock = rig.stock(output_type="np", guidance_scale=4.0)
    run = rig.sample(lab.CFG(4), output_type="np")
    assert np.array_equal(lab.decode(rig.pipe, run.recording.ds.final), stock)
    assert np.array_equal(lab.decode(rig.pipe, run.recording.x0("guided").isel(step=-1)), stock)
    assert np.array_equal(lab.decode(rig.pipe, rig.stock(guidance_scale=4.0)), stock)


def test_a_recording_of_a_learned_decoder_has_no_preview_and_says_what_to_type(learned):
    recording = learned.sample(lab.CFG(4)).recording
    with pytest.raises(lab.RecordingError, match=r"no linear preview.*lab.decode\(pipe, rec.x0\('cond'\)"):
        recording.video()


def test_a_run_knows_its_call(tiny):
    run = tiny.sample(GUIDANCE, prompt=[PROMPT, ""], output_type="np", record=False)
    assert run.captions == [PROMPT, ""]
    assert run.guidance == GUIDANCE
    assert run.call["guidance_scale"] == 4
    assert run.pipe is tiny.pipe
    assert repr(run) == "Run(2 videos of 5 frames, 16 x 16, CFG(4) + STG(1, skip:block:1))"
    assert "data:image/png;base64," in run._repr_html_()


@pytest.mark.parametrize(
    ("guidance", "call", "scale"),
    [
        (GUIDANCE, {}, 4.0),
        (lab.STG(1, lab.skip([1])), {}, 1.0),
        (lab.STG(1, lab.skip([1])), {"guidance_scale": 3.0}, 3.0),
        (None, {"guidance_scale": 3.0}, 3.0),
        (None, {}, 5.0),  # the pipeline's own default
        (GUIDANCE, {"seed": 7}, 4.0),
    ],
)
def test_the_baseline_is_the_same_call_with_cfg_alone(tiny, guidance, call, scale):
    run = tiny.sample(guidance, record=False, **call)
    stock = tiny.stock(guidance_scale=scale, seed=call.get("seed", 0))
    assert torch.equal(run.baseline.output.frames, stock)
    assert run.baseline is run.baseline


def test_the_baseline_starts_from_the_same_noise_also_with_ones_own_generator(tiny):
    run = tiny.sample(GUIDANCE, generator=torch.Generator().manual_seed(9), record=False)
    stock = tiny.stock(guidance_scale=4.0, seed=9)
    assert torch.equal(run.baseline.output.frames, stock)


# ---- rerun ----


@pytest.mark.parametrize(
    "call",
    [
        {"guidance": GUIDANCE, "seed": 11},
        {"guidance": (GUIDANCE + lab.STG(1, lab.skip([2], part="attention"), start=0.5)).rescale(0.5)},
        {"guidance": lab.STG(2, lab.skip([1])), "guidance_scale": 3.0},
        {"guidance": lab.Guidance().rescale(0.7), "guidance_scale": 3.0},
        {"guidance": lab.Guidance()},
        {"guidance": None, "guidance_scale": 3.0},
        {"guidance": None},
        {"guidance": lab.CFG(3), "prompt": [PROMPT, "a blue two growing"], "num_videos_per_prompt": 2},
    ],
    ids=lambda call: f"{call['guidance']}, {call.get('guidance_scale')}",
)
def test_a_run_is_made_again_from_its_recording_bit_for_bit(tiny, tmp_path, call):
    run = tiny.sample(record=tmp_path / "run.zarr", output_type="np", **call)
    again = lab.rerun(lab.open(tmp_path / "run.zarr"), tiny.pipe)
    assert np.array_equal(again.video, run.video)
    assert np.array_equal(again.recording.ds.prediction, run.recording.ds.prediction, equal_nan=True)
    assert again.recording.captions == run.recording.captions


@pytest.mark.usefixtures("digits")
def test_a_run_is_made_again_with_the_model_that_it_names(tmp_path):
    pipe = lab.load("digits-joint")
    run = lab.sample(pipe, guidance=GUIDANCE, prompt=PROMPT, num_inference_steps=2, record=tmp_path / "a.zarr")
    recording = lab.open(tmp_path / "a.zarr")
    assert recording.settings["model"] == "digits-joint"
    assert np.array_equal(lab.rerun(recording, record=False).video, run.video)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"seed": 5}, {"guidance": GUIDANCE, "seed": 5}),
        ({"prompt": "a blue two growing"}, {"guidance": GUIDANCE, "prompt": "a blue two growing"}),
        ({"guidance": lab.CFG(4) + lab.STG(2, lab.skip([2]))}, {"guidance": lab.CFG(4) + lab.STG(2, lab.skip([2]))}),
        ({"guidance": lab.CFG(7)}, {"guidance": lab.CFG(7)}),
        ({"num_inference_steps": 2}, {"guidance": GUIDANCE, "num_inference_steps": 2}),
    ],
    ids=lambda d: str(next(iter(d.values()))),
)
def test_a_run_is_made_again_with_changes(tiny, changes, expected):
    first = tiny.sample(GUIDANCE)
    again = lab.rerun(first.recording, tiny.pipe, record=False, **changes)
    assert torch.equal(again.output.frames, tiny.sample(**expected, record=False).output.frames)


def test_a_recording_made_by_attach_cannot_be_made_again(tiny):
    with lab.attach(tiny.pipe, record=True) as trace:
        tiny.stock()
    with pytest.raises(lab.CallError, match="cannot be made again: the recording does not hold the call"):
        lab.rerun(trace.recording, tiny.pipe)


def test_a_run_from_embeddings_or_a_generator_cannot_be_made_again(tiny):
    with torch.no_grad():
        embeds, negative = tiny.pipe.encode_prompt(PROMPT, max_sequence_length=8, device="cpu")
    run = tiny.sample(GUIDANCE, prompt=None, prompt_embeds=embeds, negative_prompt_embeds=negative)
    with pytest.raises(lab.CallError, match="prompt_embeds, negative_prompt_embeds could not be kept"):
        lab.rerun(run.recording, tiny.pipe)
    run = tiny.sample(GUIDANCE, generator=torch.Generator())
    with pytest.raises(lab.CallError, match=r"Call lab.sample with the arguments yourself"):
        lab.rerun(run.recording, tiny.pipe)


@pytest.mark.parametrize(("ending", "begins"), [(".mp4", b"ftyp"), (".gif", b"GIF8")])
def test_a_run_is_saved_as_a_film(tiny, tmp_path, ending, begins):
    run = tiny.sample(lab.CFG(4), record=False)
    path = run.save(tmp_path / "new" / f"run{ending}")
    assert begins in path.read_bytes()[:12]


def test_a_run_is_saved_as_nothing_else(tiny, tmp_path):
    with pytest.raises(lab.CallError, match=r"as .mp4 or .gif, got .*run.avi"):
        tiny.sample(lab.CFG(4), record=False).save(tmp_path / "run.avi")


def test_what_a_file_could_not_hold_is_given_again(tiny):
    with torch.no_grad():
        embeds, negative = tiny.pipe.encode_prompt(PROMPT, max_sequence_length=8, device="cpu")
    texts = {"prompt_embeds": embeds, "negative_prompt_embeds": negative}
    run = tiny.sample(GUIDANCE, prompt=None, **texts)
    with pytest.raises(lab.CallError, match=r"negative_prompt_embeds could not be kept.*negative_prompt_embeds=\.\.\."):
        lab.rerun(run.recording, tiny.pipe, prompt_embeds=embeds)
    again = lab.rerun(run.recording, tiny.pipe, record=False, **texts)
    assert torch.equal(again.output.frames, run.output.frames)


def test_misspelt_changes_are_told(tiny):
    run = tiny.sample(GUIDANCE)
    with pytest.raises(lab.CallError, match=r"no argument 'sede'. Did you mean 'seed'\?"):
        lab.rerun(run.recording, tiny.pipe, sede=3)


@pytest.fixture(scope="module")
def pictured():
    pipe = build_i2v(ImageArchitecture((32, 32), (1, 1), 16, 32, 1))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def noise(side, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8))


@pytest.mark.parametrize("wrapped", [True, False], ids=["list", "alone"])
def test_small_pictures_are_kept_with_the_call(pictured, wrapped, tmp_path):
    image = [noise(32), noise(32, seed=1)] if wrapped else noise(32)
    run = lab.sample(
        pictured, guidance=lab.CFG(2), image=image, num_inference_steps=2, seed=3, record=tmp_path / "run.zarr"
    )
    again = lab.rerun(lab.open(tmp_path / "run.zarr"), pictured, record=False)
    assert np.array_equal(again.video, run.video)


def test_large_pictures_are_given_again(pictured):
    assert noise(200).width ** 2 * 3 > PICTURE_BYTES
    call = {"image": [noise(200)], "num_inference_steps": 2}
    run = lab.sample(pictured, guidance=lab.CFG(2), **call)
    with pytest.raises(lab.CallError, match=r"image could not be kept.*lab.rerun\(recording, pipe, image=\.\.\.\)"):
        lab.rerun(run.recording, pictured)
    again = lab.rerun(run.recording, pictured, image=call["image"], record=False)
    assert np.array_equal(again.video, run.video)
    with pytest.raises(lab.CallError, match="image could not be kept"):
        lab.ablate(pictured, 1, state=run.recording, layers=[0], progress=False)
    sweep = lab.ablate(pictured, 1, state=run.recording, layers=[0], image=call["image"], progress=False)
    assert sweep.attrs["complete"]


def test_a_run_says_why_it_cannot_be_pickled(tiny):
    run = tiny.sample(GUIDANCE, record=False, num_inference_steps=1)
    with pytest.raises(lab.CallError, match=r"cannot be pickled.*run.recording.path"):
        pickle.dumps(run)


def test_what_is_opened_is_a_place(tiny, whole):
    run = tiny.sample(GUIDANCE, num_inference_steps=1)
    for what, says in ((run, "run.recording"), (run.recording, "open already"), (5, r"lab.open\('run.zarr'\)")):
        with pytest.raises(lab.RecordingError, match=says):
            lab.open(what)
    with pytest.raises(lab.RecordingError, match=r"opens with lab\.open_ablation"):
        lab.open("layers")
    with pytest.raises(lab.RecordingError, match=r"opens with lab\.open\("):
        lab.open_ablation(whole)
