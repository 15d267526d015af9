"""The model itself with the empty caption, where the call's own unconditional pass has a negative prompt."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Self

from stg_lab.errors import GuidanceError
from stg_lab.weak.base import Hits, Pass, Weak

if TYPE_CHECKING:
    from torch import nn

    from stg_lab.families import Family


@dataclass(frozen=True, repr=False)
class Empty(Weak):
    """Nothing is weakened; the pass has the empty caption. `STG(g - 1, empty())` is CFG against it, whatever the call's negative
    prompt is, and Perp-Neg needs both: `STG(g - 1, empty()).perp_neg(n)`."""

    kind: ClassVar[str] = "empty"
    positional: ClassVar[tuple[str, ...]] = ()
    example: ClassVar[str] = "lab.empty()"
    example_text: ClassVar[str] = "empty"

    prompt: str = field(default="none", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prompt != "none":
            raise GuidanceError(f"lab.empty() is the empty caption, got prompt={self.prompt!r}. Type lab.empty().")

    @property
    def words(self) -> str:
        return "empty caption"

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read what `str` wrote after the kind: nothing."""
        if text:
            raise GuidanceError(f"empty has no options, got {text!r}.")
        return cls()

    def check(self, family: Family, component: str, denoiser: nn.Module) -> None:
        """Every model that takes a caption can be given the empty one; the others say so in the pass."""

    def perturb(self, at: Pass) -> contextlib.AbstractContextManager[Hits]:
        return contextlib.nullcontext({})
