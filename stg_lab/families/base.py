"""What a family tells the seams. A family is stateless; every method takes the pipeline or the module it asks about."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stg_lab.errors import GuidanceError
from stg_lab.preview import Preview


@dataclass(frozen=True)
class Grid:
    """How the video tokens of a denoiser call lie: frame by frame, row by row."""

    frames: int
    height: int
    width: int

    @property
    def size(self) -> int:
        """How many tokens there are."""
        return self.frames * self.height * self.width

    def along(self, axis: str) -> Grid:
        """The tokens that one attention sees: all, those of a frame, or those of a position over time."""
        if axis == "spatial":
            return Grid(1, self.height, self.width)
        return Grid(self.frames, 1, 1) if axis == "temporal" else self

    def __str__(self) -> str:
        return f"{self.frames} frames of {self.height} x {self.width}"


class Family:
    """Base of the families; holds what most of them share."""

    name: str = ""
    pipelines: tuple[str, ...] = ()  # class names in diffusers
    parts: tuple[str, ...] = ("block", "attention", "attention_zero", "cross_attention_zero", "feedforward")
    axes: tuple[str, ...] = (
        "joint",
    )  # of the attentions the model has: one over the video, or one each for space and time
    text_tokens: str = "none"  # where text lies in the self-attention: "none", "first" or "last"
    video_stream: int = 0  # which element is the video, where a block returns several
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

    def layers(self, denoiser: Any) -> list[dict[str, Any]]:
        """The layers as people count them: each one's blocks by axis. In factorised models a layer is a pair of blocks."""
        return [{"joint": block} for block in self.blocks(denoiser)]

    def sublayer(self, block: Any, part: str) -> nn.Module:
        """The module of a block that is its "attention" (self-attention), "cross_attention" or "feedforward"."""
        raise NotImplementedError

    def without(self, part: str, *args: Any, **kwargs: Any) -> Any:
        """What a skipped "block", or a sub-layer that adds nothing, returns for the arguments it was called with."""
        hidden_states = args[0] if args else kwargs["hidden_states"]
        return hidden_states if part == "block" else torch.zeros_like(hidden_states)

    def with_stream(
        self, args: tuple, kwargs: Mapping[str, Any], change: Callable[[Tensor], Tensor]
    ) -> tuple[tuple, dict[str, Any]]:
        """The arguments of a block with its video tokens `(batch, token, channel)` changed."""
        if args:
            return (change(args[0]), *args[1:]), dict(kwargs)
        return args, {**kwargs, "hidden_states": change(kwargs["hidden_states"])}

    def grid(self, denoiser: Any, args: tuple, kwargs: Mapping[str, Any]) -> Grid:
        """How the video tokens of a denoiser call lie."""
        raise NotImplementedError

    def heads(self, denoiser: Any) -> int:
        """How many heads a self-attention has."""
        return int(denoiser.config.num_attention_heads)

    def without_caption(self, pipe: Any, args: tuple, kwargs: Mapping[str, Any]) -> tuple[tuple, dict[str, Any]]:
        """The arguments of a denoiser call with the empty caption in place of its own."""
        raise GuidanceError(f"prompt='none' is not there for {self.name} models. Type prompt='caption' or 'negative'.")

    def with_latents(
        self, args: tuple, kwargs: Mapping[str, Any], old: Tensor, new: Tensor
    ) -> tuple[tuple, dict[str, Any]]:
        """The arguments of a denoiser call with other latents: `new` in place of the `old` ones that the step started from.

        Raises:
            GuidanceError: the latents are not what the denoiser was given.
        """
        given = args[0] if args else kwargs["hidden_states"]
        copies = given.shape[0] // old.shape[0]
        if given.shape != (copies * old.shape[0], *old.shape[1:]) or not torch.equal(
            given, torch.cat([old] * copies).to(given.dtype)
        ):
            raise GuidanceError(
                f"in {self.name} pipelines of this kind the denoiser's input is not just the latents, so a step cannot be made "
                "again from other ones. Leave Restart out."
            )
        changed = torch.cat([new] * copies).to(given.dtype)
        return ((changed, *args[1:]), dict(kwargs)) if args else (args, {**kwargs, "hidden_states": changed})

    def has_uncond(self, pipe: Any) -> bool:
        """Whether the running call computes the unconditional prediction."""
        return bool(pipe.do_classifier_free_guidance)

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
