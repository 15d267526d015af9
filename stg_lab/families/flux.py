"""Flux.1: pictures as packed tokens, text and picture in one attention, text first; distilled guidance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn

from stg_lab.families import call_sizes
from stg_lab.families.base import Grid
from stg_lab.families.call import with_text
from stg_lab.families.caller_frame import running
from stg_lab.families.pictures import Pictures


class Packed(Pictures):
    """Double blocks, with a stream each for picture and text, then single ones, with both in one; tokens at the scheduler."""

    text_tokens = "first"
    layout = "batch, token, channel; a token is 2 x 2 latent pixels"

    def blocks(self, denoiser: Any) -> list[Any]:
        return [*denoiser.transformer_blocks, *denoiser.single_transformer_blocks]

    def sublayers(self, block: Any, part: str) -> list[nn.Module]:
        """A single block's feed-forward is projected out together with its attention; without it, its share there is zero."""
        if part == "feedforward" and hasattr(block, "act_mlp"):
            return [block.act_mlp]
        return super().sublayers(block, part)

    def grid(self, denoiser: Any, args: tuple, kwargs: Mapping[str, Any]) -> Grid:
        places = kwargs["img_ids"]  # (token, 3): 0, row, column
        width = int((places[:, 1] == 0).sum())
        return Grid(1, len(places) // width, width)

    def latent_shape(self, pipe: Any, call: Mapping[str, Any]) -> tuple[int, ...] | None:
        shape = super().latent_shape(pipe, call)
        return shape and (*shape[:3], shape[3] // 2 * 2, shape[4] // 2 * 2)

    def recorded(self, x: Tensor, pipe: Any, kwargs: Mapping[str, Any], *, predicted: bool) -> Tensor:
        grid = self.grid(None, (), kwargs)
        return spread(x, pipe, grid.height, grid.width)

    def returned(self, pipe: Any, latents: Tensor, call: Mapping[str, Any]) -> Tensor:
        usual, token = pipe.default_sample_size * pipe.vae_scale_factor, 2 * pipe.vae_scale_factor
        return spread(latents, pipe, *((call.get(name) or usual) // token for name in ("height", "width")))

    def spacing(self, pipe: Any, scheduler: Any, steps: int, shape: tuple[int, ...] | None) -> dict[str, Any]:
        own = {} if scheduler.config.get("use_flow_sigmas") else {"sigmas": np.linspace(1.0, 1 / steps, steps)}
        return (
            own
            if shape is None
            else {**own, "mu": call_sizes.shift(scheduler, shape[3] * shape[4] // 4, (256, 0.5, 1.15))}
        )


class Flux(Packed):
    """`FluxPipeline` (dev, schnell). The models are distilled: `guidance_scale` is an input, and there is no unconditional pass
    unless it is asked for."""

    name = "Flux"
    pipelines = ("FluxPipeline",)
    scale_argument = "true_cfg_scale"
    cfg_form = (
        "distilled, so one call a step by default (guidance_scale is an input of the model); with true_cfg_scale above 1 and a "
        "negative prompt two calls, conditional first: u + scale (c - u)"
    )

    def without_caption(self, pipe: Any, args: tuple, kwargs: Mapping[str, Any]) -> tuple[tuple, dict[str, Any]]:
        text = kwargs["encoder_hidden_states"]
        empty, pooled, _ = pipe.encode_prompt("", None, device=text.device, max_sequence_length=text.shape[1])
        new = {"encoder_hidden_states": empty, "pooled_projections": pooled}
        return args, with_text(kwargs, new)

    def has_uncond(self, pipe: Any) -> bool:
        return bool(running(pipe, "do_true_cfg").get("do_true_cfg", False))

    def wants_uncond(self, pipe: Any, call: Mapping[str, Any]) -> bool:
        embeds = (call.get("negative_prompt_embeds"), call.get("negative_pooled_prompt_embeds"))
        negative = call.get("negative_prompt") is not None or not any(e is None for e in embeds)
        return negative and super().wants_uncond(pipe, call)

    def scale(self, pipe: Any, denoiser: str) -> float:
        return float(running(pipe, "true_cfg_scale")["true_cfg_scale"]) if self.has_uncond(pipe) else 1.0

    def how_to_scale(self, scale: str) -> str:
        return f"Call it with true_cfg_scale={scale} and a negative_prompt ('' will do)."

    def how_to_uncond(self) -> str:
        return f"The model is distilled. {self.how_to_scale('4.0')}"


class Chroma(Packed):
    """`ChromaPipeline`: Flux' blocks without its distillation, with true CFG."""

    name = "Chroma"
    pipelines = ("ChromaPipeline",)
    cfg_form = "two calls a step, conditional first: u + scale (c - u)"


def spread(tokens: Tensor, pipe: Any, height: int, width: int) -> Tensor:
    """Packed tokens `(batch, token, channel)` of `height` rows as `(batch, channel, 1, y, x)`, as the pipeline does it."""
    token = 2 * pipe.vae_scale_factor
    return pipe._unpack_latents(tokens, height * token, width * token, pipe.vae_scale_factor)[:, :, None]
