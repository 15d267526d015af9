"""Qwen-Image: pictures as packed tokens, text and picture in one attention, text first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stg_lab.families.base import Grid
from stg_lab.families.call import Call
from stg_lab.families.flux import Flux
from stg_lab.families.wan import statistics
from stg_lab.guidance import COND, UNCOND


class QwenImage(Flux):
    """`QwenImagePipeline`. After true CFG the pipeline scales each token back to the length of its conditional prediction, which
    no sum of guidance vectors is; so the lab guides it without CFG."""

    name = "Qwen-Image"
    pipelines = ("QwenImagePipeline",)
    without_caption = Call.without_caption  # its captions have as many tokens as words
    cfg_form = (
        "with true_cfg_scale above 1 and a negative prompt two calls, conditional first: u + scale (c - u), each token then scaled to the "
        "length of c. The lab's guidance needs true_cfg_scale=1, or no negative prompt"
    )

    def blocks(self, denoiser: Any) -> list[Any]:
        return list(denoiser.transformer_blocks)

    def sublayers(self, block: Any, part: str) -> list[nn.Module]:
        return [block.attn] if part == "attention" else [block.img_mlp, block.txt_mlp]

    def grid(self, denoiser: Any, args: tuple, kwargs: Mapping[str, Any]) -> Grid:
        shapes = kwargs["img_shapes"][0]
        return Grid(*shapes[0] if isinstance(shapes, list) else shapes)

    def wants_uncond(self, pipe: Any, call: Mapping[str, Any]) -> bool:
        negative = call.get("negative_prompt") is not None or call.get("negative_prompt_embeds") is not None
        return negative and (call.get(self.scale_argument) or 0) > 1

    def beside_cfg(self, pipe: Any) -> str:
        if not self.has_uncond(pipe):
            return ""
        return (
            "it scales each token of its CFG to the length of the conditional prediction. Call it with true_cfg_scale=1"
        )

    def stock(self, pipe: Any, predictions: Mapping[str, Tensor], scale: Any, sample: Tensor, index: int) -> Tensor:
        guided = super().stock(pipe, predictions, scale, sample, index)
        if UNCOND not in predictions:
            return guided
        lengths = [x.norm(dim=-1, keepdim=True) for x in (predictions[COND], guided)]
        return guided * (lengths[0] / lengths[1])

    def recorded(self, x: Tensor, pipe: Any, kwargs: Mapping[str, Any], *, predicted: bool) -> Tensor:
        return super().recorded(x, pipe, kwargs, predicted=predicted)[:, :, 0]

    def returned(self, pipe: Any, latents: Tensor, call: Mapping[str, Any]) -> Tensor:
        return super().returned(pipe, latents, call)[:, :, 0]

    def decode(self, pipe: Any, latents: Tensor) -> np.ndarray:
        z = latents.to(pipe.vae.device, pipe.vae.dtype)
        mean, inverse = statistics(pipe.vae, z)
        with torch.no_grad():
            picture = pipe.vae.decode(z / inverse + mean, return_dict=False)[0][:, :, 0]
        return pipe.image_processor.postprocess(picture, output_type="np")[:, None]
