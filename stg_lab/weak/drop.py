"""Stochastic block dropping: another random sub-network at every step (S2-Guidance, Chen et al. 2025, arXiv 2508.12880)."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from stg_lab.errors import GuidanceError
from stg_lab.weak.base import Hits, Layered, Pass, Weak, replaced_forward
from stg_lab.weak.layers import whole_numbers
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

    count: int
    among: tuple[int, ...] | None = field(default=None, kw_only=True)
    seed: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.count, bool) or self.count < 1 or self.count != int(self.count):
            raise GuidanceError(f"drop(count) takes 1, 2, 3, ... blocks, got {self.count!r}. Type {self.example}.")
        if self.among is not None:
            object.__setattr__(self, "among", whole_numbers(self.among, "among", "lab.drop(1, among=[3, 4, 5])"))

    def check(self, family: Family, component: str, denoiser: nn.Module) -> None:
        layers = len(family.layers(denoiser))
        if self.among is not None:
            Layered.check(_Among(self.among), family, component, denoiser)
        there = layers - 1 if self.among is None else len(self.among)
        if self.count > there:
            raise GuidanceError(f"drop({self.count}) draws more blocks than the {there} there are to draw from.")

    def drawn(self, step: int, layers: int) -> tuple[int, ...]:
        """Which blocks a step skips, in a model of `layers` blocks."""
        among = range(1, layers) if self.among is None else self.among
        return tuple(sorted(random.Random(f"{self.seed}/{step}").sample(list(among), self.count)))

    @contextlib.contextmanager
    def perturb(self, at: Pass) -> Iterator[Hits]:
        hits: Hits = {}
        layers = at.family.layers(at.denoiser)
        with contextlib.ExitStack() as stack:
            for layer in self.drawn(at.step, len(layers)):
                for axis, block in layers[layer].items():
                    place = f"block {layer}" + ("" if axis == "joint" else f" ({axis})")
                    stack.enter_context(replaced_forward(block, left_out(at.family, "block"), hits, place))
            yield hits


@dataclass(frozen=True, repr=False)
class _Among(Layered):
    example: ClassVar[str] = "lab.drop(1, among=[5])"
