"""What a family says of its network: blocks, layers, sub-layers, how its tokens lie, and what is left of a part that is left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stg_lab.errors import GuidanceError


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


#: Parts of blocks in which text and video share one attention.
SHARED_PARTS = ("block", "attention", "attention_video", "attention_diagonal", "attention_zero", "feedforward")


class Network:
    """A family's denoisers, as modules."""

    name: str = ""
    pipelines: tuple[str, ...] = ()  # class names in diffusers
    parts: tuple[str, ...] = ("block", "attention", "attention_zero", "cross_attention_zero", "feedforward")
    axes: tuple[str, ...] = (
        "joint",
    )  # of the attentions the model has: one over the video, or one each for space and time
    text_tokens: str = "none"  # where text lies in the self-attention: "none", "first" or "last"
    sequential: bool = True  # whether what a stage passes on is all that later stages need of it and of those before it
    surely_reused: bool = False  # whether stages surely run in their order, once each; else checked as they run
    still: bool = False  # whether it makes pictures, which are videos of one frame
    video_stream: int = 0  # which element is the video, where a block returns several
    other_stream: str = "text"  # what the blocks carry beside the video, for messages

    def denoisers(self, pipe: Any) -> dict[str, nn.Module]:
        """The components whose forward predicts, by name."""
        found = {name: getattr(pipe, name, None) for name in ("transformer", "transformer_2", "unet")}
        return {name: module for name, module in found.items() if module is not None}

    def blocks(self, denoiser: Any) -> list[Any]:
        """The residual blocks in the order in which a forward pass runs them."""
        raise NotImplementedError

    def stages(self, denoiser: Any) -> list[Any]:
        """The modules that a forward pass runs one after the other, each of which can be left out where a pass repeats what
        an earlier one has computed (`stg_lab.passes`)."""
        return self.blocks(denoiser)

    def layers(self, denoiser: Any) -> list[dict[str, Any]]:
        """The layers as people count them: each one's blocks by axis. In factorised models a layer is a pair of blocks."""
        return [{"joint": block} for block in self.blocks(denoiser)]

    def sublayers(self, block: Any, part: str) -> list[nn.Module]:
        """The modules of a block that are its "attention" (self-attention), "cross_attention" or "feedforward".

        Several where text and video have one each; none where this block lacks it.
        """
        raise NotImplementedError

    def sublayer(self, block: Any, part: str) -> nn.Module:
        return self.sublayers(block, part)[0]

    def without(self, part: str, *args: Any, **kwargs: Any) -> Any:
        """What a skipped "block", or a sub-layer that adds nothing, returns for the arguments it was called with."""
        hidden_states = args[0] if args else kwargs["hidden_states"]
        return hidden_states if part == "block" else torch.zeros_like(hidden_states)

    def left_out(self, part: str, forward: Callable[..., Any], args: tuple, kwargs: Mapping[str, Any]) -> Any:
        """`without`, for families that have to see what the module's `forward` does."""
        return self.without(part, *args, **kwargs)

    def attend(self, module: Any, answer: Callable[..., Tensor]) -> Callable[..., Any] | None:
        """A forward of a self-attention that hands over what its kernel would compute, as `answer(kernel, query, key, value)`
        with tensors `(batch, head, token, channel)`; None where the kernel is torch's own, which is found without help."""
        return None

    def with_stream(
        self, args: tuple, kwargs: Mapping[str, Any], change: Callable[[Tensor], Tensor]
    ) -> tuple[tuple, dict[str, Any]]:
        """The arguments of a block with its video tokens `(batch, token, channel)` changed."""
        if args:
            return (change(args[0]), *args[1:]), dict(kwargs)
        return args, {**kwargs, "hidden_states": change(kwargs["hidden_states"])}

    def places(self, grid: Grid, axis: str, tokens: int) -> Grid:
        """How the tokens of one attention lie, given the grid of the call; U-Nets have coarser ones inside."""
        return grid.along(axis)

    def grid(self, denoiser: Any, args: tuple, kwargs: Mapping[str, Any]) -> Grid:
        """How the video tokens of a denoiser call lie.

        Raises:
            GuidanceError: the family does not know.
        """
        raise GuidanceError(
            f"the lab does not know how the video tokens of {self.name} pipelines lie, so nothing can be done by place. "
            "Identity attention needs no place: lab.skip(layers, part='attention')."
        )

    def heads(self, denoiser: Any) -> int:
        """How many heads a self-attention has."""
        return int(denoiser.config.num_attention_heads)

    def picture(self, denoiser: Any) -> tuple[nn.Module, tuple[slice, slice]] | None:
        """The module that is given the encoded picture in channels beside the latents, dimension 1 of its first argument, and which
        channels are the picture and its mask; None where there is none."""
        return None

    def has_history(self, denoiser: Any) -> bool:
        """Whether frames that are given lie in its input with a noise level of their own, which it is told."""
        return False

    def prediction(self, output: Any) -> Tensor:
        """The prediction in whatever the denoiser returned."""
        if isinstance(output, Tensor):
            return output
        return output.sample if hasattr(output, "sample") else output[0]


def two_streams_without(part: str, *args: Any, **kwargs: Any) -> Any:
    """`Family.without` for blocks and attentions that carry video and text side by side; a feed-forward has one stream, and so has
    a block that was given both as one."""
    names = ("hidden_states", "encoder_hidden_states")
    given = dict(zip(names, args, strict=False)) | kwargs
    if given.get("encoder_hidden_states") is None:
        return given["hidden_states"] if part == "block" else torch.zeros_like(given["hidden_states"])
    streams = tuple(given[name] for name in names)
    return streams if part == "block" else tuple(torch.zeros_like(x) for x in streams)
