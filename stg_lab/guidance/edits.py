"""Edits of the main pass: terms that change what the model predicts under the caption, and add no vector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stg_lab.errors import GuidanceError
from stg_lab.guidance.rules import Rule
from stg_lab.guidance.terms import Weightless


@dataclass(frozen=True, init=False)
class Edit(Weightless):
    """The pipeline's own conditional pass is made under an edit: `Edit(nag())`, `Edit(enhance())`, `Edit(pladis())`.

    What the run records as `cond` is the edited prediction, and all that follows goes on from it: CFG, and weak models, which are
    of the edited model. `Probe(plain())` records beside it what the model predicts without the edit, for the price of a pass; then
    cond - plain is a vector like any other. The other way round, `Probe(nag())` records the edited prediction in a run that it
    does not touch. Any weak model can stand here, `Edit(blur([5]))` too.

    Args:
        weak: the edit.
        start, stop, sigma: the part of the run where it acts, as in `CFG`.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weak.prompt != "caption":
            raise GuidanceError(
                f"an edit is of the pass under the caption, and {self.weak} has a prompt of its own. Leave prompt= out."
            )

    def _with(self, rule: Rule) -> Any:
        raise GuidanceError(
            f"an Edit has no vector that {rule} could change. Put it on lab.CFG(scale) or lab.STG(scale, weak)."
        )
