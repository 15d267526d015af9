"""Early exit: the model's own head on the stream of a middle layer (compare Internal Guidance, arXiv 2512.24176)."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from stg_lab.patch import Hits, replaced_forwards
from stg_lab.weak.base import Pass, Weak, check_layers, place
from stg_lab.weak.layers import whole_number
from stg_lab.weak.skip import left_out

if TYPE_CHECKING:
    from torch import nn

    from stg_lab.families import Family


@dataclass(frozen=True, repr=False)
class EarlyExit(Weak):
    """A weak model that stops before a layer: that one and all after it are skipped, as by `lab.skip(range(first, count))`.

    What came out of the layers before is there already, so the pass costs little more than the model's last projection.
    Internal Guidance trains a head for the middle layer; this takes the model's own, without training.

    Args:
        first: number of the first layer that is left out, from 0.
        prompt: as in `lab.skip`.
    """

    kind: ClassVar[str] = "early_exit"
    positional: ClassVar[tuple[str, ...]] = ("first",)
    example: ClassVar[str] = "lab.early_exit(5)"

    first: int

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "first", whole_number(self.first, "first", 0, self.example))

    @property
    def words(self) -> str:
        return f"all blocks from {self.first} on skipped{self._under_prompt()}"

    def check(self, family: Family, component: str, denoiser: nn.Module) -> None:
        check_layers((self.first,), family, denoiser, lambda layer: repr(type(self)(layer)))

    def skips_blocks(self, at: Pass) -> bool:
        return at.family.surely_reused

    def perturb(self, at: Pass) -> contextlib.AbstractContextManager[Hits]:
        make, layers = left_out(at.family, "block"), at.family.layers(at.denoiser)
        later = [(n, axis, block) for n in range(self.first, len(layers)) for axis, block in layers[n].items()]
        return replaced_forwards([(block, make, f"block {place(n, axis)}") for n, axis, block in later])
