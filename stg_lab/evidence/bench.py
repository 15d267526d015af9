"""Putting claims to models: what a claim asks for is made, scored and kept."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path

from stg_lab.evidence.cells import Cell, make, videos
from stg_lab.evidence.claim import Claim, Finding, Sheet
from stg_lab.evidence.scores import Scores, known, real_scores, scored
from stg_lab.evidence.subjects import PER_CAPTION, STEPS, Subject
from stg_lab.evidence.vectors import Vectors, vectors
from stg_lab.guidance import Guidance
from stg_lab.sampling import plan
from stg_lab.sheets import group_sheet

#: How many videos of a cell are looked at step by step: each is a recording.
LOOKED_AT = 32

Told = Callable[[str, int, int], None]  # a cell's name, videos there are, videos wanted


class Runs:
    """Runs in a folder, made as they are asked for.

    Args:
        who: the model.
        root: folder of the runs.
        count: videos of a cell.
        sheets: folder that contact sheets are written into.
        shipped: folder of scores that ship; where they are of enough videos, none are made. None: all are made.
        told: called as videos are made.
    """

    def __init__(
        self,
        who: Subject,
        root: Path,
        count: int,
        told: Told = lambda name, done, of: None,
        sheets: Path = Path("data/evidence"),
        shipped: Path | None = None,
    ) -> None:
        self.who, self.root, self.count, self.sheets = who, root, count, sheets
        self._told, self._shipped = told, shipped
        self._known: list[Cell] = []  # their scores ship, and so do their sheets
        self.folders: list[str] = []

    def __call__(self, guidance: Guidance, steps: int = STEPS) -> Scores:
        """Scores of a setting; makes its videos first where there are too few."""
        cell, passes = Cell(self.who.name, guidance, steps), self._passes(guidance, steps)
        found = known(cell, self._shipped, self.count, passes) if self._shipped else None
        if found is None:
            self._make(cell)
            found = scored(cell, self.root, self.count, passes)
        else:
            self._known.append(cell)
        self.folders.append(found.folder)
        return found

    def vectors(self, guidance: Guidance) -> Vectors:
        """Guidance vectors of a setting, step by step."""
        cell, count = Cell(self.who.name, guidance), min(self.count, LOOKED_AT)
        self._told(str(guidance), 0, count)
        found = vectors(cell, self.root, count)
        self.folders.append(found.folder)
        return found

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

    def _make(self, cell: Cell) -> None:
        for done in make(cell, self.root, self.count):
            self._told(str(cell.guidance), done, self.count)

    def _passes(self, guidance: Guidance, steps: int) -> float:
        """Forward passes of the denoiser for one video, each counted as a whole one."""
        return plan(self.who.pipe, guidance=guidance, num_inference_steps=steps, **self.who.call(0, 1)).rows


def put(claim: Claim, runs: Runs) -> Finding:
    """Put a claim to a model."""
    runs.folders = []
    found = claim.find(runs)
    found.folders.extend(dict.fromkeys(runs.folders))
    return found
