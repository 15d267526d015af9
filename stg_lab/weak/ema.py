"""Attention averaged over steps: exponential moving average guidance, EMAG (Yadav et al. 2025, arXiv 2512.17303)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from stg_lab.errors import GuidanceError
from stg_lab.given import real, shown
from stg_lab.weak.attention import Attention, AttentionEdit
from stg_lab.weak.base import Pass, blocks_text, one_of

if TYPE_CHECKING:
    from torch import Tensor

OF = ("output", "map")


@dataclass(frozen=True, repr=False)
class Ema(AttentionEdit):
    """Self-attention that lags behind: its map, or its output, is an exponential moving average over the steps so far.

    `average <- decay * average + (1 - decay) * now`, beginning with the first step at which the weak pass runs; there it is the
    attention itself and the guidance vector is zero. The paper averages the map, which for n tokens holds n x n numbers for
    every head; the average of the output holds as many as the stream and goes with long videos. The paper chooses its layers by
    statistics; here they are yours.

    Args:
        layers: block numbers from 0.
        decay: weight of what was before, from 0 to below 1.
        of: "output", or "map" as in the paper.
        axis: in factorised models "spatial" or "temporal" attention alone.
        heads, strength, prompt: as in `lab.skip`.
    """

    kind: ClassVar[str] = "ema"
    example: ClassVar[str] = "lab.ema([5], decay=0.9)"

    decay: float = field(default=0.9, kw_only=True)
    of: str = field(default="output", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        decay = real(self.decay)
        if decay is None or not 0 < decay < 1:
            raise GuidanceError(
                f"decay must lie between 0 and 1, got {shown(self.decay)}. Type for example {self.example}."
            )
        object.__setattr__(self, "decay", float(decay))
        one_of("of", self.of, OF)

    @property
    def words(self) -> str:
        return (
            f"attention {self.of} of {blocks_text(self.layers)} averaged over steps, decay {self.decay:g}{self._some()}"
        )

    def unchanged(self, at: Pass) -> bool:
        return at.memory.get((self, "first")) == at.step

    def edit(self, attention: Attention, at: Pass) -> Tensor:
        at.memory.setdefault((self, "first"), at.step)
        if self.of == "output":
            return self._averaged(attention(), at, attention.label)
        return self._averaged(attention.map(), at, attention.label) @ attention.each_head(attention.value)

    def _averaged(self, now: Tensor, at: Pass, place: Any) -> Tensor:
        """The average up to and with this step; asked twice at a step, it answers the same."""
        step, before, average = at.memory.get((self, place), (None, None, None))
        if step != at.step:
            before = average
        average = now if before is None or before.shape != now.shape else self.decay * before + (1 - self.decay) * now
        at.memory[self, place] = at.step, before, average
        return average
