"""Open-Sora 1.2 is what its own code computes, has the names of its checkpoints, and loads, saves and refuses like others."""

import json
import math

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from kit import ROOT
from kit import opensora as tiny
from safetensors.torch import load_file, save_file
from transformers import T5Config, T5EncoderModel

import stg_lab as lab
from stg_lab.errors import CallError, ModelNotFoundError
from stg_lab.opensora import AutoencoderKLOpenSora, OpenSoraPipeline, STDiT3Transformer3DModel
from stg_lab.opensora.lengths import latent_frames, time_shift, video_frames
from stg_lab.opensora.pipeline import with_scores

DATA = ROOT / "tests" / "data"
PAGE = ROOT / "docs" / "agreement.md"
RESULT = ROOT / "benchmarks" / "results" / "opensora.json"


# ---- the numbers of the model's own code ----


@pytest.fixture(scope="module")
def ours():
    return tiny.computed()


@pytest.mark.parametrize("name", sorted(load_file(DATA / "opensora.safetensors")))
def test_it_computes_what_its_own_code_does(ours, name):
    theirs = load_file(DATA / "opensora.safetensors")[name]
    assert ours[name].shape == theirs.shape
    assert tiny.difference(ours[name], theirs) <= tiny.bar(name)
    assert theirs.abs().max() > 0.1


def test_every_comparison_ships(ours):
    assert set(load_file(DATA / "opensora.safetensors")) == set(ours)
    measured = json.loads(RESULT.read_text())["differences"]
    assert set(measured) == set(ours)
    for name, value in measured.items():
        assert value <= tiny.bar(name)
        assert f"| {name} |" in PAGE.read_text()


# ---- the layout of the checkpoints ----


def shapes(module):
    return {name: list(tensor.shape) for name, tensor in module.state_dict().items()}


def test_names_and_shapes_are_those_of_the_released_checkpoints():
    frozen = json.loads((DATA / "opensora_layout.json").read_text())
    with torch.device("meta"):
        transformer, vae = STDiT3Transformer3DModel(), AutoencoderKLOpenSora()
    found = {f"transformer {name}": shape for name, shape in shapes(transformer).items()}
    found |= {f"temporal_vae {name}": shape for name, shape in shapes(vae.temporal_vae).items()}
    assert found == frozen
    assert len(shapes(transformer)) == 973
    assert sum(p.numel() for p in transformer.parameters()) == 1_207_643_972
    assert sum(p.numel() for p in vae.temporal_vae.parameters()) == 309_687_144
    assert sum(p.numel() for p in vae.spatial_vae.parameters()) == 83_653_863


def test_the_vaes_other_entries_are_an_image_vae_and_two_statistics():
    from diffusers import AutoencoderKL

    with torch.device("meta"):
        vae = AutoencoderKLOpenSora()
        image = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4,
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        )  # fmt: skip
    rest = {name: shape for name, shape in shapes(vae).items() if not name.startswith("temporal_vae.")}
    expected = {f"spatial_vae.module.{name}": shape for name, shape in shapes(image).items()}
    assert rest == expected | {"scale": [1, 4, 1, 1, 1], "shift": [1, 4, 1, 1, 1]}


# ---- lengths and times ----


@pytest.mark.parametrize(("frames", "latents"), [(1, 1), (5, 2), (17, 5), (51, 15), (102, 30), (204, 60), (22, 7)])
def test_lengths(frames, latents):
    assert latent_frames(frames) == latents
    assert latent_frames(video_frames(latents)) == latents
    assert video_frames(latents) >= frames


@pytest.mark.parametrize(
    ("frames", "height", "width", "shift"), [(51, 240, 426, 2.42), (51, 480, 854, 4.84), (102, 720, 1280, 10.3)]
)
def test_large_videos_stay_longer_at_high_noise(frames, height, width, shift):
    assert time_shift(frames, height, width) == pytest.approx(shift, rel=5e-3)
    pipe, size = tiny.pipeline(), {"num_frames": frames, "height": height, "width": width}
    exact = time_shift(**size)
    expected = [1000 * exact * u / (1 + (exact - 1) * u) for u in (1 - i / 30 for i in range(30))]
    for scheduler in (
        FlowMatchEulerDiscreteScheduler(),
        FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        FlowMatchEulerDiscreteScheduler(shift=exact),
    ):
        scheduler.set_timesteps(**pipe.spacing(scheduler, 30, **size))
        assert np.allclose(scheduler.timesteps, expected, rtol=1e-5)


def test_a_picture_counts_as_one_frame():
    assert time_shift(1, 512, 512) == 1
    assert time_shift(17, 512, 512) == math.sqrt(5)


# ---- what the model must do ----


def test_all_frames_to_be_made_is_no_mask():
    call = {**tiny.inputs(1), **tiny.TOLD}
    every = torch.ones(1, tiny.LATENTS[1], dtype=torch.bool)
    with torch.no_grad():
        plain, masked = tiny.transformer()(**call).sample, tiny.transformer()(**call, frame_mask=every).sample
    assert torch.equal(plain, masked)


def test_words_that_are_padding_change_nothing():
    given = tiny.inputs(1)
    call = {**given, "encoder_attention_mask": tiny.mask(), **tiny.TOLD}
    other = given["encoder_hidden_states"].clone()
    other[:, tiny.SEEN :] += 5
    with torch.no_grad():
        first = tiny.transformer()(**call).sample
        assert torch.equal(first, tiny.transformer()(**{**call, "encoder_hidden_states": other}).sample)
        other[:, tiny.SEEN - 1] += 5
        assert not torch.equal(first, tiny.transformer()(**{**call, "encoder_hidden_states": other}).sample)


def test_the_checkpoints_own_form_of_arguments_is_the_same():
    given = tiny.inputs(2)
    told = {name: torch.tensor([value, value]) for name, value in tiny.TOLD.items()}
    other = {**given, "encoder_hidden_states": given["encoder_hidden_states"][:, None]}
    with torch.no_grad():
        assert torch.equal(tiny.transformer()(**given, **tiny.TOLD).sample, tiny.transformer()(**other, **told).sample)
    with pytest.raises(CallError, match="videos of a batch have one size"):
        tiny.transformer()(**given, **{**told, "height": torch.tensor([56, 64])})
    with pytest.raises(CallError, match="fps has 3 rows for a batch of 2"):
        tiny.transformer()(**given, **{**told, "fps": torch.tensor([24, 24, 24])})


def test_rotary_frequencies_stay_in_float32_in_a_narrow_model(tmp_path):
    exact = tiny.transformer().rope.freqs
    tiny.transformer().save_pretrained(tmp_path)
    loaded = STDiT3Transformer3DModel.from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    moved = STDiT3Transformer3DModel(**tiny.TRANSFORMER).to(torch.bfloat16)
    for model in (loaded, moved, moved.to("cpu", torch.float16)):
        assert torch.equal(model.rope.freqs, exact)
        assert model.rope.freqs.requires_grad is False
        assert next(model.parameters()).dtype == model.dtype != torch.float32
    assert loaded(**tiny.inputs(1), **tiny.TOLD).sample.dtype == torch.float32


def test_weights_can_be_kept_in_eight_bits():
    model = tiny.fill(STDiT3Transformer3DModel(**tiny.TRANSFORMER))
    call = {**tiny.inputs(1), **tiny.TOLD}
    with torch.no_grad():
        whole = model(**call).sample
        model.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
        assert model.spatial_blocks[0].attn.qkv.weight.dtype == torch.float8_e4m3fn
        rounded = model(**call).sample
    assert 0 < (rounded - whole).norm() / whole.norm() < 0.2


def test_a_fresh_temporal_block_adds_nothing():
    model = STDiT3Transformer3DModel(**tiny.TRANSFORMER).eval()
    given = tiny.block_inputs()
    block, time = model.temporal_blocks[0], given["time"].view(1, 1, 6, -1)
    assert torch.equal(block(given["tokens"], given["words"], time, 5, None, model.rope(5)), given["tokens"])
    assert not torch.equal(model.spatial_blocks[0](given["tokens"], given["words"], time, 5), given["tokens"])


def test_checkpointing_changes_no_gradient():
    def gradient(again):
        model = tiny.fill(STDiT3Transformer3DModel(**tiny.TRANSFORMER)).train()
        if again:
            model.enable_gradient_checkpointing()
        model(**tiny.inputs(1), **tiny.TOLD).sample.square().mean().backward()
        return model.spatial_blocks[0].attn.qkv.weight.grad

    assert torch.equal(gradient(False), gradient(True))


def test_sizes_that_do_not_fit_are_told():
    with pytest.raises(CallError, match="divisible by 4 and by twice the number of heads, got 50 and 2 heads"):
        STDiT3Transformer3DModel(**{**tiny.TRANSFORMER, "hidden_size": 50})


# ---- the VAE ----


def test_slicing_and_micro_batches_are_about_memory_alone():
    z = tiny.numbers("two", 2, 4, 5, 2, 2)
    with torch.no_grad():
        whole = tiny.vae().decode(z).sample
        tiny.vae().enable_slicing()
        sliced = tiny.vae().decode(z).sample
        tiny.vae().disable_slicing()
        tiny.vae().spatial_vae.at_once = 17
        many = tiny.vae().decode(z).sample
        tiny.vae().spatial_vae.at_once = 4
    assert whole.shape == (2, 3, 17, 16, 16)
    assert torch.allclose(sliced, whole, atol=1e-5)
    assert torch.allclose(many, whole, atol=1e-5)
    tiny.vae().enable_tiling()
    assert tiny.vae().spatial_vae.module.use_tiling
    tiny.vae().disable_tiling()
    assert not tiny.vae().use_tiling


def test_a_posterior_is_that_of_scaled_latents():
    """Its mean and deviation, against samples of the two halves by hand."""
    video = tiny.numbers("video", 1, 3, 17, 16, 16)
    vae = tiny.vae()
    with torch.no_grad():
        posterior = vae.encode(video).latent_dist
        frames = vae.spatial_vae.module.encode(video[0].transpose(0, 1)).latent_dist.mode() * 0.18215
        mean, logvar = vae.temporal_vae.encode(frames.transpose(0, 1)[None]).chunk(2, dim=1)
    assert torch.allclose(posterior.mean, (mean - vae.shift) / vae.scale, atol=1e-5)
    assert torch.allclose(posterior.std, (0.5 * logvar).exp() / vae.scale, rtol=1e-4)


def test_a_length_that_latents_do_not_have_is_told():
    with pytest.raises(CallError, match="18 frames have 6 latent frames, got 5, which can be 17 frames"):
        tiny.vae().decode(torch.zeros(1, 4, 5, 2, 2), num_frames=18)


# ---- the pipeline ----

SMALL = {"num_frames": 17, "height": 16, "width": 16, "num_inference_steps": 2, "output_type": "np"}


def call(**changes):
    given = {"prompt_embeds": tiny.numbers("one", 1, 12, 16), "prompt_attention_mask": tiny.mask()}
    return {**given, **SMALL, "generator": torch.manual_seed(0), **changes}


def test_saved_and_loaded_it_makes_the_same_video(tmp_path):
    pipe = tiny.pipeline()
    pipe.save_pretrained(tmp_path / "saved")
    stock = pipe(**call()).frames
    assert stock.shape == (1, 17, 16, 16, 3)
    for again in (OpenSoraPipeline.from_pretrained(tmp_path / "saved"), lab.load(tmp_path / "saved")):
        assert type(again) is OpenSoraPipeline
        again.set_progress_bar_config(disable=True)
        assert np.array_equal(again(**call()).frames, stock)


def test_lengths_that_are_not_whole_clips_and_pictures():
    for frames in (1, 22):
        assert tiny.pipeline()(**call(num_frames=frames)).frames.shape[1] == frames


def test_pictures_are_told_another_frame_rate(monkeypatch):
    told, forward = [], tiny.transformer().forward

    def seen(**given):
        told.append(given["fps"])
        return forward(**given)

    monkeypatch.setattr(tiny.transformer(), "forward", seen)
    for changes in ({"num_frames": 1}, {}, {"fps": 8}):
        tiny.pipeline()(**call(**changes, num_inference_steps=1, output_type="latent"))
    assert told == [120, 24, 8]


def test_without_guidance_there_is_one_row_and_no_null_caption(monkeypatch):
    rows, forward = [], tiny.transformer().forward

    def seen(**given):
        rows.append(len(given["hidden_states"]))
        return forward(**given)

    monkeypatch.setattr(tiny.transformer(), "forward", seen)
    tiny.pipeline()(**call(guidance_scale=1.0, output_type="latent"))
    tiny.pipeline()(**call(output_type="latent"))
    assert rows == [1, 1, 2, 2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_frames": 5}, "17 frames or more, or pictures, got num_frames=5. Type num_frames=17"),
        ({"height": 4}, "at least 8 x 8 pixels, got height=4"),
        ({"prompt": "a cat"}, "either a prompt or prompt_embeds"),
        ({"prompt_embeds": None, "prompt": "a cat"}, "no text encoder.*text_encoder=.*prompt_embeds"),
        ({"prompt_embeds": torch.zeros(1, 13, 16)}, r"12 words at most and 16 features, got \(1, 13, 16\)"),
        ({"prompt_attention_mask": torch.zeros(1, 12)}, "a word in every row"),
        ({"latents": torch.zeros(1, 4, 4, 2, 2)}, r"latents of this call are \(1, 4, 5, 2, 2\)"),
        ({"generator": [torch.manual_seed(0)] * 2}, "a generator for each of the 1 videos"),
        ({"callback_on_step_end_tensor_inputs": ["mask"]}, "callbacks can be given latents, prompt_embeds"),
    ],
)
def test_what_cannot_be_sampled_is_told_before_it_is_tried(changes, message):
    with pytest.raises(CallError, match=message):
        tiny.pipeline()(**call(**changes))


def test_prompts_say_how_videos_look_unless_they_do_already():
    assert with_scores("a cat", 6.5, None, None) == "a cat aesthetic score: 6.5."
    assert (
        with_scores("a cat", 5, 4, "pan left")
        == "a cat aesthetic score: 5.0. motion score: 4.0. camera motion: pan left."
    )
    assert with_scores("a cat aesthetic score: 7.", 6.5, None, None) == "a cat aesthetic score: 7."


# ---- the released checkpoints ----


@pytest.fixture
def released(tmp_path):
    """Two folders as the released checkpoints are, with tiny weights."""
    kinds = {
        "A": (tiny.transformer(), "STDiT3", tiny.TRANSFORMER),
        "B": (tiny.vae(), "VideoAutoencoderPipeline", tiny.VAE),
    }
    more = {"A": {"drop_path": 0.0, "skip_y_embedder": False}, "B": {"micro_frame_size": 17, "vae_2d": {"type": "x"}}}
    for name, (model, kind, sizes) in kinds.items():
        (tmp_path / name).mkdir()
        config = {"model_type": kind, "architectures": [kind], **sizes, **more[name]}
        (tmp_path / name / "config.json").write_text(json.dumps(config))
        save_file(model.state_dict(), tmp_path / name / "model.safetensors")
    return tmp_path / "A", tmp_path / "B"


def test_the_released_checkpoints_load_with_every_weight_in_its_place(released):
    folder, vae = released
    pipe = lab.load(folder, vae=vae)
    for loaded, known in ((pipe.transformer, tiny.transformer()), (pipe.vae, tiny.vae())):
        assert loaded.state_dict().keys() == known.state_dict().keys()
        assert all(torch.equal(value, known.state_dict()[name]) for name, value in loaded.state_dict().items())
    pipe.set_progress_bar_config(disable=True)
    assert np.array_equal(pipe(**call()).frames, tiny.pipeline()(**call()).frames)
    narrow = lab.load(folder, vae=pipe.vae, dtype=torch.bfloat16)
    assert narrow.vae is pipe.vae
    assert narrow.transformer.dtype == torch.bfloat16
    assert narrow.transformer.rope.freqs.dtype == torch.float32


def test_a_text_encoder_of_ones_own_reads_prompts(released, tmp_path):
    def t5(width):
        config = T5Config(vocab_size=40, d_model=width, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
        return T5EncoderModel(config).eval()

    tokenizer = lab.load("digits-joint").tokenizer
    pipe = lab.load(released[0], vae=released[1], text_encoder=t5(16), tokenizer=tokenizer)
    embeds, mask = pipe.encode_prompt(["a red seven", "a blue two moving left"])
    assert embeds.shape == (2, 12, 16)
    assert mask.sum(dim=1).tolist() == [4, 6]
    t5(16).save_pretrained(tmp_path / "T5")
    tokenizer.save_pretrained(tmp_path / "T5")
    read = lab.load(released[0], vae=released[1], text_encoder=tmp_path / "T5")
    assert read.encode_prompt(["a red seven"])[0].shape == (1, 12, 16)
    with pytest.raises(ModelNotFoundError, match="A is no T5 encoder: it has no"):
        lab.load(released[0], vae=released[1], text_encoder=released[0])
    with pytest.raises(CallError, match=r"captions of 16 features.*the text encoder has 8"):
        lab.load(released[0], vae=released[1], text_encoder=t5(8), tokenizer=tokenizer)


def test_weights_that_do_not_fit_are_refused(released):
    folder, vae = released
    weights = load_file(folder / "model.safetensors")
    weights["final_layer.other"] = weights.pop("final_layer.linear.bias")
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(ModelNotFoundError, match=r"final_layer\.linear\.bias.*final_layer\.other") as caught:
        lab.load(folder, vae=vae)
    assert "\n" not in str(caught.value)


def test_a_setting_that_is_not_known_is_refused(released):
    config = released[0] / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"skip_y_embedder": True}))
    with pytest.raises(CallError, match=r"skip_y_embedder=True, which is not Open-Sora 1\.2 as released"):
        lab.load(released[0], vae=released[1])


def test_a_folder_without_weights_is_told(released):
    (released[1] / "model.safetensors").unlink()
    with pytest.raises(ModelNotFoundError, match=r"B has no model\.safetensors"):
        lab.load(released[0], vae=released[1])


def test_an_argument_that_is_not_taken_is_told(released):
    with pytest.raises(CallError, match=r"loaded with vae, text_encoder.*got 'variant'"):
        lab.load(released[0], vae=released[1], variant="fp16")


def test_a_text_encoder_that_cannot_be_reached_is_told_by_its_own_name(released, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelNotFoundError) as caught:
        lab.load(released[0], vae=released[1], text_encoder="nobody/none-such")
    assert "nobody/none-such" in str(caught.value)
    assert str(released[0]) not in str(caught.value)


@pytest.mark.parametrize("missing", ["both", "vae"])
def test_without_network_one_line_says_what_to_fetch(released, monkeypatch, tmp_path, missing):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    name = "hpcai-tech/OpenSora-STDiT-v3" if missing == "both" else released[0]
    with pytest.raises(ModelNotFoundError) as caught:
        lab.load(name, cache_dir=tmp_path / "cache")
    said = str(caught.value)
    assert "\n" not in said
    assert f"'hpcai-tech/OpenSora-{'STDiT-v3' if missing == 'both' else 'VAE-v1.2'}' is not in the local cache" in said
    assert "`hf download hpcai-tech/OpenSora-STDiT-v3 --local-dir A`" in said
    assert "`hf download hpcai-tech/OpenSora-VAE-v1.2 --local-dir B`, and type lab.load('A', vae='B')" in said
