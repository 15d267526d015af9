"""Edits of the main pass: terms that change what the model predicts under the caption, and add no vector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stg_lab.errors import GuidanceError
from stg_lab.guidance.moment import Moment
from stg_lab.guidance.rules import Rule
from stg_lab.guidance.terms import COND, STG, WeakModel


@dataclass(frozen=True, init=False)
class Edit(STG):
    """The pipeline's own conditional pass is made under an edit: `Edit(nag())`, `Edit(enhance())`, `Edit(pladis())`.

    What the run records as `cond` is the edited prediction, and all that follows goes on from it: CFG, and weak models, which are
    of the edited model. `Probe(plain())` records beside it what the model predicts without the edit, for the price of a pass; then
    cond - plain is a vector like any other. The other way round, `Probe(nag())` records the edited prediction in a run that it
    does not touch. Any weak model can stand here, `Edit(blur([5]))` too.

    Args:
        weak: the edit.
        start, stop, sigma: the part of the run where it acts, as in `CFG`.
    """

    def __init__(
        self, weak: WeakModel, *, start: float = 0.0, stop: float = 1.0, sigma: tuple[float, float] | None = None
    ) -> None:
        for name, value in (("scale", 0.0), ("weak", weak), ("start", start), ("stop", stop), ("sigma", sigma)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "rules", ())
        object.__setattr__(self, "reference", COND)
        self.__post_init__()
        if weak.prompt != "caption":
            raise GuidanceError(
                f"an edit is of the pass under the caption, and {weak} has a prompt of its own. Leave prompt= out."
            )

    def edits(self, at: Moment) -> bool:
        """Whether the pass of a step is made under the edit."""
        return self.inside(at) and self.weak.acts(at.step, at.steps)

    def _with(self, rule: Rule) -> Any:
        raise GuidanceError(
            f"an Edit has no vector that {rule} could change. Put it on lab.CFG(scale) or lab.STG(scale, weak)."
        )

    def __str__(self) -> str:
        return f"Edit({self.weak}{self._options()})"
