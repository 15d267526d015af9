"""Putting claims to models: what a claim asks for is made, scored and kept."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from stg_lab.evidence.ahead import STATES, ahead, states
from stg_lab.evidence.cells import Cell, make, videos
from stg_lab.evidence.claim import Claim, Finding, Sheet
from stg_lab.evidence.scores import Scores, named_scores, real_scores, scored
from stg_lab.evidence.shipping import known
from stg_lab.evidence.subjects import PER_CAPTION, STEPS, Subject, loaded, subject
from stg_lab.evidence.vectors import Vectors, named_vectors, vectors
from stg_lab.guidance import Guidance
from stg_lab.sampling import plan
from stg_lab.sheets import group_sheet
from stg_lab.sweeps import ALONE, Workers
from stg_lab.weak.skip import Skip

Told = Callable[[str, int, int], None]  # a cell's name, videos there are, videos wanted


class Runs:
    """Runs in a folder, made as they are asked for.

    Args:
        who: the model.
        root: folder of the runs.
        count: videos of a cell.
        sheets: folder that contact sheets are written into.
        shipped: folder of numbers that ship; where they are of enough videos, none are made. None: all are made.
        told: called as videos are made.
        workers: who makes them.
    """

    def __init__(
        self,
        who: Subject,
        root: Path,
        count: int,
        told: Told = lambda name, done, of: None,
        sheets: Path = Path("data/evidence"),
        shipped: Path | None = None,
        workers: Workers = ALONE,
    ) -> None:
        self.who, self.root, self.count, self.sheets, self.workers = who, root, count, sheets, workers
        self._told, self._shipped = told, shipped
        self._known: list[Cell] = []  # their numbers ship, and so do their sheets
        self.folders: list[str] = []

    def __call__(self, guidance: Guidance, steps: int = STEPS) -> Scores:
        """Scores of a setting; makes its videos first where there are too few."""
        cell = Cell(self.who.name, guidance, steps)
        values = self._shipping(cell, "scores")
        if values is None:
            self._make(cell)
            values = scored(cell, self.root, self.count)
        like = loaded(self.who.like_model or self.who.name)
        planned = plan(like, guidance=guidance, record=False, num_inference_steps=steps, **self.who.call(0, 1))
        return named_scores(cell.name, values, planned.rows, planned.cost, self._noted(cell))

    def of(self, model: str) -> Runs:
        """The same for another model, for claims that compare models; what is used is noted here."""
        other = Runs(subject(model), self.root, self.count, self._told, self.sheets, self._shipped, self.workers)
        other.folders = self.folders
        return other

    def vectors(self, guidance: Guidance) -> Vectors:
        """Guidance vectors of a setting, step by step."""
        cell = Cell(self.who.name, guidance)
        values = self._shipping(cell, "vectors")
        if values is None:
            values = vectors(
                cell, self.root, self.count, lambda done: self._told(str(guidance), done, self.count), self.workers
            )
        return named_vectors(values, self._noted(cell))

    def ahead(self, weak: Sequence[Skip]) -> dict[str, np.ndarray]:
        """What a look one step ahead sees of weak models: by score, `(state, weak)`."""
        cell = states(self.who)
        values = self._shipping(cell, "ahead", STATES)
        self._noted(cell)
        return ahead(cell, self.root, weak) if values is None else values

    def sheet(self, title: str, guidance: Guidance) -> Sheet:
        """All videos of a setting on one picture, written beside the findings."""
        cell, labels = Cell(self.who.name, guidance), self.who.labels(self.count)
        file = f"videos-{self.who.name}-{re.sub('[^a-z0-9]+', '-', title.lower()).strip('-')}.webp"
        if cell in self._known and (self.sheets / file).exists():
            return Sheet(title, file)  # it ships as the scores do
        self._make(cell)
        self.sheets.mkdir(parents=True, exist_ok=True)
        asked = [label.caption for label in labels[::PER_CAPTION]]
        group_sheet(videos(cell, self.root, self.count), asked, self.sheets / file)
        return Sheet(title, file)

    @functools.cached_property
    def real(self) -> Scores:
        """Rendered clips."""
        return real_scores(self.who, self.count, self.root)

    def _shipping(self, cell: Cell, kind: str, count: int | None = None) -> dict[str, np.ndarray] | None:
        found = known(cell, self._shipped, count or self.count, kind) if self._shipped else None
        if found is not None:
            self._known.append(cell)
        return found

    def _noted(self, cell: Cell) -> str:
        """The run folder of a setting, noted as one that the numbers come from."""
        self.folders.append(str(cell.folder(Path())))
        return self.folders[-1]

    def _make(self, cell: Cell) -> None:
        for done in make(cell, self.root, self.count, self.workers):
            self._told(str(cell.guidance), done, self.count)


def put(claim: Claim, runs: Runs) -> Finding:
    """Put a claim to a model."""
    runs.folders = []
    found = claim.find(runs)
    found.folders.extend(dict.fromkeys(runs.folders))
    return found
