"""Making what a race asks for: the tasks that are missing, by whoever works, with progress and what is spent."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from stg_lab.errors import LabError, RecordingError
from stg_lab.search.candidates import Candidate
from stg_lab.search.folder import Folder
from stg_lab.search.scores import Score
from stg_lab.search.states import States
from stg_lab.search.tasks import Model, Task, make
from stg_lab.sweeps import Workers

TOO_MANY = 4  # jobs that failed in a row, each of another candidate: then it is not the candidates


class Bench:
    """Makes states of candidates into a folder.

    Args:
        folder: of the search.
        model: what makes videos.
        states: all there are.
        call: arguments of the pipeline's call.
        scores: what videos are measured by.
        workers: who works.
        told: called with what a finished video cost.
    """

    def __init__(
        self, folder: Folder, model: Model, states: States, call: Mapping[str, Any], scores: Sequence[Score], workers: Workers,
        told: Callable[[float], None] = lambda cost: None,
    ) -> None:  # fmt: skip
        self.folder, self.model, self.states, self.call = folder, model, states, dict(call)
        self.scores, self.workers, self.told = tuple(scores), workers, told
        self.candidates: dict[str, Candidate] = {}

    def measure(self, names: Sequence[str], first: int, last: int, fresh: bool) -> dict[str, np.ndarray | str]:
        """Values of states first..last of some candidates, `(state, score)`; a sentence where a candidate failed. See `race`."""
        self.make(names, first, last, fresh)
        return self.folder.read(names, first, last, fresh)

    def make(self, names: Sequence[str], first: int, last: int, fresh: bool) -> None:
        """Make those states that are missing, and measure them."""
        tasks = {name: [self.task(name, place, fresh) for place in range(last)] for name in names}
        for name in names:
            if len(self.folder.ids(name, fresh)) < last:
                self.folder.note_states(name, fresh, [task.id for task in tasks[name]])
        self.folder.save()
        # State by state: whatever is cut off has left whole comparisons.
        wanted = [(name, tasks[name][place]) for place in range(first, last) for name in names]
        self._make([(name, task) for name, task in wanted if self.folder.cell(task.id) is None])
        for _, task in wanted:
            self._score(task)

    def task(self, name: str, place: int, fresh: bool) -> Task:
        """One state of a candidate."""
        one = self.candidates[name]
        own = tuple(score for score in self.scores if score.function is None and score.source == "")
        call = {**self.call, **(one.changes or {})}
        return Task(str(self.folder.path), self.model, one.guidance.to_dict(), call, self.states(place, fresh), own)

    def seconds_a_unit(self, names: Sequence[str]) -> float:
        """How long the first state of some candidates took, in seconds for each unit of their cost."""
        cells = {name: self.folder.cell(self.folder.ids(name, False)[0]) for name in names}
        return statistics.fmean(c["seconds"] / self.candidates[name].cost for name, c in cells.items() if c)

    def _make(self, missing: list[tuple[str, Task]]) -> None:
        failed: list[str] = []
        for _, task in missing:
            task.place.with_suffix(".failed").unlink(missing_ok=True)  # it is tried again
        for place, result in self.workers.outcomes(make, [(task,) for _, task in missing]):
            name, task = missing[place]
            if isinstance(result, Exception):
                failed = failed if name in failed else [*failed, name]
                self._fail(task, result, failed)
                continue
            failed = []
            self._check_machine(result["machine"])
            self.told(self.candidates[name].cost)

    def _fail(self, task: Task, error: Exception, failed: list[str]) -> None:
        file = task.place.with_suffix(".failed")
        if not file.exists():  # its worker had no time to say
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{type(error).__name__}: {error}\n")
        if len(failed) >= min(TOO_MANY, len(self.candidates)):
            raise error if isinstance(error, LabError) else LabError(f"nothing can be made: {error!r}. See {file}.")

    def _check_machine(self, kind: str) -> None:
        begun = self.folder.told.setdefault("machine", kind)
        if begun != kind:
            raise RecordingError(
                f"{self.folder.path} was begun on {begun}, and a worker computes on {kind}. Videos of two kinds of machines differ in "
                "their last digits and are not compared with each other. Give workers of one kind, or another folder."
            )

    def _score(self, task: Task) -> None:
        """Measure what is the user's own here, where it can be called."""
        cell = self.folder.cell(task.id)
        own = [score for score in self.scores if score.function is not None]
        if cell is not None and any(score.name not in cell["values"] for score in own):
            video = self.folder.video(task.id)
            self.folder.keep_own(task.id, {s.name: s.of(video, task.state.caption) for s in own})
