"""How much of a network passes run, and for how many rows: for telling what a run will cost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch

from stg_lab.families import Family
from stg_lab.guidance import COND, Guidance, Moment
from stg_lab.reuse import Passes, Prefix
from stg_lab.weak import Pass, Weak


class Shares:
    """Of one pipeline and one call."""

    def __init__(self, pipe: Any, family: Family, passes: Passes, samples: int) -> None:
        self._pipe, self._family, self._passes, self._samples = pipe, family, passes, samples
        self._name, self._denoiser = next(iter(family.denoisers(pipe).items()))
        self._own_rows = passes.own_rows(self._denoiser)

    def rows(self, repeated: int) -> int:
        """Of a weak pass that repeats a call of so many rows."""
        return self._samples if self._own_rows else repeated

    def of(self, weak: Any, step: int, steps: int) -> tuple[float, int]:
        """(share of the network, first stage) of a weak pass at a step."""
        at = self._pass(step, steps)
        prefix = Prefix.plan(at, [weak], self._passes)
        return prefix.share(weak), prefix.first[weak]

    def ahead(
        self, guidance: Guidance, at: Moment, branches: tuple[str, ...]
    ) -> Iterator[tuple[tuple[str], int, str, float, int]]:
        """What the edits of a step run before the pipeline's own call of these branches: name, rows, edit, share of the network, and -1."""
        for edit in cast("list[Weak]", guidance.editing(at)) if COND in branches else ():
            share = edit.ahead(self._pass(at.step, at.steps), len(branches))
            if share is not None:
                yield (edit.name,), self._samples * len(branches), str(edit), share, -1

    def watched(self, guidance: Guidance, shape: tuple[int, ...]) -> int:
        """Bytes that a step's looks add to a recording at most."""
        looks = [edit for edit in cast("list[Any]", guidance.edits) if edit.watches]
        return sum(look.most_bytes(shape) for look in looks)

    def _pass(self, step: int, steps: int) -> Pass:
        return Pass(self._family, self._pipe, self._name, self._denoiser, (), {}, torch.empty(0), step, steps)
