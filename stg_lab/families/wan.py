"""Wan 2.1 and 2.2: full 3D attention over video tokens, text by cross-attention, CFG as two calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stg_lab.families.base import Family, Grid
from stg_lab.families.pixels import codec_defaults, codec_preview
from stg_lab.preview import Preview


class Wan(Family):
    """`WanPipeline` with one transformer (2.1, TI2V-5B) or two (2.2 A14B, split by noise level)."""

    name = "Wan"
    pipelines = ("WanPipeline",)
    cfg_form = "two calls a step, conditional first: u + scale (c - u)"
    sources = (
        "diffusers' community STG pipeline for Wan skips blocks 3, 8, 16; the authors' example skips block 2 at scale 2"
    )

    def blocks(self, denoiser: Any) -> list[Any]:
        return list(denoiser.blocks)

    def sublayers(self, block: Any, part: str) -> list[nn.Module]:
        return [{"attention": block.attn1, "cross_attention": block.attn2, "feedforward": block.ffn}[part]]

    def grid(self, denoiser: Any, args: tuple, kwargs: Mapping[str, Any]) -> Grid:
        latents = args[0] if args else kwargs["hidden_states"]
        patch = denoiser.config.patch_size
        return Grid(*(size // p for size, p in zip(latents.shape[2:], patch, strict=True)))

    def without_caption(self, pipe: Any, args: tuple, kwargs: Mapping[str, Any]) -> tuple[tuple, dict[str, Any]]:
        text = kwargs["encoder_hidden_states"]
        empty, _ = pipe.encode_prompt(
            "",
            do_classifier_free_guidance=False,
            max_sequence_length=text.shape[1],
            device=text.device,
            dtype=text.dtype,
        )
        return args, {**kwargs, "encoder_hidden_states": empty.expand(text.shape[0], -1, -1)}

    def scale(self, pipe: Any, denoiser: str) -> float:
        if not pipe.do_classifier_free_guidance:
            return 1.0
        second = getattr(pipe, "_guidance_scale_2", None) if denoiser == "transformer_2" else None
        return float(pipe.guidance_scale if second is None else second)

    def defaults(self, pipe: Any) -> dict[str, Any]:
        return codec_defaults(pipe)

    def decode(self, pipe: Any, latents: Tensor) -> np.ndarray:
        vae = pipe.vae
        shape = (1, vae.config.z_dim, 1, 1, 1)
        z = latents.to(vae.device, vae.dtype)
        # Written as the pipeline writes it, so that the bits agree.
        inverse = 1.0 / torch.tensor(vae.config.latents_std).view(shape).to(z.device, z.dtype)
        z = z / inverse + torch.tensor(vae.config.latents_mean).view(shape).to(z.device, z.dtype)
        with torch.no_grad():
            video = vae.decode(z, return_dict=False)[0]
        return pipe.video_processor.postprocess_video(video, output_type="np")

    def preview(self, pipe: Any) -> Preview | None:
        return codec_preview(pipe)
