"""Videos by setting and state: what a grid shows, before it is drawn on paper or on a screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, UInt8
from numpy import ndarray

from stg_lab.errors import CallError

CHOSEN, FRESH = "seeds to choose by", "fresh seeds"


@dataclass(frozen=True)
class Setting:
    """What made a row of videos.

    Attributes:
        name: of the candidate: "skip:block:4", "CFG(2)", or any other.
        scale: at which it acts, where it was tried at several.
        guidance: the whole sum, as it is typed.
        baseline: whether others are compared with it; baselines stand first.
    """

    name: str
    scale: float | None = None
    guidance: str = ""
    baseline: bool = False

    @property
    def label(self) -> str:
        """The name with its scale."""
        return self.name if self.scale is None else f"{self.name} at {self.scale:g}"


@dataclass(frozen=True)
class State:
    """What a column of videos was made from.

    Attributes:
        caption, seed: of the call.
        group: a word for what the state is for, such as "fresh seeds"; a grid shows one group at a time.
    """

    caption: str
    seed: int | None = None
    group: str = ""

    @property
    def label(self) -> str:
        """Caption and seed."""
        seed = "" if self.seed is None else f"seed {self.seed}"
        return ", ".join(part for part in (self.caption, seed) if part) or "(no caption)"


@dataclass(frozen=True)
class VideoGrid:
    """Videos by setting and state, baselines first.

    Attributes:
        settings: one a row.
        states: one a column.
        video: uint8; what is not `there` is black.
        there: whether there is such a video.
        scores: of each video by the name of the score; NaN where there is none.
        better: 1 where more of a score is better, -1 where less is.
        title: one line over it.

    Raises:
        CallError: sizes that do not fit each other, two settings alike, or nothing at all.
    """

    settings: tuple[Setting, ...]
    states: tuple[State, ...]
    video: UInt8[ndarray, "setting state frame height width 3"]
    there: Bool[ndarray, "setting state"]
    scores: Mapping[str, Float[ndarray, "setting state"]] = field(default_factory=dict)
    better: Mapping[str, int] = field(default_factory=dict)
    title: str = ""

    def __post_init__(self) -> None:
        shape = (len(self.settings), len(self.states))
        sizes = [self.video.shape[:2], self.there.shape, *(score.shape for score in self.scores.values())]
        if 0 in shape or any(size != shape for size in sizes):
            raise CallError(f"a grid of {shape[0]} settings and {shape[1]} states has one video of each, got {sizes}.")
        labels = [one.label for one in self.settings]
        if twice := next((label for label in labels if labels.count(label) > 1), ""):
            raise CallError(f"two rows of a grid are called {twice!r}. Give each setting a name of its own.")
        order = sorted(range(shape[0]), key=lambda i: not self.settings[i].baseline)
        if order != list(range(shape[0])):
            self._reorder(order)

    def _reorder(self, order: Sequence[int]) -> None:
        object.__setattr__(self, "settings", tuple(self.settings[i] for i in order))
        for name in ("video", "there"):
            object.__setattr__(self, name, getattr(self, name)[order])
        object.__setattr__(self, "scores", {name: score[order] for name, score in self.scores.items()})

    @property
    def groups(self) -> list[str]:
        """The groups of states, in order."""
        return list(dict.fromkeys(state.group for state in self.states))

    @property
    def scales(self) -> list[float]:
        """The scales at which candidates were tried, in order."""
        return sorted({one.scale for one in self.settings if one.scale is not None})

    def of_group(self, group: str) -> VideoGrid:
        """The states of one group, with the settings that have a video there."""
        columns = [i for i, state in enumerate(self.states) if state.group == group]
        rows = [i for i in range(len(self.settings)) if self.there[i, columns].any()]
        return self.part(rows, columns)

    def part(self, rows: Sequence[int], columns: Sequence[int]) -> VideoGrid:
        """Some of the settings and states, in the order in which they are given."""
        at = np.ix_(rows, columns)
        return VideoGrid(
            tuple(self.settings[i] for i in rows), tuple(self.states[i] for i in columns), self.video[at], self.there[at],
            {name: score[at] for name, score in self.scores.items()}, self.better, self.title,
        )  # fmt: skip

    def means(self, score: str) -> Float[ndarray, " setting"]:
        """The mean of a score over the states of each setting that have one; NaN where none has."""
        values = self.scores[score]
        count = np.isfinite(values).sum(1)
        return np.where(count, np.nansum(values, 1) / np.maximum(count, 1), np.nan)

    def ranked(self, score: str) -> VideoGrid:
        """The same, with the best setting by a score first after the baselines; those without a score last.

        Raises:
            CallError: there is no such score.
        """
        if score not in self.scores:
            known = ", ".join(map(repr, self.scores)) or "none"
            raise CallError(f"sort={score!r} is no score of this grid. It has: {known}.")
        means = self.means(score) * self.better.get(score, 1)
        key = [(not one.baseline, np.inf if np.isnan(m) else -m) for one, m in zip(self.settings, means, strict=True)]
        rows = sorted(range(len(key)), key=lambda i: (key[i][0], 0.0 if not key[i][0] else key[i][1]))
        return self.part(rows, range(len(self.states)))
