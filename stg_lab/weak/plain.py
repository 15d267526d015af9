"""The model as it is, beside one that is edited: what `lab.Edit` changed."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from stg_lab.errors import GuidanceError
from stg_lab.weak.base import Hits, Pass, Weak

if TYPE_CHECKING:
    from torch import nn

    from stg_lab.families import Family


@dataclass(frozen=True, repr=False)
class Plain(Weak):
    """The pass under the caption without the run's edits: `Edit(nag()) + Probe(plain())`. Where no edit acts, it is `cond`."""

    kind: ClassVar[str] = "plain"
    positional: ClassVar[tuple[str, ...]] = ()
    example: ClassVar[str] = "lab.plain()"
    example_text: ClassVar[str] = "plain"
    under_edits: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prompt != "caption":
            raise GuidanceError(f"lab.plain() has the caption, got prompt={self.prompt!r}. Type lab.plain().")

    @property
    def words(self) -> str:
        return "without the edit"

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read what `str` wrote after the kind: nothing."""
        if text:
            raise GuidanceError(f"plain has no options, got {text!r}.")
        return cls()

    def shares_prefix(self, at: Pass) -> bool:
        return False

    def unchanged(self, at: Pass) -> bool:
        return not at.edits

    def check(self, family: Family, component: str, denoiser: nn.Module) -> None:
        """Nothing is changed, so there is nothing that could be missing."""

    def perturb(self, at: Pass) -> contextlib.AbstractContextManager[Hits]:
        return contextlib.nullcontext({})
