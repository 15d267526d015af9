"""LTX-Video: tokens instead of latents at the scheduler, text by cross-attention, CFG as one batched call."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stg_lab.errors import GuidanceError
from stg_lab.families import call_sizes
from stg_lab.families.base import Family, Grid
from stg_lab.families.caller_frame import running


class LTX(Family):
    """`LTXPipeline` (0.9 and its successors, 13B). A latent pixel is a token; their sizes are in every denoiser call."""

    name = "LTX"
    pipelines: tuple[str, ...] = ("LTXPipeline",)
    surely_reused = True
    batched = True
    unbatched = ("rope_interpolation_scale", "attention_kwargs")  # its rotary embeddings have rows
    shift = (256, 0.5, 1.15)  # of the noise levels, by how many tokens there are: see `call_sizes.shift`
    layout = "batch, token, channel"
    cfg_form = "one call with the batch [uncond, cond], combined in float32: u + scale (c - u)"
    sources = "diffusers' community STG pipelines for LTX skip block 19 (STG-R, scale 1 in their example)"

    def blocks(self, denoiser: Any) -> list[Any]:
        return list(denoiser.transformer_blocks)

    def sublayers(self, block: Any, part: str) -> list[nn.Module]:
        return [{"attention": block.attn1, "cross_attention": block.attn2, "feedforward": block.ff}[part]]

    def grid(self, denoiser: Any, args: tuple, kwargs: Mapping[str, Any]) -> Grid:
        return Grid(kwargs["num_frames"], kwargs["height"], kwargs["width"])

    def prediction(self, output: Any) -> Tensor:
        return super().prediction(output).float()  # as the pipeline does, before CFG

    def recorded(self, x: Tensor, pipe: Any, kwargs: Mapping[str, Any], *, predicted: bool) -> Tensor:
        return spread(x, pipe, self.grid(None, (), kwargs))

    def returned(self, pipe: Any, latents: Tensor, call: Mapping[str, Any]) -> Tensor:
        stock = inspect.signature(pipe.__call__).parameters
        frames, height, width = (call.get(name, stock[name].default) for name in ("num_frames", "height", "width"))
        space, time = pipe.vae_spatial_compression_ratio, pipe.vae_temporal_compression_ratio
        return spread(latents, pipe, Grid((frames - 1) // time + 1, height // space, width // space))

    def spacing(self, pipe: Any, scheduler: Any, steps: int, shape: tuple[int, ...]) -> dict[str, Any]:
        mu = call_sizes.shift(scheduler, int(np.prod(shape[2:])), self.shift)
        return {"sigmas": np.linspace(1.0, 1 / steps, steps), "mu": mu}

    def denormalised(self, pipe: Any, latents: Tensor) -> Tensor:
        """What the VAE decodes, in the latents' own precision."""
        vae = pipe.vae
        return _stock(pipe)._denormalize_latents(latents, vae.latents_mean, vae.latents_std, vae.config.scaling_factor)

    def decode(self, pipe: Any, latents: Tensor) -> np.ndarray:
        """With the stock `decode_timestep=0`, so without the noise that a larger one adds before decoding."""
        vae = pipe.vae
        z = self.denormalised(pipe, latents.to(vae.device)).to(vae.dtype)
        timestep = torch.zeros(len(z)).to(z) if vae.config.timestep_conditioning else None
        with torch.no_grad():
            video = vae.decode(z, timestep, return_dict=False)[0]
        return pipe.video_processor.postprocess_video(video, output_type="np")


class LTXImage(LTX):
    """`LTXImageToVideoPipeline`. The first latent frame is the picture, at noise level 0 throughout; the scheduler steps the
    others, unpacked. Recordings hold all frames: in the first one the latents are the picture and every prediction is zero."""

    name = "LTX image-to-video"
    pipelines = ("LTXImageToVideoPipeline",)
    layout = "batch, channel, frame, y, x; the picture's frame is not stepped"

    def has_history(self, denoiser: Any) -> bool:
        return True

    def at_step(self, prediction: Tensor, pipe: Any, kwargs: Mapping[str, Any]) -> Tensor:
        return spread(prediction, pipe, self.grid(None, (), kwargs))[:, :, 1:]

    def with_latents(
        self, args: tuple, kwargs: Mapping[str, Any], old: Tensor, new: Tensor
    ) -> tuple[tuple, dict[str, Any]]:
        picture, rest = kwargs["hidden_states"].tensor_split([kwargs["height"] * kwargs["width"]], dim=1)
        old, new = (x.flatten(2).mT for x in (old, new))
        _, changed = super().with_latents((), {**kwargs, "hidden_states": rest}, old, new)
        return args, {**changed, "hidden_states": torch.cat([picture, changed["hidden_states"]], dim=1)}

    def given_frames(self, pipe: Any, *, at_step: bool = False) -> int:
        return 0 if at_step else 1

    def recorded(self, x: Tensor, pipe: Any, kwargs: Mapping[str, Any], *, predicted: bool) -> Tensor:
        picture = spread(kwargs["hidden_states"], pipe, self.grid(None, (), kwargs))[-len(x) :, :, :1].to(x.dtype)
        return torch.cat([torch.zeros_like(picture) if predicted else picture, x], dim=2)


class LTXCondition(LTX):
    """`LTXConditionPipeline` (0.9.5 and its successors). Frames that are given have a noise level of their own, and may be tokens
    beside the video's. The scheduler is handed the negative of what the model predicts; recordings have it as the model says."""

    name = "LTX condition"
    pipelines = ("LTXConditionPipeline",)
    layout = "batch, token, channel; tokens that are given stand in front"
    prediction_type = "flow"

    def grid(self, denoiser: Any, args: tuple, kwargs: Mapping[str, Any]) -> Grid:
        raise GuidanceError(
            "an LTX condition pipeline does not tell its model which tokens are the video's, so its attention cannot be edited by place. "
            "Skip whole blocks, or one part of them: lab.skip(layers), lab.skip(layers, part='attention')."
        )

    def at_step(self, prediction: Tensor, pipe: Any, kwargs: Mapping[str, Any]) -> Tensor:
        return -prediction

    def recorded(self, x: Tensor, pipe: Any, kwargs: Mapping[str, Any], *, predicted: bool) -> Tensor:
        call = running(pipe, "extra_conditioning_num_latents", "latent_num_frames", "latent_height", "latent_width")
        first, *sizes = call.values()
        return spread(x[:, first or 0 :], pipe, Grid(*sizes))

    def returned(self, pipe: Any, latents: Tensor, call: Mapping[str, Any]) -> Tensor:
        return latents

    def notes(self, pipe: Any) -> dict[str, str]:
        return {
            "conditions": "frames that are given keep a noise level of their own. The pipeline puts them back after every step, which "
            "recordings mark (`edited`)"
        }


def spread(tokens: Tensor, pipe: Any, grid: Grid) -> Tensor:
    """Packed tokens `(batch, token, channel)` as `(batch, channel, frame, y, x)`, as the pipeline does it."""
    config = pipe.transformer.config
    patch = config.patch_size, config.patch_size_t
    return _stock(pipe)._unpack_latents(tokens, grid.frames, grid.height, grid.width, *patch)


def _stock(pipe: Any) -> Any:
    """Whose functions for packed latents these are: modular pipelines have none."""
    if hasattr(pipe, "_unpack_latents"):
        return pipe
    from diffusers import LTXPipeline

    return LTXPipeline
