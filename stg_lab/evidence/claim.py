"""What a claim is: a question put to a model, answered from videos that are made as they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from stg_lab.evidence.scores import Scores
from stg_lab.evidence.statistics import Estimate
from stg_lab.evidence.subjects import STEPS, Subject
from stg_lab.evidence.vectors import Vectors
from stg_lab.guidance import Guidance

WIDE = 30  # largest value over the smallest, from which an axis is logarithmic


@dataclass(frozen=True)
class Line:
    """One line of a figure's panel: estimates over numbers or over names, or over other estimates (a point with two intervals)."""

    name: str
    x: Sequence[float | str | Estimate]
    y: Sequence[Estimate]


@dataclass(frozen=True)
class Panel:
    """One panel of a figure."""

    title: str
    xlabel: str
    ylabel: str
    lines: Sequence[Line]
    real: float | None = None  # the same measured on rendered clips
    bar: float | None = None  # what this project asks of its models

    @property
    def is_plane(self) -> bool:
        """Whether both axes are measured: one point a line, over an estimate."""
        return isinstance(self.lines[0].x[0], Estimate)

    @property
    def log(self) -> bool:
        """Whether values are so far apart that only a logarithmic axis shows them all."""
        y = [e for line in self.lines for e in line.y]
        return min(e.low for e in y) > 0 and max(e.value for e in y) > WIDE * min(e.value for e in y)


@dataclass(frozen=True)
class Sheet:
    """All videos of a setting on one picture.

    Attributes:
        title: the setting.
        file: its name, beside the findings.
    """

    title: str
    file: str


@dataclass(frozen=True)
class Finding:
    """What came out of a claim on one model.

    Attributes:
        verdict: "holds here", "does not hold here" or "undecided".
        because: the numbers that decide it, in a sentence.
        rows: a table, one setting a row, by column.
        panels: a figure.
        folders: run folders that the numbers come from.
        sheets: contact sheets of some settings.
    """

    verdict: str
    because: str
    rows: Sequence[dict[str, Any]]
    panels: Sequence[Panel]
    folders: list[str] = field(default_factory=list)
    sheets: Sequence[Sheet] = ()


class Bench(Protocol):
    """What a claim asks for videos and vectors; it makes what is missing."""

    who: Subject

    def __call__(self, guidance: Guidance, steps: int = STEPS) -> Scores: ...

    def of(self, model: str) -> Bench: ...

    def vectors(self, guidance: Guidance) -> Vectors: ...

    def ahead(self, weak: Sequence[Any]) -> dict[str, np.ndarray]: ...

    def sheet(self, title: str, guidance: Guidance) -> Sheet: ...

    @property
    def real(self) -> Scores:
        """Rendered clips."""
        ...


@dataclass(frozen=True)
class Claim:
    """One claim, of the paper or of this project.

    Attributes:
        number: as in docs/evidence.md.
        title: the claim in a line.
        source: where the paper makes it, or that it is this project's own.
        test: how it is tested here, and what decides.
        models: which models it is put to.
        find: the test.
        tables: numbers of the paper's tables that it is about, kept in data/paper.
    """

    number: int
    title: str
    source: str
    test: str
    models: tuple[str, ...]
    find: Callable[[Bench], Finding]
    tables: tuple[int, ...] = ()


CLAIMS: dict[int, Claim] = {}
JOINT, FACTORISED, IMAGE = "digits-joint", "digits-factorised", "digits-i2v"
PLAIN = "digits-joint-plain"  # digits-joint before it was trained with stochastic depth
TEXT = (JOINT, FACTORISED)
ALL = (*TEXT, IMAGE)


def claim(
    number: int, title: str, *, source: str, models: tuple[str, ...], tables: tuple[int, ...] = ()
) -> Callable[..., Any]:
    """Register a test; its docstring says what is done and what decides."""

    def register(find: Callable[[Bench], Finding]) -> Callable[[Bench], Finding]:
        test = " ".join((find.__doc__ or "").split())
        CLAIMS[number] = Claim(number, title, source, test, models, find, tables)
        return find

    return register
