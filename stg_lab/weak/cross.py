"""What edits of cross-attention share: all layers unless some are named, and kernels answered for the rows of the caption."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from stg_lab.errors import GuidanceError
from stg_lab.patch import Hits, Make, replaced_forwards
from stg_lab.weak.base import Pass, Weak, check_layers, place
from stg_lab.weak.layers import format_layers, whole_numbers
from stg_lab.weak.spec import read

if TYPE_CHECKING:
    from torch import Tensor, nn

    from stg_lab.families import Family


@dataclass(frozen=True, repr=False)
class EveryLayer(Weak):
    """Base of the edits of one sub-layer in all blocks; a subclass gives `part` and `made`.

    Attributes:
        layers: block numbers from 0; None for all.
    """

    positional: ClassVar[tuple[str, ...]] = ()
    part: ClassVar[str] = "cross_attention"
    by_rows: ClassVar[bool] = True

    layers: tuple[int, ...] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layers is not None:
            object.__setattr__(self, "layers", whole_numbers(self.layers, "layers", "layers=[3, 4]"))

    @classmethod
    def from_text(cls, text: str) -> Self:
        return cls(**(read(cls, text) if text else {}))

    def _where(self) -> str:
        return ("" if self.layers is None else f" of blocks {format_layers(self.layers)}") + self._under_prompt()

    def check(self, family: Family, component: str, denoiser: nn.Module) -> None:
        if f"{self.part}_zero" not in family.parts:
            raise GuidanceError(
                f"{self} edits {self.part.replace('_', '-')}, which the blocks of {family.name} models have not."
            )
        count = len(family.layers(denoiser))
        check_layers(self.layers or (), family, denoiser, lambda layer: repr(replace(self, layers=(layer,))))
        if not count or not self.modules(family, denoiser):
            raise GuidanceError(
                f"{self}: these blocks of {type(denoiser).__name__} have no {self.part.replace('_', '-')}."
            )

    def modules(self, family: Family, denoiser: nn.Module) -> list[tuple[str, nn.Module]]:
        """The modules that are edited, with their places."""
        layers = family.layers(denoiser)
        chosen = range(len(layers)) if self.layers is None else self.layers
        return [
            (f"{self.part} {place(layer, axis)}", module)
            for layer in chosen
            for axis, block in layers[layer].items()
            for module in family.sublayers(block, self.part)
        ]

    def perturb(self, at: Pass) -> contextlib.AbstractContextManager[Hits]:
        found = self.modules(at.family, at.denoiser)
        edit = self.made(at, found[0][1])
        return replaced_forwards([(module, _by_rows(edit, Rows(at)), where) for where, module in found])

    def made(self, at: Pass, first: nn.Module) -> Make:
        """What makes an edited forward of a module's forward; all rows may be edited.

        Args:
            at: the call.
            first: the first module that is edited.
        """
        raise NotImplementedError


def _by_rows(edit: Make, rows: Rows) -> Make:
    def make(forward: Callable[..., Any]) -> Callable[..., Any]:
        edited = edit(forward)
        return lambda *args, **kwargs: rows.put(lambda: forward(*args, **kwargs), edited(*args, **kwargs))

    return make


class Rows:
    """Which rows of a module's output are under the caption: those of the call's piece, or all where a weak pass has no others."""

    def __init__(self, at: Pass) -> None:
        self._piece, self._whole = at.piece, 0  # as many rows as the pipeline's own call has, which comes first

    def put(self, plain: Callable[[], Tensor], edited: Tensor) -> Tensor:
        """The edited rows for the caption, and the others as they are."""
        import torch

        self._whole = self._whole or len(edited)
        index, count = self._piece
        if count == 1 or len(edited) < self._whole:
            return edited
        pieces = list(plain().chunk(count))
        pieces[index] = edited.chunk(count)[index]
        return torch.cat(pieces)
