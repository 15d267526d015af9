"""Mochi 1: text and video in one attention, CFG as one batched call, sigmas that run from 0 to 1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stg_lab.families.base import Family, Grid, two_streams_without
from stg_lab.families.network import SHARED_PARTS


class Mochi(Family):
    """`MochiPipeline`. The last block has no text stream of its own behind it."""

    name = "Mochi"
    pipelines = ("MochiPipeline",)
    surely_reused = True
    parts = SHARED_PARTS
    text_tokens = "last"
    batched = True
    cfg_form = "one call with the batch [uncond, cond], combined in float32: u + scale (c - u)"
    sources = (
        "the paper skips layer 35 of 48, counted from 1 (STG-R, scale 1, CFG 4.5; appendix A1.3): lab.skip([34]); the "
        "authors' code and diffusers' community pipeline default to index 34"
    )

    def blocks(self, denoiser: Any) -> list[Any]:
        return list(denoiser.transformer_blocks)

    def sublayers(self, block: Any, part: str) -> list[nn.Module]:
        both = {"attention": [block.attn1], "feedforward": [block.ff, block.ff_context]}[part]
        return [module for module in both if module is not None]

    def without(self, part: str, *args: Any, **kwargs: Any) -> Any:
        if part == "feedforward":
            return super().without(part, *(args or (kwargs["hidden_states"],)))
        return two_streams_without(part, *args, **kwargs)

    def grid(self, denoiser: Any, args: tuple, kwargs: Mapping[str, Any]) -> Grid:
        frames, height, width = kwargs["hidden_states"].shape[2:]
        patch = denoiser.config.patch_size
        return Grid(frames, height // patch, width // patch)

    def prediction(self, output: Any) -> Tensor:
        return super().prediction(output).to(torch.float32)  # as the pipeline does, before CFG

    def spacing(self, pipe: Any, scheduler: Any, steps: int, shape: tuple[int, ...]) -> dict[str, Any]:
        from diffusers.pipelines.mochi.pipeline_mochi import linear_quadratic_schedule

        return {"sigmas": np.array(linear_quadratic_schedule(steps, 0.025))}

    def decode(self, pipe: Any, latents: Tensor) -> np.ndarray:
        vae = pipe.vae
        z = latents.to(vae.device, vae.dtype)
        mean, std = getattr(vae.config, "latents_mean", None), getattr(vae.config, "latents_std", None)
        if mean is not None and std is not None:
            view = (1, len(mean), 1, 1, 1)
            z = z * torch.tensor(std).view(view).to(z) / vae.config.scaling_factor + torch.tensor(mean).view(view).to(z)
        else:
            z = z / vae.config.scaling_factor
        with torch.no_grad():
            video = vae.decode(z, return_dict=False)[0]
        return pipe.video_processor.postprocess_video(video, output_type="np")
