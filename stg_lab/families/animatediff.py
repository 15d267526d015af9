"""AnimateDiff: a U-Net of pictures with motion modules between its layers, so that space and time are apart."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stg_lab.families.base import Grid
from stg_lab.families.halfway import Halfway
from stg_lab.families.unet import UNet


class AnimateDiff(UNet):
    """`AnimateDiffPipeline`, with Stable Diffusion 1.5 or XL. A layer is a spatial block of the picture model with the motion
    module behind it; levels without text have motion modules alone. Motion modules attend over time twice."""

    name = "AnimateDiff"
    pipelines: tuple[str, ...] = (
        "AnimateDiffPipeline",
        "AnimateDiffSDXLPipeline",
        "AnimateDiffControlNetPipeline",
    )
    cfg_form = "one call with the batch [uncond, cond]: u + scale (c - u)"

    def layers(self, denoiser: Any) -> list[dict[str, Any]]:
        found = []
        for level in self.stages(denoiser):
            units = zip_longest(getattr(level, "attentions", ()), getattr(level, "motion_modules", ()))
            for picture, motion in units:
                spaces, times = (getattr(unit, "transformer_blocks", ()) for unit in (picture, motion))
                for space, time in zip_longest(spaces, times):
                    pair = {"spatial": space, "temporal": time}
                    found.append({axis: block for axis, block in pair.items() if block is not None})
        return found

    def sublayers(self, block: Any, part: str) -> list[nn.Module]:
        if part == "feedforward":
            return [block.ff]
        wanted = part == "cross_attention"
        return [m for m in (block.attn1, block.attn2) if m is not None and bool(m.is_cross_attention) == wanted]

    def heads(self, denoiser: Any) -> int:
        attentions: list[Any] = [m for block in self.blocks(denoiser) for m in self.sublayers(block, "attention")]
        return min(m.heads for m in attentions)

    def grid(self, denoiser: Any, args: tuple, kwargs: Mapping[str, Any]) -> Grid:
        latents = args[0] if args else kwargs["sample"]
        return Grid(*latents.shape[2:])

    def notes(self, pipe: Any) -> dict[str, str]:
        layers = self.layers(pipe.unet)
        alone = [number for number, layer in enumerate(layers) if "spatial" not in layer]
        said = f"; layers {', '.join(map(str, alone))} have motion modules alone" if alone else ""
        return {"layers": f"a spatial block of the picture model and the motion module behind it{said}"}

    def decode(self, pipe: Any, latents: Tensor) -> np.ndarray:
        with torch.no_grad():
            video = pipe.decode_latents(latents.to(pipe.vae.device, pipe.vae.dtype))
        return pipe.video_processor.postprocess_video(video=video, output_type="np")


class AnimateDiffVideo(Halfway, AnimateDiff):
    """`AnimateDiffVideoToVideoPipeline`: starts from a noised video at `strength` of the noise levels."""

    name = "AnimateDiff video-to-video"
    pipelines = ("AnimateDiffVideoToVideoPipeline", "AnimateDiffVideoToVideoControlNetPipeline")
