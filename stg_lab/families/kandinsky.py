"""Kandinsky 5, text-to-video: full 3D attention over video tokens, latents with channels last."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stg_lab.errors import GuidanceError
from stg_lab.families import call_sizes
from stg_lab.families.base import Family, Grid
from stg_lab.families.first_frame import FirstFrame


class Kandinsky5(Family):
    """`Kandinsky5T2VPipeline`. Layers are the blocks of the video; those of the text in front of them encode the caption.

    Checkpoints with `visual_cond` take the channels of a picture and its mask beside the latents, all zero for text-to-video.
    The pipeline writes every step's result into the very tensor that it handed to the denoiser and to the scheduler.
    """

    name = "Kandinsky 5"
    pipelines = ("Kandinsky5T2VPipeline",)
    surely_reused = True
    unbatched = (*Family.unbatched, "visual_rope_pos", "text_rope_pos", "scale_factor", "sparse_params")
    layout = "batch, frame, y, x, channel"
    embeds_argument = "prompt_embeds_qwen"
    cfg_form = "two calls a step, conditional first, with captions of different lengths: u + scale (c - u)"

    def blocks(self, denoiser: Any) -> list[Any]:
        return list(denoiser.visual_transformer_blocks)

    def sublayers(self, block: Any, part: str) -> list[nn.Module]:
        return [
            {
                "attention": block.self_attention,
                "cross_attention": block.cross_attention,
                "feedforward": block.feed_forward,
            }[part]
        ]

    def grid(self, denoiser: Any, args: tuple, kwargs: Mapping[str, Any]) -> Grid:
        if kwargs.get("sparse_params") is not None:
            raise GuidanceError(
                "this checkpoint's attention is sparse (NABLA), over tokens sorted into squares of 8 x 8, so it cannot be edited by "
                "place. Skip whole blocks, or one part of them: lab.skip(layers), lab.skip(layers, part='attention_zero')."
            )
        sizes = zip(kwargs["hidden_states"].shape[1:4], denoiser.config.patch_size, strict=True)
        return Grid(*(size // patch for size, patch in sizes))

    def heads(self, denoiser: Any) -> int:
        return denoiser.config.model_dim // sum(denoiser.config.axes_dims)

    def unpack(self, latents: Tensor, pipe: Any) -> Tensor:
        return latents.permute(0, 4, 1, 2, 3)

    def latent_shape(self, pipe: Any, call: Mapping[str, Any]) -> tuple[int, ...] | None:
        """The pipeline rounds frames to one more than a multiple; latents that are given may have more channels."""
        time, frames = pipe.vae_scale_factor_temporal, call["num_frames"]
        frames = frames if frames % time == 1 else frames // time * time + 1
        shape = super().latent_shape(pipe, {**call, "num_frames": frames})
        return shape and (shape[0], call_sizes.channels(pipe, pipe.transformer), *shape[2:])

    def decode(self, pipe: Any, latents: Tensor) -> np.ndarray:
        z = latents.to(pipe.vae.device, pipe.vae.dtype) / pipe.vae.config.scaling_factor
        with torch.no_grad():
            video = pipe.vae.decode(z).sample
        return pipe.video_processor.postprocess_video(video, output_type="np")


class Kandinsky5Image(FirstFrame, Kandinsky5):
    """`Kandinsky5I2VPipeline`. The first latent frame is the picture, and the pipeline drops what is predicted for it."""

    name = "Kandinsky 5 image-to-video"
    pipelines = ("Kandinsky5I2VPipeline",)
    layout = "batch, frame, y, x, channel; the picture's frame is not stepped"

    def notes(self, pipe: Any) -> dict[str, str]:
        return {
            "afterwards": "the pipeline moves the statistics of the first four latent frames towards those of the next five, once "
            "all is sampled; recordings and lab.decode have them as they were sampled"
        }
