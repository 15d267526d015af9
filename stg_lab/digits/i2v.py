"""Training `digits-i2v`: EDM v-prediction, first frame in, video out.

x = x0 + sigma n, and the U-Net predicts v = (n - sigma x0) / sqrt(sigma^2 + 1), so that
x0 = x / (sigma^2 + 1) - sigma v / sqrt(sigma^2 + 1). That is the preconditioning of Karras et al. (2022, table 1) for data of
unit variance, which Stable Video Diffusion (Blattmann et al. 2023, appendix D) and the stock scheduler share. Their weight
(sigma^2 + 1) / sigma^2 on the error of x0 is exactly 1 on the error of v.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from stg_lab.digits import world
from stg_lab.digits.i2v_pipeline import SIGMA_MAX, SIGMA_MIN, build_i2v
from stg_lab.digits.objective import Card, Objective, mixed_precision
from stg_lab.digits.recipe import Recipe

#: Mean and standard deviation of log sigma in training. Blattmann et al. have 0.7 and 1.6; clips of this size keep their
#: motion up to sigma = 30 to 200, so levels lie higher here.
LOG_SIGMA = (2.0, 1.8)

#: Range of `noise_aug_strength` in training, log-uniform. The stock default is 0.02.
AUGMENTATION = (0.01, 0.3)

#: Stock default of `fps`. Clips have one speed of time, so there is nothing else to learn from it.
FPS = 7

#: `motion_bucket_id` for each pixel of the digit's path: 127, the stock default, is the 10 pixels of a usual translation.
BUCKETS_PER_PIXEL = 12.7
DEFAULT_BUCKET = 127


def path_length(clips: world.Clips, frames: int = world.FRAMES) -> Float[Tensor, " batch"]:
    """How far the digit travels over its clip, in pixels of a 32 x 32 picture.

    From frame to frame each point q of the digit's square (side `clips.size`, before slant) moves from c + s R q to
    c' + s' R' q. Their root mean square over the square is
    sqrt(|c' - c|^2 + (s'^2 + s^2 - 2 s s' cos(a' - a)) size^2 / 6); the path is the sum over the clip. So moving counts
    what the centre does, turning and growing what the digit's points do, and standing still is 0.
    """
    where = world.pose(clips, torch.linspace(0, 1, frames).expand(len(clips), frames))
    shift = where.x.diff().square() + where.y.diff().square()
    s, after = where.scale[:, :-1], where.scale[:, 1:]
    turned = s.square() + after.square() - 2 * s * after * where.angle.diff().cos()
    square = turned.clamp(min=0) * clips.size[:, None].square() / 6
    return (shift + square).sqrt().sum(dim=1)


def motion_buckets(clips: world.Clips) -> Float[Tensor, " batch"]:
    """The `motion_bucket_id` of clips: 12.7 a pixel of `path_length`, rounded, at most 255.

    Standing still is 0, growing about 40 to 75, moving 90 to 165, turning 90 to 200, bouncing 150 to 255; 127, the stock
    default, is 10 pixels.
    """
    return (BUCKETS_PER_PIXEL * path_length(clips)).round().clamp(max=255)


@dataclass
class Batch:
    """One update's data."""

    x0: Float[Tensor, "batch frame channel height width"]
    noise: Float[Tensor, "batch frame channel height width"]
    sigma: Float[Tensor, " batch"]
    image: Float[Tensor, "batch side side 3"]  # first frames in [0, 1], in steps of 1/255 as pictures have them
    image_noise: Float[Tensor, "batch 3 side side"]
    augmentation: Float[Tensor, " batch"]  # noise_aug_strength
    bucket: Float[Tensor, " batch"]  # motion_bucket_id
    kept: Bool[Tensor, " batch"]  # False where the image is dropped, for CFG


class ImageToVideo(Objective):
    """`StableVideoDiffusionPipeline` with a small U-Net, and the image encoder that is trained with it."""

    name = "i2v"

    def build(self) -> Any:
        return build_i2v(self.recipe.architecture, seed=self.recipe.seed)

    def parts(self, pipe: Any) -> dict[str, nn.Module]:
        return {"unet": pipe.unet, "image": pipe.image_encoder}

    def blocks(self, denoiser: Any) -> list[nn.Module]:
        levels = [*denoiser.down_blocks, denoiser.mid_block, *denoiser.up_blocks]
        units = [unit for level in levels for unit in getattr(level, "attentions", ())]
        return [block for u in units for block in (*u.transformer_blocks, *u.temporal_transformer_blocks)]

    def in_blocks(self, name: str, parameter: nn.Parameter) -> bool:
        return "attentions." in name and parameter.ndim == 2

    def data(self, update: int, split: str = "train") -> Batch:
        r, stage = self.recipe, self.recipe.stage_at(update)
        clips, g = self.clips(update, split)
        video = world.render(clips, frames=stage.frames)  # [batch, frame, h, w, 3]
        z = self.pipe.vae.encode(video.flatten(0, 1).permute(0, 3, 1, 2) * 2 - 1).latent_dist.mode()
        x0 = z.unflatten(0, (stage.batch, stage.frames))
        image = (video[:, 0] * 255).round() / 255
        draws = torch.rand(stage.batch, generator=g)
        low, high = map(math.log, AUGMENTATION)
        return Batch(
            x0=x0,
            noise=torch.randn(x0.shape, generator=g),
            sigma=noise_levels(stage.batch, r, g),
            image=image,
            image_noise=torch.randn(stage.batch, 3, *image.shape[1:3], generator=g),
            augmentation=(low + (high - low) * draws).exp(),
            bucket=motion_buckets(clips),
            kept=torch.rand(stage.batch, generator=g) >= r.caption_dropout,
        )

    def inputs(self, batch: Batch, device: torch.device) -> dict[str, Tensor]:
        """What the U-Net sees of a batch: exactly what the stock pipeline would feed it at these noise levels."""
        b, pipe = batch, self.pipe
        kept = b.kept.to(device)
        pictures = pipe.numpy_to_pil(b.image.numpy())
        embedding = pipe._encode_image(pictures, device, 1, False) * kept[:, None, None]  # one token an image
        pixels = 2 * b.image.permute(0, 3, 1, 2) - 1 + b.augmentation[:, None, None, None] * b.image_noise
        latents = pipe._encode_vae_image(pixels, device, 1, False) * kept[:, None, None, None]
        sigma = b.sigma.to(device)
        s = sigma[:, None, None, None, None]
        x = (b.x0.to(device) + s * b.noise.to(device)) / (s**2 + 1).sqrt()
        every_frame = latents[:, None].expand(-1, x.shape[1], -1, -1, -1)
        ids = torch.stack([torch.full_like(b.sigma, FPS - 1), b.bucket, b.augmentation], dim=1)
        return {
            "sample": torch.cat([x, every_frame], dim=2),
            "timestep": 0.25 * sigma.log(),
            "encoder_hidden_states": embedding,
            "added_time_ids": ids.to(device),
        }

    def loss(self, forward: Callable[..., Any], batch: Batch, device: torch.device) -> Float[Tensor, " batch"]:
        """Squared error of the predicted v, per clip."""
        inputs = self.inputs(batch, device)
        with mixed_precision(device):
            v = forward(**inputs, return_dict=False)[0]
        s = batch.sigma.to(device)[:, None, None, None, None]
        target = (batch.noise.to(device) - s * batch.x0.to(device)) / (s**2 + 1).sqrt()
        return (v.float() - target).square().mean(dim=(1, 2, 3, 4))

    def sample(self, pipe: Any, clips: world.Clips, *, seeds: Sequence[int], **call: Any) -> Any:
        """As `Objective.sample`; the clips' first frames and amounts of motion are given, `guidance_scale` is the last frame's.

        The pipeline takes one `motion_bucket_id` for all its pictures, so clips are sampled one amount at a time.
        """
        call["max_guidance_scale"] = call.pop("guidance_scale", 3.0)
        first = world.render(clips)[:, 0]
        pictures, buckets = pipe.numpy_to_pil(first.numpy()), motion_buckets(clips).int().tolist()
        videos = [
            pipe(
                picture,
                height=world.SIZE,
                width=world.SIZE,
                motion_bucket_id=bucket,
                generator=[torch.Generator().manual_seed(seed)],
                output_type="np",
                **call,
            ).frames
            for picture, bucket, seed in zip(pictures, buckets, seeds, strict=True)
        ]
        return np.concatenate(videos)

    def card(self) -> Card:
        a = self.recipe.architecture
        return Card(
            description="that sets a picture of a handwritten digit in motion: a U-Net with spatial and temporal attention,\n"
            "EDM v-prediction, 9 frames of 32 x 32.",
            imports="from stg_lab.digits import world\n",
            example="""first = world.render(world.draw(1, seed=0, split="test"))[:, 0]  # or any picture of 32 x 32
video = pipe(pipe.numpy_to_pil(first.numpy()), height=32, width=32, num_inference_steps=24).frames""",
            condition=f"""**First frame and amount of motion.** The picture decides digit, colour and place. Which way the digit goes is free; how
far is `motion_bucket_id`, {BUCKETS_PER_PIXEL} for each pixel of its path (`stg_lab.digits.i2v.path_length`): 0 stands still, 127, the stock
default, is 10 pixels, 255 is 20 and more. So motion in the table below was not asked for, only its amount. The
unconditional prediction sees zeros for the picture and for its embedding, as the stock pipeline has it; `fps` was always
{FPS}, the stock default.""",
            parts=f"""A `UNetSpatioTemporalConditionModel` of widths {a.channels[0]} and {a.channels[1]}, with attention at 8 x 8 alone:
{2 * a.layers[1] + 2} layers of a spatial and a temporal block. A {a.image_layers}-layer `CLIPVisionModelWithProjection` trained with it. In the
VAE's place a lossless codec that works frame by frame (`stg_lab.digits.codec.FrameCodec`), so that latents are rearranged
pixels of about unit variance.""",
            loss="error of the predicted v",
            task="image-to-video",
        )


def noise_levels(batch: int, recipe: Recipe, generator: torch.Generator) -> Float[Tensor, " batch"]:
    """Noise levels: log-normal (Karras et al. 2022, table 1), with a share that is log-uniform over the sampler's range."""
    mean, spread = LOG_SIGMA
    normal = mean + spread * torch.randn(batch, generator=generator)
    uniform, choice = torch.rand(2, batch, generator=generator)
    low, high = math.log(SIGMA_MIN), math.log(SIGMA_MAX)
    level = torch.where(choice < recipe.uniform_noise, low + (high - low) * uniform, normal)
    return level.exp().clamp(SIGMA_MIN, SIGMA_MAX)
