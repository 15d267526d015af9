"""Open-Sora 1.2: a block for space and a block for time in every layer, rectified flow; the paper's factorised model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stg_lab.families.base import Family, Grid
from stg_lab.opensora.lengths import check_frames, latent_frames


class OpenSora(Family):
    """`stg_lab.opensora.OpenSoraPipeline`. A layer is a pair of blocks, each with cross-attention to the caption."""

    name = "Open-Sora"
    pipelines = ("OpenSoraPipeline",)
    surely_reused = True
    axes = ("spatial", "temporal")
    batched = True
    cfg_form = "one call with the batch [uncond, cond]: u + scale (c - u), of the model's velocity with its sign turned"
    sources = (
        "the paper: CFG 7, the 12th layer of 28, spatial and temporal passes added up (eq. 20), STG-A at scale 2, STG-R at scale 1 "
        "(A1.3). It does not say whether the 12th is counted from 1, which is index 11, lab.skip([11], ...), or from 0, which is "
        "index 12, lab.skip([12], ...); nor whether each pass has the scale or half of it: try both"
    )

    def layers(self, denoiser: Any) -> list[dict[str, Any]]:
        pairs = zip(denoiser.spatial_blocks, denoiser.temporal_blocks, strict=True)
        return [{"spatial": space, "temporal": time} for space, time in pairs]

    def blocks(self, denoiser: Any) -> list[Any]:
        return [block for layer in self.layers(denoiser) for block in layer.values()]

    def sublayers(self, block: Any, part: str) -> list[nn.Module]:
        return [{"attention": block.attn, "cross_attention": block.cross_attn, "feedforward": block.mlp}[part]]

    def grid(self, denoiser: Any, args: tuple, kwargs: Mapping[str, Any]) -> Grid:
        """What is no whole patch at the edge is a patch all the same."""
        sizes = kwargs["hidden_states"].shape[2:]
        return Grid(*(-(-size // patch) for size, patch in zip(sizes, denoiser.config.patch_size, strict=True)))

    def places(self, grid: Grid, axis: str, tokens: int) -> Grid:
        """Blocks get the tokens of the whole video; their attention gets rows of them along its axis."""
        return grid if tokens == grid.size else grid.along(axis)

    def heads(self, denoiser: Any) -> int:
        return int(denoiser.config.num_heads)

    def without_caption(self, pipe: Any, args: tuple, kwargs: Mapping[str, Any]) -> tuple[tuple, dict[str, Any]]:
        return args, {**kwargs, "encoder_hidden_states": pipe.no_caption(kwargs["encoder_hidden_states"])}

    def at_step(self, prediction: Tensor, pipe: Any, kwargs: Mapping[str, Any]) -> Tensor:
        """The model predicts x0 - noise, and values that nobody uses; the scheduler steps with noise - x0."""
        return -prediction[:, : pipe.transformer.config.in_channels]

    def check_call(self, pipe: Any, call: Mapping[str, Any]) -> None:
        if isinstance(call.get("num_frames"), int):
            check_frames(call["num_frames"])

    def latent_shape(self, pipe: Any, call: Mapping[str, Any]) -> tuple[int, ...] | None:
        shape = super().latent_shape(pipe, call)
        if shape is None or call.get("latents") is not None:
            return shape
        return (*shape[:2], latent_frames(call["num_frames"]), *shape[3:])

    def set_timesteps(self, pipe: Any, scheduler: Any, call: Mapping[str, Any], shape: tuple[int, ...]) -> None:
        """Steps depend on the pixels that are asked for, which latents no longer tell."""
        size = {name: call[name] for name in ("num_frames", "height", "width")}
        scheduler.set_timesteps(**pipe.spacing(scheduler, call["num_inference_steps"], **size))

    def decode(self, pipe: Any, latents: Tensor) -> np.ndarray:
        """The longest video that these latents can be: 17 frames for every 5, and 4 for each that is left; a picture for one."""
        with torch.no_grad():
            video = pipe.decode_latents(latents)
        return pipe.video_processor.postprocess_video(video, output_type="np")
