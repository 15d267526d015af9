"""Another weak model at every step: schedules of layers."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any, ClassVar

from stg_lab.errors import GuidanceError
from stg_lab.given import Whole, read, shown
from stg_lab.patch import Hits
from stg_lab.weak.base import Pass, Weak
from stg_lab.weak.spec import parse

if TYPE_CHECKING:
    from torch import nn

    from stg_lab.families import Family


@dataclass(frozen=True, init=False, repr=False)
class PerStep(Weak):
    """One weak model for each step of the run; None where a step has none. Recorded as one branch.

    Args:
        *models: weak models, or None, or pairs `(count, model)` for several steps on end.

    Raises:
        GuidanceError: no model at all, or models with different prompts.

    >>> from stg_lab.weak.skip import Skip
    >>> str(PerStep((3, Skip([2])), (9, Skip([5])), None))
    'per_step:3*skip:block:2|9*skip:block:5|1*-'
    """

    kind: ClassVar[str] = "per_step"
    example: ClassVar[str] = "lab.per_step((12, lab.skip([3])), (12, lab.skip([5])))"
    example_text: ClassVar[str] = "per_step:12*skip:block:3|12*-"

    models: tuple[Weak | None, ...]
    axis: str = field(default="joint")  # type: ignore[misc]

    def __init__(self, *models: Any) -> None:
        given: list[Weak | None] = []
        for model in models:
            count, one = model if isinstance(model, tuple) and len(model) == 2 else (1, model)
            given += [one] * read("the number of steps", count, Whole(1, 10_000), GuidanceError, self.example)
        weak = [m for m in given if m is not None]
        if not weak or not all(isinstance(m, Weak) and not isinstance(m, PerStep) for m in weak):
            raise GuidanceError(
                "per_step needs weak models (not another per_step), or None, or pairs (number of steps, model), got "
                f"{', '.join(map(shown, models)) or 'nothing'}. Type for example {self.example}."
            )
        if len(prompts := sorted({m.prompt for m in weak})) > 1:
            raise GuidanceError(
                f"the models of per_step must agree on their prompt, got {' and '.join(prompts)}. Put them into two terms: "
                "lab.STG(1, lab.per_step(...)) + lab.STG(1, lab.per_step(...))."
            )
        axes = {m.axis for m in weak}
        object.__setattr__(self, "models", tuple(given))
        object.__setattr__(self, "axis", axes.pop() if len(axes) == 1 else "joint")
        object.__setattr__(self, "prompt", weak[0].prompt)

    def __repr__(self) -> str:
        return f"lab.per_step({', '.join(f'({n}, {m!r})' if n > 1 else repr(m) for n, m in self._runs())})"

    @property
    def words(self) -> str:
        return "by step: " + "; ".join(dict.fromkeys("none" if m is None else m.words for m in self.models))

    @property
    def name(self) -> str:
        kinds = {m.name for m in self.models if m is not None}
        return kinds.pop() if len(kinds) == 1 else self.kind

    def __str__(self) -> str:
        return f"{self.kind}:" + "|".join(f"{n}*{'-' if model is None else model}" for n, model in self._runs())

    def _runs(self) -> list[tuple[int, Weak | None]]:
        return [(len(list(group)), model) for model, group in groupby(self.models)]

    @classmethod
    def from_text(cls, text: str) -> PerStep:
        """Read what `str` wrote after the kind."""
        models: list[tuple[int, Weak | None]] = []
        for run in text.split("|"):
            count, star, model = run.partition("*")
            if not star or not count.isdecimal():
                raise GuidanceError(f"{run!r} is no number of steps and a weak model, as in 12*skip:block:5 or 12*-.")
            models.append((int(count), None if model == "-" else parse(model)))
        return cls(*models)

    def acts(self, step: int, steps: int) -> bool:
        if len(self.models) != steps:
            raise GuidanceError(
                f"per_step holds {len(self.models)} weak models for a run of {steps} steps; give one for each step."
            )
        return self.models[step] is not None

    def check(self, family: Family, component: str, denoiser: nn.Module) -> None:
        for model in dict.fromkeys(m for m in self.models if m is not None):
            model.check(family, component, denoiser)

    def module(self, at: Pass) -> nn.Module:
        return self._now(at).module(at)

    def shares_prefix(self, at: Pass) -> bool:
        return self._now(at).shares_prefix(at)

    def skips_blocks(self, at: Pass) -> bool:
        return self._now(at).skips_blocks(at)

    def unchanged(self, at: Pass) -> bool:
        return self._now(at).unchanged(at)

    def perturb(self, at: Pass) -> contextlib.AbstractContextManager[Hits]:
        return self._now(at).perturb(at)

    def _now(self, at: Pass) -> Weak:
        model = self.models[at.step]
        assert model is not None
        return model
