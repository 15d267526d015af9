"""What a family tells the seams. A family is stateless; every method takes the pipeline or the module it asks about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stg_lab.errors import GuidanceError
from stg_lab.preview import Preview


class Family:
    """Base of the families; holds what most of them share."""

    name: str = ""
    pipelines: tuple[str, ...] = ()  # class names in diffusers
    parts: tuple[str, ...] = ("block", "attention", "attention_zero", "feedforward")
    axes: tuple[str, ...] = ("joint",)
    cfg_form: str = ""  # for people: how the pipeline runs classifier-free guidance
    layout: str = "batch, channel, frame, y, x"  # of the latents at scheduler.step
    scale_argument: str = "guidance_scale"  # the pipeline's own name for the CFG scale
    sources: str = ""  # settings that the method's authors used, with where that is written

    def denoisers(self, pipe: Any) -> dict[str, nn.Module]:
        """The components whose forward predicts, by name."""
        found = {name: getattr(pipe, name, None) for name in ("transformer", "transformer_2", "unet")}
        return {name: module for name, module in found.items() if module is not None}

    def blocks(self, denoiser: Any) -> list[Any]:
        """The residual blocks in the order in which a forward pass runs them."""
        raise NotImplementedError

    def bypass(self, block: Any, part: str) -> tuple[nn.Module, Callable[..., Any]]:
        """Which module's `forward` to replace, and by what, to leave out `part` of a block."""
        raise NotImplementedError

    def branch(self, call: int) -> str:
        """Which branch the denoiser call number `call` (from 0) of a step computes."""
        raise NotImplementedError

    def scale(self, pipe: Any, denoiser: str) -> float:
        """The CFG scale that the running call uses with this denoiser."""
        return float(pipe.guidance_scale) if pipe.do_classifier_free_guidance else 1.0

    def prediction(self, output: Any) -> Tensor:
        """The prediction in whatever the denoiser returned."""
        if isinstance(output, Tensor):
            return output
        return output.sample if hasattr(output, "sample") else output[0]

    def unpack(self, latents: Tensor, pipe: Any) -> Tensor:
        """Latents or predictions as the pipeline has them, to (batch, channel, frame, y, x)."""
        return latents

    def defaults(self, pipe: Any) -> dict[str, Any]:
        """Call arguments that this very checkpoint was made for, where the stock defaults would not fit it."""
        return {}

    def decode(self, pipe: Any, latents: Tensor) -> np.ndarray:
        """Latents (batch, channel, frame, y, x) through the pipeline's own decoder, as `run.video`'s layout."""
        raise NotImplementedError

    def preview(self, pipe: Any) -> Preview | None:
        """A linear decoder for these latents, where one is known without fitting."""
        return None


def zeros_like_first(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """A sub-layer whose residual branch is zero."""
    return torch.zeros_like(hidden_states)


def no_such_part(family: Family, part: str) -> GuidanceError:
    """The error for a part that a family cannot leave out."""
    return GuidanceError(f"part {part!r} cannot be skipped in {family.name} models: {', '.join(family.parts)}.")
