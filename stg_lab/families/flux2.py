"""Flux.2: pictures as packed tokens, text first; single blocks whose feed-forward is one with their attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stg_lab.errors import GuidanceError
from stg_lab.families.base import Grid
from stg_lab.families.caller_frame import running
from stg_lab.families.flux import Packed


class Flux2(Packed):
    """`Flux2Pipeline` (dev). Distilled: `guidance_scale` is an input, and there is no unconditional pass. Pictures that are given
    are tokens behind the picture's own, whose predictions the pipeline drops."""

    name = "Flux.2"
    pipelines = ("Flux2Pipeline",)
    parts = ("block", "attention", "attention_video", "attention_diagonal", "feedforward")
    scale_argument = ""
    cfg_form = "distilled: one call a step, and guidance_scale is an input of the model"

    def sublayers(self, block: Any, part: str) -> list[nn.Module]:
        """A single block's feed-forward cannot be told from its attention; the attention alone is left out by its map."""
        return super().sublayers(block, part) if hasattr(block, "ff") else [block.attn] * (part == "attention")

    def grid(self, denoiser: Any, args: tuple, kwargs: Mapping[str, Any]) -> Grid:
        places = kwargs["img_ids"][0]  # (token, 4): which picture, row, column, 0
        if places[:, 0].any():
            raise GuidanceError(
                "this call has tokens of given pictures behind those of its own, so its attention cannot be edited by place. Skip whole "
                "blocks, or one part of them: lab.skip(layers), lab.skip(layers, part='attention')."
            )
        return Grid(1, int(places[:, 1].max()) + 1, int(places[:, 2].max()) + 1)

    def has_uncond(self, pipe: Any) -> bool:
        return False

    def wants_uncond(self, pipe: Any, call: Mapping[str, Any]) -> bool:
        return False

    def asked_scale(self, call: Mapping[str, Any]) -> float:
        return 1.0

    def how_to_scale(self, scale: str) -> str:
        return self.how_to_uncond()

    def how_to_uncond(self) -> str:
        return "The model is distilled and has none. Leave CFG out; weak models need none."

    def at_step(self, prediction: Tensor, pipe: Any, kwargs: Mapping[str, Any]) -> Tensor:
        return prediction[:, : running(pipe, "latents")["latents"].shape[1]]

    def recorded(self, x: Tensor, pipe: Any, kwargs: Mapping[str, Any], *, predicted: bool) -> Tensor:
        places = running(pipe, "latent_ids")["latent_ids"][0]
        return self._spread(x, pipe, int(places[:, 1].max()) + 1)

    def returned(self, pipe: Any, latents: Tensor, call: Mapping[str, Any]) -> Tensor:
        usual, token = pipe.default_sample_size * pipe.vae_scale_factor, 2 * pipe.vae_scale_factor
        return self._spread(latents, pipe, (call.get("height") or usual) // token)

    def _spread(self, tokens: Tensor, pipe: Any, height: int) -> Tensor:
        patches = tokens.mT.unflatten(2, (height, -1))
        return pipe._unpatchify_latents(patches)[:, :, None]

    def spacing(self, pipe: Any, scheduler: Any, steps: int, shape: tuple[int, ...] | None) -> dict[str, Any]:
        from diffusers.pipelines.flux2.pipeline_flux2 import compute_empirical_mu

        own = super().spacing(pipe, scheduler, steps, None)
        return own if shape is None else {**own, "mu": compute_empirical_mu(shape[3] * shape[4] // 4, steps)}

    def decode(self, pipe: Any, latents: Tensor) -> np.ndarray:
        patches = pipe._patchify_latents(latents[:, :, 0].to(pipe.vae.device, pipe.vae.dtype).contiguous())
        mean, std = statistics(pipe.vae, patches)
        with torch.no_grad():
            picture = pipe.vae.decode(pipe._unpatchify_latents(patches * std + mean), return_dict=False)[0]
        return pipe.image_processor.postprocess(picture, output_type="np")[:, None]


class Flux2Klein(Flux2):
    """`Flux2KleinPipeline`: base checkpoints have true CFG, distilled ones (`is_distilled`) none."""

    name = "Flux.2 klein"
    pipelines = ("Flux2KleinPipeline",)
    scale_argument = "guidance_scale"
    cfg_form = "two calls a step, conditional first: u + scale (c - u); distilled checkpoints have one"
    has_uncond = Packed.has_uncond
    asked_scale = Packed.asked_scale
    how_to_scale = Packed.how_to_scale

    def wants_uncond(self, pipe: Any, call: Mapping[str, Any]) -> bool:
        return Packed.wants_uncond(self, pipe, call) and not pipe.config.is_distilled

    def how_to_uncond(self) -> str:
        return "Add lab.CFG(scale) with a scale above 1; distilled checkpoints have no unconditional prediction."

    def returned(self, pipe: Any, latents: Tensor, call: Mapping[str, Any]) -> Tensor:
        patches = pipe._patchify_latents(latents.contiguous())  # they come as the decoder wants them
        mean, std = statistics(pipe.vae, patches)
        return pipe._unpatchify_latents((patches - mean) / std)[:, :, None]


def statistics(vae: Any, patches: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of latents in patches, by channel."""
    mean, var = (x.view(1, -1, 1, 1) for x in (vae.bn.running_mean, vae.bn.running_var))
    return mean.to(patches), torch.sqrt(var + vae.config.batch_norm_eps).to(patches)
