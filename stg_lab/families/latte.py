"""Latte: a block for space and a block for time in every layer, epsilon prediction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stg_lab.errors import CallError
from stg_lab.families.base import Family, Grid
from stg_lab.families.digits_codec import codec_defaults, codec_preview
from stg_lab.preview import Preview


class Latte(Family):
    """`LattePipeline`. A layer is a pair of blocks; only the spatial one has cross-attention."""

    name = "Latte"
    pipelines = ("LattePipeline",)
    surely_reused = True
    axes = ("spatial", "temporal")
    batched = True
    samples_argument = "num_images_per_prompt"
    cfg_form = "one call with the batch [uncond, cond]: u + scale (c - u); the learned variance is dropped after it"
    sources = (
        "the paper's factorised model, Open-Sora, skips layer 12 of 28, counted from 1 (STG-A, scale 2, CFG 7; A1.3)"
    )

    def layers(self, denoiser: Any) -> list[dict[str, Any]]:
        pairs = zip(denoiser.transformer_blocks, denoiser.temporal_transformer_blocks, strict=True)
        return [{"spatial": space, "temporal": time} for space, time in pairs]

    def blocks(self, denoiser: Any) -> list[Any]:
        return [block for layer in self.layers(denoiser) for block in layer.values()]

    def sublayers(self, block: Any, part: str) -> list[nn.Module]:
        module = {"attention": block.attn1, "cross_attention": block.attn2, "feedforward": block.ff}[part]
        return [] if module is None else [module]

    def grid(self, denoiser: Any, args: tuple, kwargs: Mapping[str, Any]) -> Grid:
        frames, height, width = kwargs["hidden_states"].shape[2:]
        patch = denoiser.config.patch_size
        return Grid(frames, height // patch, width // patch)

    def has_uncond(self, pipe: Any) -> bool:
        return pipe.guidance_scale > 1

    def defaults(self, pipe: Any) -> dict[str, Any]:
        made_for = codec_defaults(pipe)
        # Captions of the digits world have nothing to clean, and cleaning asks for two packages more.
        return {**made_for, "clean_caption": False} if made_for else {}

    def check_call(self, pipe: Any, call: Mapping[str, Any]) -> None:
        made_for, given = pipe.transformer.config.get("video_length"), call.get("video_length")
        if given is not None and made_for is not None and given not in (1, made_for):
            raise CallError(
                f"this model has places for videos of {made_for} frames (or 1), got video_length={given!r}. Type "
                f"video_length={made_for}."
            )

    def preview(self, pipe: Any) -> Preview | None:
        return codec_preview(pipe)

    def prediction(self, output: Any) -> Tensor:
        prediction = super().prediction(output)
        return prediction.chunk(2, dim=1)[0]  # the other half is the learned variance

    def decode(self, pipe: Any, latents: Tensor) -> np.ndarray:
        z = latents.to(pipe.vae.device, pipe.vae.dtype)
        with torch.no_grad():
            video = pipe.decode_latents(z, z.shape[2])
        return pipe.video_processor.postprocess_video(video=video, output_type="np")
