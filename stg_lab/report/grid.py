"""Videos side by side on the page: a row for each caption, a column for each setting, all playing in step."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from html import escape

import numpy as np

from stg_lab.errors import CallError
from stg_lab.widgets.sprites import strip

PIXELS = 2_000_000  # of all videos of a grid; larger ones are shown smaller
PARTS = ("digit", "colour", "motion")  # of what the judge sees, in the order in which they stand under a video
WHOLE = "all three"


@dataclass(frozen=True)
class Column:
    """What one setting made of the captions.

    Attributes:
        heading: above it.
        setting: the guidance, in full.
        video: `(row, frame, height, width, 3)` in [0, 1].
        right: whether the judge sees what was asked for, `(row,)` of bool for each of "digit", "colour", "motion" and "all
            three"; empty where there is no judge.
        probability: how sure it is of that, from 0 to 1, likewise.
    """

    heading: str
    setting: str
    video: np.ndarray
    right: Mapping[str, np.ndarray] = field(default_factory=dict)
    probability: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Grid:
    """Columns under one heading.

    Attributes:
        id: of its section.
        heading: above it.
        words: a sentence above the videos, short.
        captions, seeds: one a row.
        columns: from left to right.
        notes: sentences below the videos.

    Raises:
        CallError: a column without as many videos as there are captions, or videos of several sizes.
    """

    id: str
    heading: str
    words: str
    captions: list[str]
    seeds: list[int]
    columns: list[Column]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        rows, sizes = len(self.captions), {column.video.shape for column in self.columns}
        if len(sizes) != 1 or next(iter(sizes))[0] != rows or len(self.seeds) != rows:
            raise CallError(
                f"a grid has one video a caption in each column, all of one size, got {rows} captions, {len(self.seeds)} seeds, "
                f"and videos of {', '.join(map(str, sorted(sizes))) or 'no column'}."
            )

    @property
    def html(self) -> str:
        """The section. Rows lie in two halves beside each other where there is room."""
        rows = range(len(self.captions))
        middle = len(rows) if len(rows) < 3 else (len(rows) + 1) // 2
        halves = "".join(self._half(part) for part in (rows[:middle], rows[middle:]) if part)
        words = f"<p class='grid-words'>{escape(self.words)}</p>\n" if self.words else ""
        notes = "".join(f"<p class='grid-note'>{escape(note)}</p>\n" for note in self.notes)
        few = " few" if len(rows) < 3 else ""
        return (
            f"<section id='{self.id}' class='grid{few}'>\n<h2>{escape(self.heading)}</h2>\n{words}"
            f"<div class='grid-halves'>\n{halves}</div>\n{PAUSE}{notes}</section>\n"
        )

    def _half(self, rows: Iterable[int]) -> str:
        head = "".join(
            f"<div><b>{escape(column.heading)}</b><code>{escape(column.setting)}</code></div>"
            for column in self.columns
        )
        columns = f"style='--columns:{len(self.columns)}'"
        body = "".join(self._row(row) for row in rows)
        return f"<div class='grid-half' {columns}>\n<div class='grid-head'>{head}</div>\n{body}</div>\n"

    def _row(self, row: int) -> str:
        seed = f"seed {self.seeds[row]}"
        cells = "".join(self._cell(column, row, seed) for column in self.columns)
        caption = f"<p>{escape(self.captions[row])} <span>{seed}</span></p>"
        return f"<div class='grid-row' role='group'>\n{caption}\n{cells}</div>\n"

    def _cell(self, column: Column, row: int, seed: str) -> str:
        png, film = strip(column.video[row], PIXELS / (len(self.captions) * len(self.columns)))
        words = escape(f"{column.heading}: {self.captions[row]}, {seed}", quote=True)
        size = f"--frames:{film['frames']};aspect-ratio:{film['width']}/{film['height']}"
        picture = f"<img alt='{words}' src='data:image/png;base64,{base64.b64encode(png).decode()}'>"
        return f"<figure><div class='film' style='{size}'>{picture}</div>{_verdict(column, row)}</figure>\n"


PAUSE = "<label class='grid-pause'><input type='checkbox'> Hold the videos</label>\n"


def _verdict(column: Column, row: int) -> str:
    """What the judge sees in a video; "" where there is none."""
    if not column.right:
        return ""
    kind, sign = ("right", "✓") if column.right[WHOLE][row] else ("wrong", "✗")
    parts = "\u200a·\u200a".join(_part(column, name, row) for name in PARTS)
    told = ", ".join(f"{name} {column.probability[name][row]:.0%}" for name in PARTS)
    whole = f"{column.probability[WHOLE][row]:.0%}"
    return (
        f"<figcaption class='{kind}' title='{kind}: {told}'><b><i aria-label='{kind}'>{sign}</i> {whole}</b> "
        f"<span>{parts}</span></figcaption>"
    )


def _part(column: Column, name: str, row: int) -> str:
    number = f"{100 * column.probability[name][row]:.0f}"
    return number if column.right[name][row] else f"<em>{number}</em>"
