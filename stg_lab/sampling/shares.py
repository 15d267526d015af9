"""How much of a network passes run, and for how many rows: for telling what a run will cost."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, cast

import torch

from stg_lab.families import Family
from stg_lab.guidance import COND, Moment
from stg_lab.passes import Passes, Prepared
from stg_lab.sampling.steps import RunStep
from stg_lab.weak import Pass, Weak


class Shares:
    """Of one pipeline and one call."""

    def __init__(self, pipe: Any, family: Family, passes: Passes, samples: int) -> None:
        self._pipe, self._family, self._passes, self._samples = pipe, family, passes, samples
        self._name, self._denoiser = next(iter(family.denoisers(pipe).items()))
        self._own_rows = passes.own_rows(self._denoiser)

    def rows(self, repeated: int, weak: Weak, step: RunStep, branches: tuple[str, ...]) -> int:
        """Of a weak pass that repeats a call of so many rows, which computes these branches."""
        rows = self._samples if self._own_rows and not weak.whole else repeated
        edited = self.times(step, branches) if weak.under_edits else 1
        return rows * weak.times(self._pass(step.at)) * edited

    def times(self, step: RunStep, branches: tuple[str, ...]) -> int:
        """How many rows the pipeline's own call of these branches has for each that it asks for: more under some edits."""
        edits = cast("tuple[Weak, ...]", step.acting.edits) if COND in branches else ()
        return math.prod(edit.times(self._pass(step.at)) for edit in edits)

    def of(self, weak: Weak, at: Moment) -> tuple[float, int]:
        """(share of the network, first stage) of a weak pass at a step."""
        ready = Prepared.of(weak, self._pass(at), reuse=self._passes.reuse)
        return ready.share(len(self._family.stages(self._denoiser))), ready.first

    def ahead(self, step: RunStep, branches: tuple[str, ...]) -> Iterator[tuple[tuple[str], int, str, float, int]]:
        """What the edits of a step run before the pipeline's own call of these branches: name, rows, edit, share of the network, and -1."""
        for edit in cast("tuple[Weak, ...]", step.acting.edits) if COND in branches else ():
            share = edit.ahead(self._pass(step.at), len(branches))
            if share is not None:
                yield (edit.name,), self._samples * len(branches), str(edit), share, -1

    def _pass(self, at: Moment) -> Pass:
        return Pass(
            self._family, self._pipe, self._name, self._denoiser, (), {}, torch.empty(0), at.step, at.steps
        )  # fmt: skip
