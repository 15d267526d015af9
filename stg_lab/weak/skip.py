"""Skipping: a weak model that leaves out whole blocks or one part of them (Hyung et al. 2025, section 4.3).

| part | what happens in the chosen layers | also known as |
|---|---|---|
| `block` | the block returns its input (eq. 15); attention, cross-attention and feed-forward are all left out | STG-R, SLG |
| `attention` | self-attention map = identity: the output is the value projection (eq. 17) | STG-A, PAG |
| `attention_zero` | the self-attention's residual branch is zero | |
| `feedforward` | the feed-forward's residual branch is zero | |
"""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stg_lab.errors import GuidanceError, did_you_mean
from stg_lab.weak.base import replaced_forward

if TYPE_CHECKING:  # a weak model is a value: naming one needs no torch
    from torch import nn

    from stg_lab.families import Family

PARTS = ("block", "attention", "attention_zero", "feedforward")
AXES = ("joint", "spatial", "temporal")


@dataclass(frozen=True)
class Skip:
    """The same model with `part` of `layers` left out along `axis`. Make it with `lab.skip`."""

    layers: tuple[int, ...]
    part: str = "block"
    axis: str = "joint"

    @property
    def name(self) -> str:
        return "skip"

    def __str__(self) -> str:
        axis = "" if self.axis == "joint" else f"@{self.axis}"
        return f"skip:{self.part}:{format_layers(self.layers)}{axis}"

    def check(self, family: Family, denoiser: nn.Module) -> None:
        """Raise `GuidanceError` for a layer out of range or an axis or part that the family lacks."""
        count = len(family.blocks(denoiser))
        outside = [layer for layer in self.layers if layer >= count]
        if outside:
            raise GuidanceError(
                f"layer {', '.join(map(str, outside))} is out of range: {type(denoiser).__name__} has {count} blocks, "
                f"0 to {count - 1}. Type for example lab.skip([{count // 2}], part={self.part!r})."
            )
        if self.axis not in family.axes:
            raise GuidanceError(
                f"axis {self.axis!r} is not there in {family.name} models, whose attention is {', '.join(family.axes)}. "
                f"Type lab.skip({list(self.layers)}, part={self.part!r})."
            )
        if self.part not in family.parts:
            raise GuidanceError(
                f"part {self.part!r} cannot be skipped in {family.name} models: {', '.join(family.parts)}."
            )

    @contextlib.contextmanager
    def perturb(self, family: Family, denoiser: nn.Module) -> Iterator[dict[str, int]]:
        blocks, hits = family.blocks(denoiser), {}
        with contextlib.ExitStack() as stack:
            for layer in self.layers:
                place = f"{self.part} {layer}"
                hits[place] = 0
                module, forward = family.bypass(blocks[layer], self.part)
                stack.enter_context(replaced_forward(module, _counted(forward, hits, place)))
            yield hits


def _counted(forward: Any, hits: dict[str, int], place: str) -> Any:
    def counted(*args: Any, **kwargs: Any) -> Any:
        hits[place] += 1
        return forward(*args, **kwargs)

    return counted


def skip(layers: int | Iterable[int], *, part: str = "block", axis: str = "joint") -> Skip:
    """A weak model that skips layers of the model itself.

    Args:
        layers: block numbers from 0, in the order in which the model runs them.
        part: what to leave out: "block", "attention", "attention_zero" or "feedforward" (see the module's table).
        axis: "joint", or "spatial" or "temporal" in models whose attention is factorised.

    Raises:
        GuidanceError: no layers, a negative or fractional one, an unknown part or axis.

    >>> str(skip([3, 4, 5, 8], part="attention"))
    'skip:attention:3-5,8'
    """
    given = _whole_numbers(layers)
    for kind, value, allowed in (("part", part, PARTS), ("axis", axis, AXES)):
        if value not in allowed:
            raise GuidanceError(
                f"{kind} {value!r} is unknown.{did_you_mean(value, allowed)} Known: {', '.join(allowed)}."
            )
    return Skip(tuple(sorted(set(given))), part, axis)


def _whole_numbers(layers: Any) -> list[int]:
    """One layer or several as plain integers; numpy's are welcome, anything that is no layer is refused."""
    given = list(layers) if isinstance(layers, Iterable) and not isinstance(layers, str) else [layers]
    if not given:
        raise GuidanceError("skip needs at least one layer, got none. Type for example lab.skip([5]).")
    try:
        numbers = [operator.index(layer) for layer in given if not isinstance(layer, bool)]
    except TypeError:
        numbers = []
    if len(numbers) != len(given) or min(numbers) < 0:
        raise GuidanceError(f"layers are whole numbers from 0, got {layers!r}. Type for example lab.skip([5]).")
    return numbers


def format_layers(layers: Iterable[int]) -> str:
    """Layers as a short text: runs of three and more are written with a dash.

    >>> format_layers([0, 1, 3, 4, 5])
    '0,1,3-5'
    """
    runs: list[list[int]] = []
    for layer in sorted(layers):
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ",".join(f"{r[0]}-{r[-1]}" if len(r) > 2 else ",".join(map(str, r)) for r in runs)


def parse_layers(text: str) -> list[int]:
    """Read `format_layers` back.

    Raises:
        GuidanceError: the text is not a list of layers.
    """
    layers: list[int] = []
    for piece in text.split(","):
        first, dash, last = piece.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise GuidanceError(f"{text!r} is not a list of layers. Type for example 5 or 3-5,8.")
        layers += range(int(first), int(last if dash else first) + 1)
    return layers
