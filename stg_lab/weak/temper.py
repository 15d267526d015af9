"""Attention at another temperature: the image half of Entropy Rectifying Guidance, ERG (Ifriqi et al. 2025, arXiv 2504.13987)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from stg_lab.weak.attention import Attention, AttentionEdit
from stg_lab.weak.base import Pass, blocks_text, in_range

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, repr=False)
class Temper(AttentionEdit):
    """Self-attention whose logits are divided by a temperature: softmax(q k / (temperature sqrt(d))).

    Above 1 the map is flatter, down to the mean of all values at infinity; below 1 it is sharper. All tokens of the attention
    are concerned, text too where it has a part in it. ERG also changes the step of the attention's energy, and in its other
    half the text encoder; neither is here.

    Args:
        layers: block numbers from 0.
        temperature: what logits are divided by.
        axis: in factorised models "spatial" or "temporal" attention alone.
        heads, strength, prompt: as in `lab.skip`.
    """

    kind: ClassVar[str] = "temper"
    example: ClassVar[str] = "lab.temper([5], temperature=2)"

    temperature: float = field(default=2.0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "temperature", in_range("temperature", self.temperature, 0, math.inf))

    @property
    def words(self) -> str:
        value = "∞" if math.isinf(self.temperature) else f"{self.temperature:g}"
        return f"attention of {blocks_text(self.layers)} at temperature {value}{self._some()}"

    def edit(self, attention: Attention, at: Pass) -> Tensor:
        return attention.with_query(attention.query / self.temperature)
