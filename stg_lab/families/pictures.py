"""What families of picture models share: a picture is a video of one frame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stg_lab.families.base import Family, two_streams_without
from stg_lab.families.network import SHARED_PARTS


class Pictures(Family):
    """Text and picture in one attention; blocks that take the picture first and return the text first."""

    surely_reused = True
    parts: tuple[str, ...] = SHARED_PARTS
    still = True
    video_stream = 1
    samples_argument = "num_images_per_prompt"

    def blocks(self, denoiser: Any) -> list[Any]:
        return list(denoiser.transformer_blocks)

    def sublayers(self, block: Any, part: str) -> list[nn.Module]:
        found = [block.attn] if part == "attention" else [block.ff, block.ff_context]
        return [module for module in found if module is not None]

    def without(self, part: str, *args: Any, **kwargs: Any) -> Any:
        streams = two_streams_without(part, *args, **kwargs)
        return streams[::-1] if part == "block" and isinstance(streams, tuple) else streams

    def latent_shape(self, pipe: Any, call: Mapping[str, Any]) -> tuple[int, ...] | None:
        usual = pipe.default_sample_size * pipe.vae_scale_factor
        sizes = {name: call.get(name) or usual for name in ("height", "width")}
        return super().latent_shape(pipe, {**call, **sizes, "latents": None})

    def decode(self, pipe: Any, latents: Tensor) -> np.ndarray:
        vae = pipe.vae
        z = latents.to(vae.device, vae.dtype)[:, :, 0] / vae.config.scaling_factor + vae.config.shift_factor
        with torch.no_grad():
            picture = vae.decode(z, return_dict=False)[0]
        return pipe.image_processor.postprocess(picture, output_type="np")[:, None]
