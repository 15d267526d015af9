"""Stable Diffusion 3 and 3.5: pictures, text and picture in one attention, picture first; a skip guidance of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from stg_lab.families import call_sizes
from stg_lab.families.base import Grid
from stg_lab.families.caller_frame import running
from stg_lab.families.pictures import Pictures
from stg_lab.guidance import COND

NATIVE_SKIP = "skip_layer_guidance"  # a branch


class StableDiffusion3(Pictures):
    """`StableDiffusion3Pipeline`. Some blocks of 3.5 have a second self-attention, of the picture alone; the last one drops
    its text. Passes of the pipeline's own skip-layer guidance are a branch too, at the steps that make one."""

    name = "Stable Diffusion 3"
    pipelines = ("StableDiffusion3Pipeline",)
    text_tokens = "last"
    other_stream = "second"
    batched = True
    layout = "batch, channel, y, x"
    cfg_form = (
        "one call with the batch [uncond, cond]: u + scale (c - u); with skip_guidance_layers another one of cond alone, for "
        "+ skip_layer_guidance_scale (c - skip)"
    )
    sources = (
        "diffusers documents Stability's own for 3.5 medium: skip_guidance_layers=[7, 8, 9] at scale 2.8, from 1 % to 20 % of "
        "the steps, which is lab.STG(2.8, lab.skip([7, 8, 9]), start=0.01, stop=0.2)"
    )

    def sublayers(self, block: Any, part: str) -> list[nn.Module]:
        second = [block.attn2] if part == "attention" and block.attn2 is not None else []
        return super().sublayers(block, part) + second

    def grid(self, denoiser: Any, args: tuple, kwargs: Mapping[str, Any]) -> Grid:
        height, width = kwargs["hidden_states"].shape[2:]
        return Grid(1, height // denoiser.config.patch_size, width // denoiser.config.patch_size)

    def unpack(self, latents: Tensor, pipe: Any) -> Tensor:
        return latents[:, :, None]

    def perturbed(self, kwargs: Mapping[str, Any]) -> str:
        return NATIVE_SKIP if kwargs.get("skip_layers") is not None else ""

    def later_branches(self, pipe: Any) -> tuple[str, ...]:
        return (NATIVE_SKIP,) if self._skipped(pipe) else ()

    def beside_cfg(self, pipe: Any) -> str:
        layers = self._skipped(pipe)
        if not layers:
            return ""
        scale = pipe._skip_layer_guidance_scale
        return f"skip_guidance_layers={layers}. Leave it out; the lab's own is + lab.STG({scale:g}, lab.skip({layers}), start=..., stop=...)"

    def _skipped(self, pipe: Any) -> list[int]:
        """Layers of the skip guidance of the running call; it needs CFG."""
        return (self.has_uncond(pipe) and running(pipe, "skip_guidance_layers").get("skip_guidance_layers")) or []

    def stock(self, pipe: Any, predictions: Mapping[str, Tensor], scale: Any, sample: Tensor, index: int) -> Tensor:
        guided = super().stock(pipe, predictions, scale, sample, index)
        if NATIVE_SKIP not in predictions:
            return guided
        return guided + (predictions[COND] - predictions[NATIVE_SKIP]) * pipe._skip_layer_guidance_scale

    def spacing(self, pipe: Any, scheduler: Any, steps: int, shape: tuple[int, ...] | None) -> dict[str, Any]:
        if shape is None or not scheduler.config.get("use_dynamic_shifting"):
            return {}
        patch = pipe.transformer.config.patch_size
        return {"mu": call_sizes.shift(scheduler, (shape[3] // patch) * (shape[4] // patch), (256, 0.5, 1.16))}
