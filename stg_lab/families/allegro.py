"""Allegro: full 3D attention over video tokens, epsilon prediction, fresh noise at every step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stg_lab.families.base import Family, Grid


class Allegro(Family):
    """`AllegroPipeline`."""

    name = "Allegro"
    pipelines = ("AllegroPipeline",)
    surely_reused = True
    batched = True
    samples_argument = ""  # the call takes num_videos_per_prompt and makes one
    cfg_form = "one call with the batch [uncond, cond]: u + scale (c - u)"

    def blocks(self, denoiser: Any) -> list[Any]:
        return list(denoiser.transformer_blocks)

    def sublayers(self, block: Any, part: str) -> list[nn.Module]:
        return [{"attention": block.attn1, "cross_attention": block.attn2, "feedforward": block.ff}[part]]

    def grid(self, denoiser: Any, args: tuple, kwargs: Mapping[str, Any]) -> Grid:
        frames, height, width = kwargs["hidden_states"].shape[2:]
        c = denoiser.config
        return Grid(frames // c.patch_size_t, height // c.patch_size, width // c.patch_size)

    def latent_shape(self, pipe: Any, call: Mapping[str, Any]) -> tuple[int, ...] | None:
        """An even number of frames fills whole latent frames, of an odd one the first has a latent frame of its own."""
        time = pipe.vae_scale_factor_temporal
        frames = call.get("num_frames") or pipe.transformer.config.sample_frames * time
        latent = frames % 2 + -(-(frames - frames % 2) // time)
        return super().latent_shape(pipe, {**call, "num_frames": (latent - 1) * time + 1})

    def decode(self, pipe: Any, latents: Tensor) -> np.ndarray:
        """All frames; the pipeline's own call drops those that it was not asked for. Needs `pipe.vae.enable_tiling()`, as there."""
        with torch.no_grad():
            video = pipe.decode_latents(latents.to(pipe.vae.device, pipe.vae.dtype))
        return pipe.video_processor.postprocess_video(video=video, output_type="np")
