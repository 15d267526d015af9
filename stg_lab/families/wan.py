"""Wan 2.1 and 2.2: full 3D attention over video tokens, text by cross-attention, CFG as two calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stg_lab.families.base import Family, no_such_part, zeros_like_first
from stg_lab.families.pixels import codec_defaults, codec_preview
from stg_lab.guidance import COND, UNCOND
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

    def bypass(self, block: Any, part: str) -> tuple[nn.Module, Callable[..., Any]]:
        if part == "block":
            return block, lambda hidden_states, *args, **kwargs: hidden_states
        if part == "attention":
            return block.attn1, lambda hidden_states, *args, **kwargs: _value_path(block.attn1, hidden_states)
        if part == "attention_zero":
            return block.attn1, zeros_like_first
        if part == "feedforward":
            return block.ffn, zeros_like_first
        raise no_such_part(self, part)

    def branch(self, call: int) -> str:
        return COND if call == 0 else UNCOND

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


def _value_path(attention: Any, hidden_states: Tensor) -> Tensor:
    """Self-attention whose map is the identity: what is left is `to_out(to_v(x))` (eq. 17)."""
    if getattr(attention, "fused_projections", False):
        value = attention.to_qkv(hidden_states).chunk(3, dim=-1)[2]
    else:
        value = attention.to_v(hidden_states)
    return attention.to_out[1](attention.to_out[0](value))
