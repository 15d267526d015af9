"""The factorised model: its codec, its text as the stock pipeline has it, its data and loss, and guidance on both axes."""

import contextlib
import dataclasses

import numpy as np
import pytest
import torch
from diffusers import LattePipeline
from diffusers.models.attention_processor import AttnProcessor2_0
from kit.pipelines import TINY, generators, randomise

import stg_lab as lab
from stg_lab.digits import world
from stg_lab.digits.codec import FrameCodec
from stg_lab.digits.factorised import PADDED, Factorised, Text, build_factorised, build_scheduler
from stg_lab.digits.pipeline import PIXEL_MEAN, PIXEL_STD, build_joint
from stg_lab.digits.recipe import Recipe, Stage
from stg_lab.digits.teacher import Teacher
from stg_lab.digits.train import Trainer, train

RECIPE = Recipe(
    objective="factorised",
    stages=(Stage(1, 4, 3), Stage(9, 2, 2)),
    architecture=dataclasses.replace(TINY, blocks=2),
    warmup=2,
)
VIDEO = 3  # the first update on clips of nine frames
CAPTIONS = ["a red seven moving left", "a blue one growing", ""]  # six tokens, five and one


@pytest.fixture(autouse=True)
def _settings_of_torch():
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


@pytest.fixture(scope="module")
def trainer(tmp_path_factory):
    made = Trainer(RECIPE, tmp_path_factory.mktemp("run"), "cpu", compile=False)
    randomise(made.model)
    return made


@pytest.fixture(scope="module")
def pipe():
    made = build_factorised(RECIPE.architecture)
    randomise(made.transformer)
    made.set_progress_bar_config(disable=True)
    return made


# ---- codec ----


@pytest.mark.parametrize("channels", [(3,), (3, 12), (3, 12, 48)])
def test_decoding_undoes_encoding_and_the_pipeline_knows_the_factor(channels, pipe):
    codec = FrameCodec(channels, pixel_mean=-0.62, pixel_std=0.42)
    x = torch.rand(2, 3, 8, 12, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latents = codec.encode(x).latent_dist
    s = LattePipeline(None, None, codec, pipe.transformer, pipe.scheduler).vae_scale_factor
    assert latents.mode().shape == (2, channels[-1], 8 // s, 12 // s)
    assert torch.equal(latents.sample(), latents.mode())
    assert torch.allclose(codec.decode(latents.mode()).sample, x, atol=1e-6)
    (again,) = codec.encode(x, return_dict=False)
    (back,) = codec.decode(again.mode(), return_dict=False)
    assert torch.equal(back, codec.decode(latents.mode()).sample)


def test_a_latent_pixel_holds_its_block_of_pixels_normalised():
    codec, x = FrameCodec(pixel_mean=0.5, pixel_std=2.0), torch.randn(2, 3, 4, 6)
    z = codec.encode(x).latent_dist.mode()
    for channel in range(12):
        colour, row, column = channel // 4, channel // 2 % 2, channel % 2
        assert torch.allclose(z[:, channel], (x[:, colour, row::2, column::2] - 0.5) / 2)


@pytest.mark.parametrize("given", [{"block_out_channels": (4, 16)}, {"latent_channels": 4}, {"block_out_channels": ()}])
def test_channels_that_are_not_rearranged_pixels_are_refused(given):
    with pytest.raises(ValueError, match=r"only rearranged make \(3, 12\), \(3, 12, 48\)"):
        FrameCodec(**given)


def test_what_a_codec_cannot_do_is_refused():
    with pytest.raises(ValueError, match=r"scaling_factor is 0.18, but pixel_std does the scaling"):
        FrameCodec(scaling_factor=0.18)
    with pytest.raises(ValueError, match="needs sides divisible by 2, got 7 x 8"):
        FrameCodec().encode(torch.zeros(1, 3, 7, 8))


# ---- text ----


def expanded(text, encoder):
    """Each caption's tokens written out, as many pad tokens as the bias stands for."""
    encoded = text.encoded(encoder, torch.device("cpu"))
    for row, mask, bias in zip(encoded, text.mask, text.bias, strict=True):
        real = int(mask.sum())
        pads = round(bias[real].exp().item())
        assert (bias[:real] == 0).all()
        assert (bias[real + 1 :] == -torch.inf).all()
        yield torch.cat([row[:real], row[real].expand(pads, -1)])


def stock(pipe, tokens, length, kept):
    """The same from the stock pipeline: as a prompt or as the negative prompt, alone or in a batch."""
    caption = pipe.tokenizer.decode(tokens, skip_special_tokens=True)
    if length == PADDED:
        prompt = [caption, "a green three standing still"]
    else:  # only a prompt of this length makes the negative prompt as long
        prompt = next(c for c in CAPTIONS if len(pipe.tokenizer(c).input_ids) == length) if kept else caption
    positive, negative = pipe.encode_prompt(prompt, do_classifier_free_guidance=True, negative_prompt="")
    return (negative if kept else positive)[0]


def test_text_in_training_is_text_in_the_pipeline(trainer):
    g, forms = torch.Generator().manual_seed(0), set()
    pipe, dropout = trainer.pipe, dataclasses.replace(RECIPE, caption_dropout=0.5)
    objective = type(trainer.objective)(dropout)
    objective.pipe = pipe
    with torch.no_grad():
        text = objective.text(CAPTIONS[:2] * 30, g, alone=0.5)
        for i, row in enumerate(expanded(text, pipe.text_encoder)):
            kept = bool(text.kept[i])
            expected = stock(pipe, text.tokens[i], len(row), kept)
            assert torch.allclose(row, expected, atol=1e-5)
            forms.add((len(row), kept))
    assert forms == {(1, False), (5, False), (6, False), (PADDED, False), (5, True), (6, True), (PADDED, True)}


def test_the_encoder_reads_the_order_of_words(pipe):
    with torch.no_grad():
        one, two = (pipe.encode_prompt(t, False)[0] for t in ("red seven", "seven red"))
    assert (one - two.flip(1)).abs().max() > 1e-3  # not a mere bag of words


@pytest.mark.parametrize("together", [True, False], ids=["in a batch", "alone"])
def test_the_transformer_takes_one_pad_token_for_all(trainer, monkeypatch, together):
    """The loss of captions of several lengths is the stock transformer's on the stock pipeline's text, guided or not."""
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: contextlib.nullcontext())  # float32 all through
    pipe, batch = trainer.pipe, trainer.data(VIDEO)
    kept = torch.tensor([False, True])
    own = torch.tensor([6, 1])
    pads = (PADDED if together else torch.tensor([6, 6])) - own
    batch = dataclasses.replace(batch, text=Text.of(pipe.tokenizer, [CAPTIONS[0], ""], pads, kept))
    x = build_scheduler().add_noise(batch.x0, batch.noise, batch.timestep)
    prompt = [CAPTIONS[0], "a blue one growing"] if together else CAPTIONS[0]
    with torch.no_grad():
        loss = trainer.loss(batch)
        positive, negative = pipe.encode_prompt(prompt)
        text = torch.cat([positive[:1], negative[:1]])
        plain = pipe.transformer(x, batch.timestep, text).sample[:, :12]
        real = pipe.transformer(x, batch.timestep, text[:, :6]).sample[:, :12]
    expected = (plain - batch.noise).square().mean((1, 2, 3, 4)) * trainer.objective.weight(batch.timestep)
    assert torch.allclose(loss, expected, rtol=1e-4)
    assert not together or (plain - real).abs().max() > 1e-2  # pad tokens matter


# ---- data and loss ----


def test_data_is_a_function_of_the_update_alone(trainer, tmp_path):
    other = Trainer(RECIPE, tmp_path, "cpu", compile=False)
    other.data(0)
    one, two = trainer.data(VIDEO), other.data(VIDEO)
    for name in ("x0", "noise", "timestep"):
        assert torch.equal(getattr(one, name), getattr(two, name))
    for field in dataclasses.fields(Text):
        assert torch.equal(getattr(one.text, field.name), getattr(two.text, field.name))
    assert not torch.equal(one.noise, trainer.data(VIDEO + 1).noise)


def test_data_is_the_worlds_clips_with_unit_variance(trainer):
    assert trainer.data(0).x0.shape == (4, 12, 1, 16, 16)
    x0 = torch.cat([trainer.data(update).x0 for update in range(VIDEO, VIDEO + 20)])
    assert x0.shape == (40, 12, 9, 16, 16)
    assert abs(x0.mean()) < 0.15
    assert abs(x0.std() - 1) < 0.15
    clips, _ = trainer.objective.clips(VIDEO, "train")
    frames = trainer.pipe.vae.decode(trainer.data(VIDEO).x0.transpose(1, 2).flatten(0, 1)).sample
    shown = frames.unflatten(0, (2, 9)).permute(0, 1, 3, 4, 2) / 2 + 0.5
    assert torch.allclose(shown, world.render(clips), atol=1e-6)


def test_the_perfect_prediction_has_no_loss_at_any_noise_level(trainer):
    """x_t = sqrt(abar) x0 + sqrt(1 - abar) eps with abar the running product of 1 - beta, beta from 1e-4 to 0.02."""
    abar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    batch, seen = trainer.data(VIDEO), {}

    def forward(error):
        def predict(**given):
            seen.update(given)
            return (torch.cat([batch.noise + error, torch.full_like(batch.noise, 7.0)], dim=1),)

        return predict

    for t in (0, 41, 333, 999):
        batch.timestep[:] = t
        perfect = trainer.objective.loss(forward(0), batch, torch.device("cpu"))
        assert torch.equal(perfect, torch.zeros(2))
        assert torch.equal(seen["timestep"], batch.timestep)
        x_t = abar[t] ** 0.5 * batch.x0 + (1 - abar[t]) ** 0.5 * batch.noise
        assert torch.allclose(seen["hidden_states"], x_t.float(), atol=1e-4)
        off = trainer.objective.loss(forward(0.1), batch, torch.device("cpu"))
        assert torch.allclose(off, torch.full((2,), 0.01 * min(1 / abar[t], RECIPE.heaviest)).float(), rtol=1e-3)


def test_timesteps_reach_over_the_whole_schedule(trainer):
    recipe = dataclasses.replace(RECIPE, stages=(Stage(1, 400, 1),))
    t = type(trainer.objective)(recipe).data(0).timestep
    assert t.min() < 20
    assert t.max() > 979
    assert abs(t.float().mean() - 500) < 50


def test_muon_gets_the_matrices_of_both_kinds_of_block_and_nothing_else(trainer):
    chosen = {n for n, p in trainer.model.named_parameters() if trainer.objective.in_blocks(n, p)}
    assert "transformer.transformer_blocks.1.attn2.to_k.weight" in chosen
    assert "transformer.temporal_transformer_blocks.0.ff.net.0.proj.weight" in chosen
    assert not any(n.endswith(("scale_shift_table", "bias")) or n.startswith("text.") for n in chosen)


# ---- sampling ----


@pytest.mark.parametrize(("steps", "left"), [(25, 1e-3), (24, 0.05)])
def test_the_schedule_starts_in_noise_and_its_steps_end_in_the_clip(steps, left):
    """With the exact noise prediction for one clip, the stock steps lead to that clip.

    Where the number of steps does not divide 1000, DDIM's whole stride stops at the first timestep: 1 % noise is left.
    """
    scheduler, g = build_scheduler(), torch.Generator().manual_seed(0)
    x0 = torch.randn(1, 12, 2, 4, 4, generator=g) * 3
    scheduler.set_timesteps(steps)
    assert scheduler.timesteps[0] == 999
    assert (scheduler.timesteps.diff() < 0).all()
    assert scheduler.alphas_cumprod[-1] < 1e-4
    x = torch.randn(x0.shape, generator=g)
    for t in scheduler.timesteps:
        abar = scheduler.alphas_cumprod[t]
        x = scheduler.step((x - abar**0.5 * x0) / (1 - abar) ** 0.5, t, x).prev_sample
    assert torch.allclose(x, x0, atol=left)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """A model that was trained a little, saved and loaded again."""
    folder = tmp_path_factory.mktemp("factorised")
    trained = train(RECIPE, folder / "run", compile=False)
    pipe = trained.averaged_pipeline()
    pipe.save_pretrained(folder / "digits-tiny")
    return trained, pipe, lab.load(folder / "digits-tiny")


def test_what_was_trained_is_stock_and_survives_its_files(loaded):
    trained, pipe, again = loaded
    assert trained.update == RECIPE.updates
    assert type(again) is LattePipeline
    assert (type(again.vae), type(again.text_encoder).__name__) == (FrameCodec, "T5EncoderModel")
    assert {type(m.processor) for m in again.transformer.modules() if hasattr(m, "processor")} == {AttnProcessor2_0}
    assert not again.transformer.training
    assert again.scheduler.alphas_cumprod.equal(pipe.scheduler.alphas_cumprod)
    assert (again.scheduler.config.timestep_spacing, again.scheduler.config.clip_sample) == ("trailing", False)
    assert dict(again.vae.config)["sample_frames"] == 9
    for name, part in trained.objective.parts(pipe).items():
        other = trained.objective.parts(again)[name].state_dict()
        assert all(torch.equal(value, other[key]) for key, value in part.state_dict().items())


def test_the_cards_example_makes_a_video(loaded):
    trained, pipe, _ = loaded
    card, given = trained.objective.card(), {"pipe": pipe}
    exec(card.example.replace("num_inference_steps=24", "num_inference_steps=2"), given)
    assert given["video"].shape == (1, 9, 32, 32, 3)


def test_the_lab_fills_in_sizes_and_leaves_the_stock_bits(loaded):
    *_, pipe = loaded
    pipe.set_progress_bar_config(disable=True)
    sizes = {"height": 32, "width": 32, "video_length": 9, "clean_caption": False, "output_type": "np"}
    call = {"prompt": CAPTIONS[:2], "num_inference_steps": 2}
    plain = pipe(**call, **sizes, guidance_scale=3.0, generator=generators(0, 2)).frames
    run = lab.sample(pipe, guidance=lab.CFG(3.0), seed=0, output_type="np", **call)
    assert np.array_equal(run.video, plain)
    made_for = dict(lab.describe(pipe).rows)["made for"]
    assert "height=32, width=32, video_length=9" in made_for
    with pytest.raises(lab.CallError, match="'purple' is not a colour"):
        lab.sample(pipe, prompt="a purple seven growing")


def test_guidance_on_both_axes_is_recorded(pipe):
    space, time = (lab.skip([1], axis=axis) for axis in ("spatial", "temporal"))
    guidance = lab.CFG(3.0) + lab.STG(1.0, space) + lab.STG(0.5, time)
    run = lab.sample(pipe, guidance=guidance, prompt=CAPTIONS[:2], num_inference_steps=2, seed=3)
    rec = run.recording
    assert run.video.shape == (2, 9, 32, 32, 3)
    branches = list(rec.ds.branch.values)
    assert branches[:2] == ["cond", "uncond"]
    assert rec.ds.prediction.shape[-4:] == (12, 9, 16, 16)
    weak = [b for b in branches if b not in ("cond", "uncond", "guided")]
    assert len(weak) == 2
    one, two = (rec.delta(b).values for b in weak)
    assert min(np.abs(one).max(), np.abs(two).max(), np.abs(one - two).max()) > 1e-4
    cond, uncond = (rec.ds.prediction.sel(branch=b).values for b in ("cond", "uncond"))
    expected = cond + 2.0 * (cond - uncond) + 1.0 * one + 0.5 * two  # the weak models as asked, in their order
    assert np.allclose(rec.ds.prediction.sel(branch="guided").values, expected, atol=1e-4)


def test_the_preview_is_the_decoder(pipe):
    run = lab.sample(pipe, prompt=CAPTIONS[0], num_inference_steps=2, output_type="np")
    assert run.recording.preview_exact
    assert np.allclose(np.clip(run.recording.video(), 0, 1), run.video, atol=1e-5)


# ---- a teacher ----


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher")
    build_joint(TINY, seed=1).save_pretrained(folder)
    return Teacher(folder)


@pytest.fixture
def lesson(trainer):
    return dataclasses.replace(trainer.data(VIDEO), unseen=torch.randn(2, 12, 16, 16))


def ask(teacher, lesson, abar):
    abar = torch.tensor([abar, abar])
    return teacher.x0(lesson.x0, lesson.noise, lesson.unseen, abar, lesson.text.tokens, lesson.text.mask)


def knowing(monkeypatch, teacher, answer):
    """Let the teacher's transformer answer with the velocity to `answer(noisy, sigma)`."""

    def forward(hidden_states, timestep, encoder_hidden_states, return_dict):
        s = (timestep / 1000)[:, None, None, None, None]
        return ((hidden_states - answer(hidden_states, s)) / s,)

    monkeypatch.setattr(teacher.pipe.transformer, "forward", forward)


def test_both_codecs_show_a_teacher_the_same_clip(teacher, trainer):
    video = world.render(world.draw(2, seed=3))
    own = teacher.pipe.vae.encode(video.permute(0, 4, 1, 2, 3) * 2 - 1).latent
    own = (own - PIXEL_MEAN) / PIXEL_STD
    frames = trainer.pipe.vae.encode(video.flatten(0, 1).permute(0, 3, 1, 2) * 2 - 1).latent_dist.mode()
    z = frames.unflatten(0, (2, 9)).transpose(1, 2)
    assert torch.allclose(teacher._to_teacher(z), own, atol=1e-6)
    assert torch.equal(teacher._to_student(teacher._to_teacher(z)), z)


@pytest.mark.parametrize("abar", [0.9, 0.05, 0.001])
def test_a_teacher_of_gaussian_clips_expects_what_bayes_does(monkeypatch, teacher, lesson, abar):
    """For x0 ~ N(0, 1), pixel by pixel, E[x0 | x_t] = sqrt(abar) x_t."""
    knowing(monkeypatch, teacher, lambda x, s: (1 - s) / ((1 - s) ** 2 + s**2) * x)
    noisy = abar**0.5 * lesson.x0 + (1 - abar) ** 0.5 * lesson.noise
    expected = ask(teacher, lesson, abar)
    assert torch.allclose(expected[:, :, 1:], abar**0.5 * noisy[:, :, 1:], atol=1e-4)
    other = abar**0.5 * lesson.x0[:, :, 0] + (1 - abar) ** 0.5 * lesson.unseen  # the copy that the student never sees
    assert torch.allclose(expected[:, :, 0], abar**0.5 * (noisy[:, :, 0] + other) / 2, atol=1e-4)


def test_a_teacher_who_knows_the_clip_asks_for_the_clips_own_noise(monkeypatch, teacher, lesson):
    taught = type("Taught", (Factorised,), {"new": lambda self: self.build()})(RECIPE)
    taught.teacher = teacher
    own = teacher._to_teacher(lesson.x0)
    knowing(monkeypatch, teacher, lambda x, s: own)
    assert torch.allclose(taught.target(lesson, torch.device("cpu")), lesson.noise, atol=1e-3)
    knowing(monkeypatch, teacher, lambda x, s: own + 1)  # one too bright: that much less noise is left of x_t
    abar = taught.pipe.scheduler.alphas_cumprod[lesson.timestep]
    less = (lesson.noise - taught.target(lesson, torch.device("cpu"))).mean((1, 2, 3, 4))
    assert torch.allclose(less, (abar / (1 - abar)).sqrt(), rtol=1e-3)


def taught(teacher, folder, **more):
    """The recipe with a teacher, and with the text encoder that this teacher reads captions with."""
    teacher.pipe.save_pretrained(folder)
    return dataclasses.replace(RECIPE, teacher=str(folder), text_from=str(folder), **more)


def test_pictures_and_clips_are_learnt_from_the_teacher(teacher, tmp_path):
    made = train(taught(teacher, tmp_path / "teacher"), tmp_path / "run", compile=False)
    assert made.update == RECIPE.updates
    assert made.data(0).unseen.shape == (4, 12, 16, 16)
    assert Factorised(RECIPE).data(0).unseen is None
    assert made.data(VIDEO).unseen.shape == (2, 12, 16, 16)
    assert not any(p.requires_grad for p in made.objective.teacher.pipe.transformer.parameters())


@pytest.mark.parametrize("swapped", [0.0, 1.0])
def test_a_teacher_reads_swapped_captions_as_the_student_does(teacher, tmp_path, monkeypatch, swapped):
    recipe = taught(teacher, tmp_path / "teacher", swapped=swapped, caption_dropout=0.0)
    objective = Factorised(recipe)
    batch, (clips, _) = objective.data(VIDEO), objective.clips(VIDEO, "train")
    shown = objective.pipe.tokenizer.batch_decode(batch.text.tokens, skip_special_tokens=True)
    assert shown == (clips.captions[::-1] if swapped else clips.captions)
    assert objective.data(VIDEO).text.tokens.equal(batch.text.tokens)  # a function of the update alone
    own, other = (objective.data(VIDEO).unseen, Factorised(recipe).data(VIDEO).unseen)
    assert own.equal(other)
    heard = []
    monkeypatch.setattr(objective.teacher, "x0", lambda *given: heard.extend(given[4:]) or batch.x0)
    assert objective.target(batch, torch.device("cpu")).equal(batch.noise)
    tokens, mask = heard
    assert tokens.equal(batch.text.tokens)
    assert mask.equal(batch.text.mask)


def test_a_text_encoder_of_the_other_class_is_taken_but_for_its_sight_of_distances(teacher, tmp_path):
    recipe = taught(teacher, tmp_path / "teacher")
    objective, before = Factorised(recipe), build_factorised(RECIPE.architecture).text_encoder.state_dict()
    own, other = objective.pipe.text_encoder.state_dict(), teacher.pipe.text_encoder.state_dict()
    kept = {name for name in own if "relative_attention_bias" in name}
    assert len(kept) == 1
    assert all(own[name].equal(before[name] if name in kept else other[name]) for name in own)
    assert not any(
        own[name].equal(before[name]) for name in ("shared.weight", "encoder.block.0.layer.0.SelfAttention.q.weight")
    )
    assert list(objective.trained(objective.pipe)) == ["transformer"]
    assert "taken from `teacher` as it is" in objective.card().parts
    wider = dataclasses.replace(recipe, architecture=dataclasses.replace(RECIPE.architecture, text_dim=48))
    with pytest.raises(ValueError, match="has another architecture: it differs in encoder"):
        Factorised(wider)


@pytest.mark.parametrize("shift", [1.0, 2.0])
def test_timesteps_are_shifted_towards_noise(shift):
    objective = Factorised(dataclasses.replace(RECIPE, timestep_shift=shift))
    drawn = objective.timesteps(20_000, torch.Generator().manual_seed(0))
    assert 0 <= drawn.min() < drawn.max() == 999
    if shift == 1:
        assert drawn.equal(torch.randint(0, 1000, (20_000,), generator=torch.Generator().manual_seed(0)))
    quartiles = torch.quantile(drawn.double(), torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64))
    expected = torch.tensor([0.25, 0.5, 0.75])
    expected = 1000 * shift * expected / (1 + (shift - 1) * expected)
    assert torch.allclose(quartiles.float(), expected, atol=12)


def test_a_round_begins_with_an_earlier_ones_weights(loaded, tmp_path):
    _, pipe, _ = loaded
    pipe.save_pretrained(tmp_path / "first")
    again = dataclasses.replace(RECIPE, seed=1)
    begun, new = (Trainer(again, tmp_path / "run", "cpu", compile=False) for _ in range(2))
    begun.start_from(tmp_path / "first")
    saved, own, random = pipe.transformer.state_dict(), *(t.pipe.transformer.state_dict() for t in (begun, new))
    assert all(own[name].equal(value) for name, value in saved.items())
    assert not all(random[name].equal(value) for name, value in saved.items())
    assert all(begun.average[f"transformer.{name}"].equal(value) for name, value in own.items())
    assert begun.pipe.text_encoder.state_dict()["shared.weight"].equal(pipe.text_encoder.state_dict()["shared.weight"])


def test_the_way_of_text_into_the_blocks_begins_with_its_gain_and_all_else_as_ever():
    plain, louder = (Factorised(dataclasses.replace(RECIPE, text_gain=gain)).pipe for gain in (1.0, 2.0))
    gain = {
        name: (other / own).mean().item()
        for (name, own), other in zip(
            plain.transformer.named_parameters(), louder.transformer.parameters(), strict=True
        )
        if not own.equal(other)
    }
    assert set(gain.values()) == {2.0}
    blocks = range(RECIPE.architecture.blocks)
    assert set(gain) == {f"caption_projection.linear_{i}.weight" for i in (1, 2)} | {
        f"transformer_blocks.{i}.attn2.{part}.weight" for i in blocks for part in ("to_v", "to_out.0")
    }
    assert all(
        torch.equal(a, b)
        for a, b in zip(plain.text_encoder.parameters(), louder.text_encoder.parameters(), strict=True)
    )


def test_pictures_come_with_captions_alone_and_clips_with_padded_ones_too():
    objective = Factorised(dataclasses.replace(RECIPE, stages=(Stage(1, 32, 1), Stage(9, 32, 1)), caption_dropout=0.0))
    pads = [objective.data(update).text.bias.amax(1).exp() for update in (0, 1)]
    assert (pads[0] == 1).all()  # exp(0): nothing weighs more than a word
    padded = pads[1] > 100
    assert 8 <= padded.sum() <= 24
    assert (pads[1][~padded] == 1).all()
