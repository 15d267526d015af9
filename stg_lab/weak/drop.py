"""Stochastic block dropping: another random sub-network at every step (S2-Guidance, Chen et al. 2025, arXiv 2508.12880)."""

from __future__ import annotations

import contextlib
import random
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

from stg_lab.errors import GuidanceError
from stg_lab.patch import Hits, replaced_forwards
from stg_lab.weak.base import Pass, Weak, check_layers, place
from stg_lab.weak.layers import format_layers, whole_number, whole_numbers
from stg_lab.weak.skip import left_out

if TYPE_CHECKING:
    from torch import nn

    from stg_lab.families import Family


@dataclass(frozen=True, repr=False)
class Drop(Weak):
    """A weak model that skips `count` whole blocks, drawn anew at every step from a seed.

    The paper drops about a tenth of the blocks and weighs the vector with 0.25 (its eq. 4): `STG(0.25, drop(3))` for 30.
    The draw depends on the seed and the number of the step alone, so a run can be made again, and all samples of a batch
    share it.

    Args:
        count: how many blocks a step skips.
        among: the layers to draw from; None for all but the first, which the paper finds that every model needs.
        seed: of the draws.
        prompt: as in `lab.skip`.
    """

    kind: ClassVar[str] = "drop"
    positional: ClassVar[tuple[str, ...]] = ("count",)
    example: ClassVar[str] = "lab.drop(1)"
    example_text: ClassVar[str] = "drop:1"

    count: int
    among: tuple[int, ...] | None = field(default=None, kw_only=True)
    seed: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "count", whole_number(self.count, "count", 1, self.example))
        object.__setattr__(self, "seed", whole_number(self.seed, "seed", 0, "lab.drop(1, seed=3)"))
        if self.among is not None:
            object.__setattr__(self, "among", whole_numbers(self.among, "among", "lab.drop(1, among=[3, 4, 5])"))

    @property
    def words(self) -> str:
        several = "s" if self.count > 1 else ""
        return f"{self.count} random block{several} skipped, drawn at each step{self._under_prompt()}"

    def check(self, family: Family, component: str, denoiser: nn.Module) -> None:
        layers = len(family.layers(denoiser))
        check_layers(self.among or (), family, denoiser, lambda layer: repr(replace(self, count=1, among=(layer,))))
        there = range(1, layers) if self.among is None else self.among
        if self.count > len(there):
            raise GuidanceError(
                f"drop({self.count}) draws more blocks than the {len(there)} there are to draw from: "
                f"{format_layers(there) or 'none'} of 0 to {layers - 1}. Type {replace(self, count=max(1, len(there)))!r} or less."
            )

    def drawn(self, step: int, layers: int) -> tuple[int, ...]:
        """Which blocks a step skips, in a model of `layers` blocks."""
        among = range(1, layers) if self.among is None else self.among
        return tuple(sorted(random.Random(f"{self.seed}/{step}").sample(list(among), self.count)))

    def skips_blocks(self, at: Pass) -> bool:
        return at.family.surely_reused

    def perturb(self, at: Pass) -> contextlib.AbstractContextManager[Hits]:
        layers, make = at.family.layers(at.denoiser), left_out(at.family, "block")
        drawn = [(n, axis, block) for n in self.drawn(at.step, len(layers)) for axis, block in layers[n].items()]
        return replaced_forwards([(block, make, f"block {place(n, axis)}") for n, axis, block in drawn])
