"""`digits-i2v`: training sees what the stock pipeline sees, learns what its scheduler expects, and the pipeline stays stock."""

import dataclasses

import numpy as np
import pytest
import torch
from kit.pipelines import randomise

import stg_lab as lab
from stg_lab.digits import world
from stg_lab.digits.captions import MOTIONS
from stg_lab.digits.i2v import AUGMENTATION, ImageToVideo, motion_buckets, path_length
from stg_lab.digits.i2v_pipeline import SIGMA_MAX, SIGMA_MIN, ImageArchitecture, build_i2v
from stg_lab.digits.recipe import Recipe, Stage
from stg_lab.digits.train import Trainer

TINY = ImageArchitecture(channels=(32, 32), layers=(1, 1), head_dim=16, image_dim=32, image_layers=1)
RECIPE = Recipe(objective="i2v", stages=(Stage(9, 2, 10),), architecture=TINY, warmup=2)
LEVELS = (SIGMA_MIN, 0.3, 1.0, 40.0, SIGMA_MAX)


@pytest.fixture(scope="module")
def objective():
    made = ImageToVideo(RECIPE)
    for part in made.parts(made.pipe).values():
        randomise(part)
    made.pipe.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(scope="module")
def pictures(objective):
    return objective.pipe.numpy_to_pil(world.render(world.draw(2, seed=5))[:, 0].numpy())


def many(objective, count=250):
    recipe = dataclasses.replace(RECIPE, stages=(Stage(9, count, 1),))
    changed = ImageToVideo.__new__(ImageToVideo)
    changed.recipe, changed.pipe = recipe, objective.pipe
    return changed.data(0)


def moving(motion, count=6, **fields):
    clips = world.draw(count, seed=3)
    given = {"motion": torch.full((count,), MOTIONS.index(motion)), **fields}
    return dataclasses.replace(clips, **given)


# ---- what the U-Net sees ----


@pytest.mark.parametrize("sigma", LEVELS)
def test_training_inputs_are_the_stock_pipelines_own_with_and_without_the_image(objective, monkeypatch, sigma):
    clips, _ = objective.clips(0, "train")
    strength, bucket = 0.07, 90
    noise = torch.cat([torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(i)) for i in range(2)])
    batch = dataclasses.replace(
        objective.data(0), sigma=torch.full((2,), sigma), image_noise=noise, bucket=torch.full((2,), float(bucket)),
        augmentation=torch.full((2,), strength),
    )  # fmt: skip
    seen = []
    unet = objective.pipe.unet
    with monkeypatch.context() as patch:
        stock = unet.forward
        patch.setattr(unet, "forward", lambda *a, **k: seen.append((a, k)) or stock(*a, **k))
        objective.pipe(
            objective.pipe.numpy_to_pil(world.render(clips)[:, 0].numpy()),
            height=32, width=32, sigmas=[sigma, 0.0], noise_aug_strength=strength, motion_bucket_id=bucket,
            latents=(batch.x0 + sigma * batch.noise) / (sigma**2 + 1) ** 0.5,  # the pipeline multiplies by that
            generator=[torch.Generator().manual_seed(i) for i in range(2)], output_type="latent",
        )  # fmt: skip
    [((sample, timestep), kwargs)] = seen
    with torch.no_grad():
        dropped = objective.inputs(
            dataclasses.replace(batch, kept=torch.zeros(2, dtype=torch.bool)), torch.device("cpu")
        )
        given = objective.inputs(dataclasses.replace(batch, kept=torch.ones(2, dtype=torch.bool)), torch.device("cpu"))
    ours = {name: torch.cat([dropped[name], given[name]]) for name in given}
    assert torch.allclose(sample, ours["sample"], atol=1e-5)
    assert torch.allclose(timestep.expand(4), ours["timestep"], atol=1e-6)
    assert torch.allclose(kwargs["encoder_hidden_states"], ours["encoder_hidden_states"], atol=1e-6)
    assert torch.equal(kwargs["added_time_ids"], ours["added_time_ids"])
    assert (dropped["encoder_hidden_states"] == 0).all()
    assert (dropped["sample"][:, :, 12:] == 0).all()
    assert given["encoder_hidden_states"].abs().min() > 0
    assert kwargs["added_time_ids"].shape == (4, 3)


def test_the_image_is_the_clips_first_frame(objective):
    batch = dataclasses.replace(
        objective.data(1), augmentation=torch.full((2,), 1e-9), kept=torch.ones(2, dtype=torch.bool)
    )
    with torch.no_grad():
        image = objective.inputs(batch, torch.device("cpu"))["sample"][:, :, 12:]
    assert torch.equal(image, image[:, :1].expand_as(image))
    assert (
        image[:, 0] - batch.x0[:, 0]
    ).abs().max() <= 1 / 255 / 0.42 + 1e-6  # half a step of 8 bits, of pixels in [-1, 1]
    assert (image - batch.x0)[:, 1:].abs().max() > 0.5


# ---- what it learns ----


@pytest.mark.parametrize("sigma", LEVELS)
def test_the_perfect_prediction_has_no_loss_and_the_stock_scheduler_makes_the_clip_of_it(objective, sigma):
    batch = dataclasses.replace(objective.data(2), sigma=torch.full((2,), sigma))
    x = batch.x0 + sigma * batch.noise
    scheduler = objective.pipe.scheduler
    scheduler.set_timesteps(sigmas=[sigma, 0.0])
    made = {}

    def perfect(sample, timestep, **_):
        """The v that the scheduler turns into x0: solved from its answers for v = 0 and v = 1, which are linear in v."""
        at = [_x0(scheduler, v, x) for v in (torch.zeros_like(x), torch.ones_like(x))]
        made["v"] = (batch.x0 - at[0]) / (at[1] - at[0])
        return (made["v"],)

    with torch.no_grad():
        loss = objective.loss(perfect, batch, torch.device("cpu"))
        nothing = objective.loss(lambda sample, **_: (torch.zeros_like(x),), batch, torch.device("cpu"))
    assert loss.max() < 1e-6
    power = (1 + sigma**2 * batch.x0.square().mean((1, 2, 3, 4))) / (
        sigma**2 + 1
    )  # of n - sigma x0, which are independent
    assert torch.allclose(nothing, power, rtol=0.05)
    assert torch.allclose(_x0(scheduler, made["v"], x), batch.x0, atol=1e-3)


def _x0(scheduler, v, x):
    scheduler._step_index = None
    scheduler.scale_model_input(x, scheduler.timesteps[0])
    return scheduler.step(v, scheduler.timesteps[0], x).pred_original_sample


def test_the_loss_is_of_each_clip_alone(objective):
    batch = objective.data(3)
    with torch.no_grad():
        both = objective.loss(objective.pipe.unet, batch, torch.device("cpu"))
        one = objective.loss(
            objective.pipe.unet,
            type(batch)(**{f.name: getattr(batch, f.name)[1:] for f in dataclasses.fields(batch)}),
            torch.device("cpu"),
        )
    assert both.shape == (2,)
    assert torch.allclose(both[1:], one, rtol=0.02)  # bfloat16


def test_everything_is_trained_but_what_cannot_matter(tmp_path):
    # A group norm of one channel a group takes away whatever is added to a channel, the noise level among it: two channels.
    wider = dataclasses.replace(RECIPE, architecture=dataclasses.replace(TINY, channels=(64, 64)))
    trainer = Trainer(wider, tmp_path, "cpu", compile=False)
    trainer.objective.recipe = dataclasses.replace(wider, caption_dropout=0.0)
    trainer.loss(trainer.data(0)).mean().backward()
    idle = {name for name, p in trainer.model.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-7}
    assert idle == {n for n in dict(trainer.model.named_parameters()) if _has_no_say(n)}
    muon, adam = trainer.optimisers
    assert {p.ndim for group in muon.param_groups for p in group["params"]} == {2}
    assert {4, 5} <= {p.ndim for group in adam.param_groups for p in group["params"]}  # convolutions


def _has_no_say(name):
    """A softmax over one image token is 1 whatever its logit; over many it does not care what is added to all logits."""
    one_token = (
        ".attn2.to_q." in name or ".attn2.to_k." in name or ("transformer_blocks." in name and ".norm2." in name)
    )
    return one_token or name.endswith("k_proj.bias")


# ---- its data ----


def test_data_depends_on_the_update_alone(objective):
    one, again, other = objective.data(4), ImageToVideo(RECIPE).data(4), objective.data(5)
    for field in dataclasses.fields(one):
        assert torch.equal(getattr(one, field.name), getattr(again, field.name)), field.name
    assert not torch.equal(one.x0, other.x0)
    assert not torch.equal(one.sigma, other.sigma)


def test_data_is_normalised_and_its_draws_lie_where_they_should(objective):
    batch = many(objective)
    assert abs(batch.x0.mean()) < 0.15
    assert abs(batch.x0.std() - 1) < 0.15
    assert SIGMA_MIN <= batch.sigma.min() < 0.3
    assert 150 < batch.sigma.max() <= SIGMA_MAX
    assert 4 < batch.sigma.median() < 14  # exp(2) = 7.4
    assert AUGMENTATION[0] <= batch.augmentation.min() < 0.02 < 0.2 < batch.augmentation.max() <= AUGMENTATION[1]
    assert 0.04 < 1 - batch.kept.float().mean() < 0.16


# ---- the amount of motion ----


def test_standing_still_is_no_motion_and_moving_is_the_way_of_the_centre():
    assert (motion_buckets(moving("still")) == 0).all()
    for motion in ("left", "right", "up", "down"):
        clips = moving(motion)
        assert torch.allclose(path_length(clips), 10 * clips.speed, rtol=1e-4)
    assert (motion_buckets(moving("left", speed=torch.ones(6))) == 127).all()  # the stock default


@pytest.mark.parametrize("motion", MOTIONS)
def test_the_path_is_that_of_the_points_of_the_digits_square(motion):
    """Points followed one by one; their root mean square is that over the square in the limit of a fine grid."""
    clips, n = moving(motion), 200
    where = world.pose(clips, torch.linspace(0, 1, 9).expand(6, 9))
    axis = (torch.arange(n) + 0.5) / n - 0.5
    q = (
        torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).flatten(0, 1)[None, None]
        * clips.size[:, None, None, None]
    )
    cos, sin, scale = (f[..., None] for f in (where.angle.cos(), where.angle.sin(), where.scale))
    x = where.x[..., None] + scale * (cos * q[..., 0] - sin * q[..., 1])
    y = where.y[..., None] + scale * (sin * q[..., 0] + cos * q[..., 1])
    steps = (x.diff(dim=1).square() + y.diff(dim=1).square()).mean(-1).sqrt()
    assert torch.allclose(path_length(clips), steps.sum(1), rtol=1e-3, atol=1e-3)


def test_buckets_are_whole_and_end_at_255():
    buckets = motion_buckets(world.draw(500, seed=0))
    assert torch.equal(buckets, buckets.round())
    assert buckets.min() == 0
    assert buckets.max() == 255
    assert 110 < buckets.median() < 140
    slow, fast = (motion_buckets(moving("turning", speed=torch.full((6,), s))) for s in (0.7, 1.3))
    assert (slow < fast).all()


# ---- the pipeline ----


def test_the_pipelines_own_coding_gives_pixels_back(objective):
    pipe, video = objective.pipe, world.render(world.draw(2, seed=1)).permute(0, 1, 4, 2, 3) * 2 - 1
    z = torch.stack([pipe._encode_vae_image(clip, "cpu", 1, False) for clip in video])
    for chunk in (1, 4, 18):
        decoded = pipe.decode_latents(z, 9, chunk)
        assert torch.allclose(decoded, video.transpose(1, 2), atol=1e-6)


def test_the_codec_needs_no_upcasting_in_half_precision(objective):
    assert objective.pipe.vae.config.force_upcast is False


def test_a_saved_pipeline_comes_back_stock_and_the_same(objective, pictures, tmp_path):
    objective.pipe.save_pretrained(tmp_path)
    again = lab.load(tmp_path)
    again.set_progress_bar_config(disable=True)
    assert type(again).__name__ == "StableVideoDiffusionPipeline"
    assert type(again).__module__.startswith("diffusers.")
    assert (again.scheduler.config.sigma_min, again.scheduler.config.sigma_max) == (SIGMA_MIN, SIGMA_MAX)
    call = {"height": 32, "width": 32, "num_inference_steps": 2, "output_type": "np"}
    one, two = (
        p(pictures[:1], generator=torch.Generator().manual_seed(0), **call).frames for p in (objective.pipe, again)
    )
    assert np.array_equal(one, two)
    text = str(lab.describe(again))
    assert "height=32, width=32, num_frames=9, decode_chunk_size=9" in text
    assert "captions" not in text


def test_sampling_needs_nothing_but_a_picture(objective, pictures):
    weak = lab.STG(1.0, lab.skip([1], axis="spatial")) + lab.STG(0.5, lab.skip([1], axis="temporal"))
    run = lab.sample(
        objective.pipe, image=pictures, guidance=lab.CFG(2.5) + weak, seed=3, num_inference_steps=2, output_type="np"
    )
    plain = objective.pipe(
        pictures, height=32, width=32, max_guidance_scale=2.5, num_inference_steps=2, output_type="np",
        generator=[torch.Generator().manual_seed(3 + i) for i in range(2)],
    ).frames  # fmt: skip
    assert run.video.shape == plain.shape == (2, 9, 32, 32, 3)
    assert np.abs(run.video - plain).max() > 1e-3  # STG does something
    assert run.recording.ds.sizes["step"] == 2
    assert run.recording.preview_exact
    assert np.abs(run.recording.preview(run.recording.ds.final) - run.video).max() < 1e-5
    alone = lab.sample(
        objective.pipe, image=pictures, guidance=lab.CFG(2.5), seed=3, num_inference_steps=2, output_type="np"
    )
    assert np.array_equal(alone.video, plain)


def test_samples_are_the_stock_pipelines_from_each_clips_first_frame_and_motion(objective):
    clips = world.draw(2, seed=8)
    got = objective.sample(objective.pipe, clips, seeds=[4, 9], num_inference_steps=2, guidance_scale=2.0)
    last = objective.pipe(
        objective.pipe.numpy_to_pil(world.render(clips)[1:, 0].numpy()), height=32, width=32, num_inference_steps=2,
        motion_bucket_id=int(motion_buckets(clips)[1]), max_guidance_scale=2.0, output_type="np",
        generator=torch.Generator().manual_seed(9),
    ).frames  # fmt: skip
    assert got.shape == (2, 9, 32, 32, 3)
    assert np.array_equal(got[1:], last)


def test_the_seed_decides_the_weights():
    one, same, other = (build_i2v(TINY, seed=s).unet.conv_in.weight for s in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
