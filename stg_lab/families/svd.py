"""Stable Video Diffusion: a U-Net with spatial and temporal attention, conditioned on an image, with a CFG scale per frame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stg_lab.families.base import Grid
from stg_lab.families.digits_codec import codec_defaults, codec_preview
from stg_lab.families.unet import UNet
from stg_lab.preview import Preview


class StableVideoDiffusion(UNet):
    """`StableVideoDiffusionPipeline`. A layer is one attention unit, its spatial and its temporal block."""

    name = "Stable Video Diffusion"
    pipelines = ("StableVideoDiffusionPipeline",)
    layout = "batch, frame, channel, y, x"
    scale_argument = "max_guidance_scale"
    cfg_form = (
        "one call with the batch [uncond, cond]; the scale grows from min_guidance_scale at the first frame to "
        "max_guidance_scale at the last"
    )
    sources = "the paper skips layer 8 of 16, counted from 1, both axes (STG-A, scale 2, CFG 3; appendix A1.3): lab.skip([7], part='attention')"

    def layers(self, denoiser: Any) -> list[dict[str, Any]]:
        units = [unit for level in self.stages(denoiser) for unit in getattr(level, "attentions", ())]
        return [
            {"spatial": space, "temporal": time}
            for unit in units
            for space, time in zip(unit.transformer_blocks, unit.temporal_transformer_blocks, strict=True)
        ]

    def sublayers(self, block: Any, part: str) -> list[nn.Module]:
        module = {"attention": block.attn1, "cross_attention": block.attn2, "feedforward": block.ff}[part]
        return [] if module is None else [module]

    def heads(self, denoiser: Any) -> int:
        given = denoiser.config.num_attention_heads
        return given if isinstance(given, int) else min(given)

    def picture(self, denoiser: Any) -> tuple[nn.Module, tuple[slice, slice]] | None:
        return denoiser.conv_in, (slice(denoiser.config.out_channels, None), slice(0, 0))

    def grid(self, denoiser: Any, args: tuple, kwargs: Mapping[str, Any]) -> Grid:
        latents = args[0] if args else kwargs["sample"]
        return Grid(latents.shape[1], latents.shape[3], latents.shape[4])

    def scale(self, pipe: Any, denoiser: str) -> float:
        return float(pipe.guidance_scale.flatten()[-1])

    def scales(self, pipe: Any, denoiser: str, scale: float | None = None) -> Any:
        own = pipe.guidance_scale
        if scale is None or scale == self.scale(pipe, denoiser):
            return own
        # As the pipeline makes them, from the first frame's scale to the last one's.
        ramp = torch.linspace(float(own.flatten()[0]), scale, own.shape[1]).to(own)
        return ramp.reshape(1, -1, *[1] * (own.ndim - 2)).expand_as(own)

    def defaults(self, pipe: Any) -> dict[str, Any]:
        return codec_defaults(pipe)

    def unpack(self, latents: Tensor, pipe: Any) -> Tensor:
        return latents.permute(0, 2, 1, 3, 4)

    def preview(self, pipe: Any) -> Preview | None:
        return codec_preview(pipe)

    def decode(self, pipe: Any, latents: Tensor) -> np.ndarray:
        z = latents.to(pipe.vae.device, pipe.vae.dtype).permute(0, 2, 1, 3, 4)
        with torch.no_grad():
            video = pipe.decode_latents(z, z.shape[1])
        return pipe.video_processor.postprocess_video(video=video, output_type="np")
