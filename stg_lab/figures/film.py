"""Rows of moving pictures: what most figures show, on paper as film strips and on screen as videos."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from stg_lab.errors import CallError
from stg_lab.figures.style import (
    LABEL,
    NARROW,
    SMALL,
    TITLE,
    Sheet,
    Width,
    fitted,
    inches,
    said,
    scaled,
    spread,
    text_height,
    text_width,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GAP = 0.03  # inches between pictures
EDGE = 0.02  # inches of white around the whole


@dataclass(frozen=True)
class Strip:
    """One row.

    Attributes:
        label: what it is.
        clips: its clips, `(frame, height, width, 3)` in [0, 1], one a column of the film; None leaves the place free.
        bar: a share to draw as a bar at the end of the row.
        colour: of the bar.
    """

    label: str
    clips: tuple[np.ndarray | None, ...]
    bar: float | None = None
    colour: str = "#000000"


@dataclass(frozen=True)
class Film:
    """Rows of clips with labels.

    Attributes:
        title: one line over everything.
        rows: all with as many clips.
        heads: words over each column of clips.
        measure: words over the bars; empty for none.
        still: words behind the title where the clips do not move.
    """

    title: str
    rows: Sequence[Strip]
    heads: Sequence[str] = field(default=("",))
    measure: str = ""
    still: str = ""

    def said(self) -> Film:
        """The same in the words that `styled` sets."""
        rows = [replace(row, label=said(row.label)) for row in self.rows]
        heads = tuple(map(said, self.heads))
        return Film(said(self.title), rows, heads, said(self.measure), said(self.still))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, height and width of a clip."""
        first = next(clip for row in self.rows for clip in row.clips if clip is not None)
        return first.shape[0], first.shape[1], first.shape[2]


_FILMS: weakref.WeakKeyDictionary[Figure, Film] = weakref.WeakKeyDictionary()


def remember(figure: Figure, film: Film) -> Figure:
    """Keep what a figure was drawn from, so that it can be shown moving."""
    _FILMS[figure] = film
    return figure


def film_of(figure: Figure) -> Film:
    """What a figure was drawn from.

    Raises:
        CallError: the figure shows no clips, or was not made by `lab.figures`.
    """
    if figure not in _FILMS:
        raise CallError(
            "this figure holds no clips that could move. Give one that lab.figures.weak_model, weak_models, scale_sweep or "
            "another figure of film strips returned, just as it came."
        )
    return _FILMS[figure]


def check_frames(frames: int | None) -> None:
    """How many frames to show, before anything is decoded.

    Raises:
        CallError: not a whole number from 1.
    """
    if frames is not None and (not isinstance(frames, int) or isinstance(frames, bool) or frames < 1):
        raise CallError(f"frames={frames!r}: give a whole number from 1, or leave it out.")


def draw(film: Film, width: Width = "page", frames: int | None = None) -> Figure:
    """A film as a figure for print: frames as columns.

    Args:
        film: what to draw.
        width: "page", "column" or inches.
        frames: how many frames of each clip, spread over it; by default as many as stay large enough.

    Returns:
        A matplotlib figure of exactly that width.
    """
    wide, film = inches(width), film.said()
    layout = _Layout(film, wide, frames)
    sheet = Sheet(wide, layout.height)
    sheet.text(wide / 2, EDGE, layout.title, size=layout.title_size, ha="center", va="top")
    _draw_heads(sheet, film, layout)
    for r, row in enumerate(film.rows):
        top = layout.top + r * layout.pitch
        middle = top + (layout.pitch - GAP) / 2
        sheet.text(layout.label - 0.06, middle, layout.labels[r], size=layout.label_size, ha="right", va="center")
        for g, clip in enumerate(row.clips):
            for c, frame in enumerate(layout.shown if clip is not None else []):
                place = (layout.left(g, c), middle - layout.tall / 2, layout.side, layout.tall)
                sheet.picture(*place, clip[frame])  # type: ignore[index]
        if row.bar is not None:
            _draw_bar(sheet, row, middle, film, layout)
    return remember(sheet.figure, film)


class _Layout:
    """Where everything lies, in inches; narrow figures have narrower labels and fewer frames."""

    def __init__(self, film: Film, wide: float, frames: int | None) -> None:
        narrow = wide < NARROW
        self.label_size, self.title_size = (6.5, LABEL) if narrow else (LABEL, TITLE)
        groups = len(film.heads)
        length, height, width = film.shape
        self.shown = spread(length, frames or (max(1, 5 // groups) if narrow else max(1, 10 // groups)))
        self.between = GAP if len(self.shown) == 1 else 0.1  # inches between columns of clips
        self.bar = scaled(0.5 if narrow else 0.75) if film.measure else 0.0
        longest = max(text_width(line, self.label_size) for row in film.rows for line in row.label.split("\n"))
        self.label = min(longest + 0.12, scaled(0.95 if narrow else 1.4)) if longest else EDGE
        self.labels = [fitted(row.label, self.label - 0.1, self.label_size) for row in film.rows]
        room = wide - self.label - (groups - 1) * self.between - self.bar - EDGE
        self.column = room / groups
        self.side = self.column / len(self.shown) - GAP * (len(self.shown) - 1) / len(self.shown)
        self.tall = self.side * height / width
        lines = max(text_height(label, self.label_size) for label in self.labels)
        self.pitch = max(self.tall, lines) + GAP
        self.title = fitted(film.title + film.still, wide - 0.1, self.title_size)
        self.numbered = len(self.shown) > 1 or not any(film.heads)
        self.heads = [fitted(head, self.column, SMALL) for head in film.heads]
        self.measure = fitted(film.measure, self.bar - 0.06, SMALL)
        self.frames_top = text_height(self.title, self.title_size) + 0.07 + self._heads_height()
        self.top = self.frames_top + (text_height("0", SMALL) + 0.03 if self.numbered else 0.02)
        self.height = self.top + len(film.rows) * self.pitch - GAP + EDGE

    def _heads_height(self) -> float:
        words = [*self.heads, self.measure]
        return max(text_height(word, SMALL) for word in words) if any(words) else 0.0

    def left(self, group: int, frame: int) -> float:
        """Left edge of a picture."""
        return self.label + group * (self.column + self.between) + frame * (self.side + GAP)


def _draw_heads(sheet: Sheet, film: Film, layout: _Layout) -> None:
    named = text_width(f"frame {layout.shown[-1]}", SMALL) < layout.side
    for g, head in enumerate(layout.heads):
        middle = layout.left(g, 0) + layout.column / 2
        sheet.text(middle, layout.frames_top, head, size=SMALL, ha="center", va="bottom")
        for c, frame in enumerate(layout.shown if layout.numbered else []):
            words = f"frame {frame}" if named else str(frame)
            x, y = layout.left(g, c) + layout.side / 2, layout.top - 0.02
            sheet.text(x, y, words, size=SMALL, ha="center", va="bottom", color="#555555")
    if film.measure:
        sheet.text(
            sheet.width - layout.bar / 2, layout.frames_top, layout.measure, size=SMALL, ha="center", va="bottom"
        )


def _draw_bar(sheet: Sheet, row: Strip, middle: float, film: Film, layout: _Layout) -> None:
    longest = max(other.bar or 0.0 for other in film.rows) or 1.0
    left, length = sheet.width - layout.bar + 0.08, layout.bar - 0.1
    sheet.text(left, middle, f"{100 * (row.bar or 0.0):.0f} %", size=SMALL, ha="left", va="bottom")
    axes = sheet.axes(left, middle + 0.03, length, 0.07)
    axes.barh([0], [row.bar or 0.0], color=row.colour)
    axes.set_xlim(0, longest)
    axes.set_ylim(-0.4, 0.4)
    axes.set_axis_off()
