"""Motif-Video: text and video in one attention, video first, and a second attention to the text alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stg_lab.families import call_sizes
from stg_lab.families.guider import Guider
from stg_lab.families.hunyuan import Hunyuan


class Motif(Guider, Hunyuan):
    """`MotifVideoPipeline` and its image-to-video. Blocks with a stream each for video and text, then blocks with both in one; the
    last of these may be a decoder, which starts from the input of the first block and attends to what came out of the others.

    The denoiser's input is the latents with the channels of a picture and its mask, all zero for text-to-video.
    """

    name = "Motif-Video"
    pipelines = ("MotifVideoPipeline", "MotifVideoImage2VideoPipeline")
    parts = (
        "block",
        "attention",
        "attention_video",
        "attention_diagonal",
        "attention_zero",
        "cross_attention_zero",
        "feedforward",
    )
    sequential = False  # the decoder takes what went into the first block

    def blocks(self, denoiser: Any) -> list[Any]:
        return [*denoiser.transformer_blocks, *denoiser.single_transformer_blocks]

    def sublayers(self, block: Any, part: str) -> list[nn.Module]:
        """A single block's feed-forward is projected out together with its attention; without it, its share there is zero."""
        single = hasattr(block, "act_mlp")
        found = {
            "attention": [block.attn],
            "cross_attention": [block.cross_attn],
            "feedforward": [block.act_mlp] if single else [block.ff, block.ff_context],
        }[part]
        return [module for module in found if module is not None]

    def without(self, part: str, *args: Any, **kwargs: Any) -> Any:
        if part == "cross_attention":  # it answers for the video alone
            return torch.zeros_like(kwargs["hidden_states"])
        return super().without(part, *args, **kwargs)

    def spacing(self, pipe: Any, scheduler: Any, steps: int, shape: tuple[int, ...]) -> dict[str, Any]:
        c = pipe.transformer.config
        tokens = shape[2] // c.patch_size_t * (shape[3] // c.patch_size) * (shape[4] // c.patch_size)
        return {
            "sigmas": np.linspace(1.0, 1 / steps, steps),
            "mu": call_sizes.shift(scheduler, tokens, (256, 0.5, 1.15)),
        }

    def decode(self, pipe: Any, latents: Tensor) -> np.ndarray:
        z = latents.to(pipe.vae.device, pipe.vae.dtype)
        z = pipe._denormalize_latents(z, pipe.vae.config.latents_mean, pipe.vae.config.latents_std)
        with torch.no_grad():
            video = pipe.vae.decode(z, return_dict=False)[0]
        return pipe.video_processor.postprocess_video(video, output_type="np")

    def notes(self, pipe: Any) -> dict[str, str]:
        count, decoders = len(self.blocks(pipe.transformer)), pipe.transformer.config.num_decoder_layers
        if not decoders:
            return {}
        return {"decoder": f"layers {count - decoders} to {count - 1}, which start again from what went into layer 0"}
