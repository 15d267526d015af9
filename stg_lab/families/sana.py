"""SanaVideo: linear attention over video tokens, and a temporal convolution in the feed-forward."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stg_lab.errors import CallError
from stg_lab.families.base import Family, Grid
from stg_lab.families.first_frame import FirstFrame


class SanaVideo(Family):
    """`SanaVideoPipeline`. The feed-forward mixes neighbours in space and in time, so skipping it is more than elsewhere."""

    name = "SanaVideo"
    pipelines = ("SanaVideoPipeline",)
    surely_reused = True
    batched = True
    cfg_form = (
        "one call with the batch [uncond, cond], combined in float32: u + scale (c - u); a learned variance is dropped"
    )

    def blocks(self, denoiser: Any) -> list[Any]:
        return list(denoiser.transformer_blocks)

    def sublayers(self, block: Any, part: str) -> list[nn.Module]:
        return [{"attention": block.attn1, "cross_attention": block.attn2, "feedforward": block.ff}[part]]

    def attend(self, module: Any, answer: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """Queries and keys reach the kernel twice over, side by side: as they are, for the norm, and rotated, for the weights."""

        def forward(hidden_states: Tensor, rotary_emb: tuple[Tensor, Tensor]) -> Tensor:
            query, key, value = (project(hidden_states) for project in (module.to_q, module.to_k, module.to_v))
            query, key = (norm(x) if norm else x for norm, x in ((module.norm_q, query), (module.norm_k, key)))
            query, key, value = (x.unflatten(2, (module.heads, -1)).transpose(1, 2) for x in (query, key, value))
            query, key = (torch.cat([x.relu(), rotated(x.relu(), *rotary_emb)], dim=-1) for x in (query, key))
            out = answer(linear_attention, query, key, value).transpose(1, 2).flatten(2)
            for layer in module.to_out:
                out = layer(out)
            return out

        return forward

    def grid(self, denoiser: Any, args: tuple, kwargs: Mapping[str, Any]) -> Grid:
        latents = args[0] if args else kwargs["hidden_states"]
        return Grid(*(size // p for size, p in zip(latents.shape[2:], denoiser.config.patch_size, strict=True)))

    def prediction(self, output: Any) -> Tensor:
        return super().prediction(output).float()  # as the pipeline does, before CFG

    def at_step(self, prediction: Tensor, pipe: Any, kwargs: Mapping[str, Any]) -> Tensor:
        c = pipe.transformer.config
        return prediction.chunk(2, dim=1)[0] if c.out_channels // 2 == c.in_channels else prediction

    def latent_shape(self, pipe: Any, call: Mapping[str, Any]) -> tuple[int, ...] | None:
        """By default the pipeline takes the nearest of the sizes it was trained with, and resizes its videos afterwards."""
        call = {**call, "num_frames": call["frames"]}
        if call["use_resolution_binning"]:
            from diffusers.pipelines.sana_video import pipeline_sana_video as sizes

            bins = {30: sizes.ASPECT_RATIO_480_BIN, 22: sizes.ASPECT_RATIO_720_BIN}
            ratios = bins.get(pipe.transformer.config.sample_size)
            if ratios is None:
                raise CallError(
                    f"SanaVideo knows trained sizes for a sample_size of 30 or 22; this transformer has "
                    f"{pipe.transformer.config.sample_size}. Call it with use_resolution_binning=False."
                )
            height, width = pipe.video_processor.classify_height_width_bin(call["height"], call["width"], ratios=ratios)
            call |= {"height": height, "width": width}
        return super().latent_shape(pipe, call)

    def decode(self, pipe: Any, latents: Tensor) -> np.ndarray:
        """At the size that was sampled; with use_resolution_binning the pipeline's own call resizes afterwards."""
        vae = pipe.vae
        z = latents.to(vae.device, vae.dtype)
        # Wan's VAE has the statistics of its latents in its config, LTX-2's as buffers, deep-compression ones have none.
        statistics = [
            vae.config[name] if name in vae.config else getattr(vae, name, None)
            for name in ("latents_mean", "latents_std")
        ]
        if statistics[0] is not None:
            mean, std = (torch.as_tensor(x).view(1, -1, 1, 1, 1).to(z) for x in statistics)
            z = z / (1.0 / std) + mean  # written as the pipeline writes it, so that the bits agree
        with torch.no_grad():
            video = vae.decode(z, return_dict=False)[0]
        return pipe.video_processor.postprocess_video(video, output_type="np")


class SanaImage(FirstFrame, SanaVideo):
    """`SanaImageToVideoPipeline`. The first latent frame is the picture, at noise level 0 throughout, and the pipeline drops what
    is predicted for it."""

    name = "SanaVideo image-to-video"
    pipelines = ("SanaImageToVideoPipeline",)
    layout = "batch, channel, frame, y, x; the picture's frame is not stepped"


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Neighbouring channels of `x`, `(batch, head, token, channel)`, turned as pairs; angles `(1, token, 1, channel)`."""
    cos, sin = cos[..., 0::2].transpose(1, 2), sin[..., 1::2].transpose(1, 2)
    first, second = x[..., 0::2], x[..., 1::2]
    return torch.stack([first * cos - second * sin, first * sin + second * cos], dim=-1).flatten(-2).type_as(x)


def linear_attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None) -> Tensor:
    """Attention whose weights are products of rotated queries and keys, over the sum of the products of the others."""
    (plain_query, query), (plain_key, key) = query.chunk(2, dim=-1), key.chunk(2, dim=-1)
    state = key.float().transpose(-1, -2) @ value.float()
    norm = plain_query @ plain_key.sum(dim=-2, keepdim=True).transpose(-1, -2)
    return ((query.float() @ state) * (1 / (norm + 1e-15))).to(value.dtype)
