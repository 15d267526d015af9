"""Videos of several settings: which belong together, so that settings are compared and never pooled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy import ndarray

from stg_lab.metrics.read import find, is_recording

if TYPE_CHECKING:
    from stg_lab.metrics.files import Table

ALONE = "no guidance"
LEAST_CELL = 96  # pixels of a clip in a mosaic
PLAIN = 0.06  # how much a line of one colour may change along itself, after coding
SAME, MOVES = 0.01, 0.002  # mean difference of frames that are the same but for coding; and of those that move


def groups(places: Sequence[str | Path]) -> dict[str, list[Path]]:
    """Files and recordings by what made them: recordings by their guidance, all other files by their folder. What was made without
    guidance comes first, so that others are compared with it.

    Raises:
        MetricError: as `stg_lab.metrics.read.find`.
    """
    found: dict[str, list[Path]] = {}
    for path in find(places):
        found.setdefault(_guidance(path) if is_recording(path) else str(path.parent), []).append(path)
    return dict(sorted(found.items(), key=lambda item: item[0] != ALONE))


def _guidance(path: Path) -> str:
    from stg_lab.recording import open_recording

    said = open_recording(path).settings.get("guidance_text")
    return ALONE if said in (None, "", "CFG(1)") else str(said)


@dataclass
class Comparison:
    """What `evaluate` found of several settings: a table each, of which all but the first have differences to the first.

    Attributes:
        tables: by setting; prints as text, one under the other.
    """

    tables: Mapping[str, Table]

    def __getitem__(self, setting: str) -> Table:
        return self.tables[setting]

    @property
    def clips(self) -> int:
        """How many videos there are in all."""
        return sum(table.clips for table in self.tables.values())

    def __str__(self) -> str:
        parts = [f"{len(self.tables)} settings, each measured by itself."]
        for name, table in self.tables.items():
            against = f"; {table.against}" if table.against else ""
            parts.append(f"{name} ({table.clips} video{'s' * (table.clips != 1)}{against})\n{table}")
        return "\n\n".join(parts)

    def save(self, path: str | Path) -> None:
        """Write all tables into one file, .csv with a column `setting` or .json by setting.

        Raises:
            MetricError: the name ends neither in .csv nor in .json.
        """
        from stg_lab.metrics.files import save

        save(self.tables, Path(path))


def oddities(name: str, video: ndarray) -> Iterator[str]:
    """What a film looks like that is no clip of its own: several side by side, or one over and over.

    Args:
        name: of the file.
        video: `(frame, height, width, 3)` in [0, 1].
    """
    if (cells := _mosaic(video)) != (1, 1):
        yield (
            f"{name} looks like {cells[0]} x {cells[1]} clips side by side, and is measured as one: give the recordings or arrays that "
            "it was made from"
        )
    if times := _loops(video):
        yield f"{name} looks like the same frames {times} times over, which flicker and motion are counted of again"


def _mosaic(video: ndarray) -> tuple[int, int]:
    """How many clips lie below and beside each other; (1, 1) for one."""
    rows, columns = (_cells((video.max(axis=(0, other)) - video.min(axis=(0, other))).max(-1)) for other in (2, 1))
    return rows, columns


def _cells(changes: ndarray) -> int:
    """Into how many equal parts plain stripes cut a side, by how much each line changes along itself and over time.

    A clip of the lab's own mosaics has more than 96 pixels. In a smaller picture an empty stripe may well be its ground.
    """
    length, plain = len(changes), changes < PLAIN
    for count in range(2, 9):
        for gap in range(4, 17):
            cell, rest = divmod(length - (count - 1) * gap, count)
            if cell < LEAST_CELL or rest > 1:  # one more line makes a side even
                continue
            gaps = [np.arange(cell * i + gap * (i - 1) + 1, cell * i + gap * i - 1) for i in range(1, count)]
            clips = [plain[(cell + gap) * i : (cell + gap) * i + cell] for i in range(count)]
            if plain[np.concatenate(gaps)].all() and not any(clip.all() for clip in clips):
                return count
    return 1


def _loops(video: ndarray) -> int:
    """How often the same frames come over and over; 0 where they do not."""
    frames = len(video)
    small = video[:, ::2, ::2].astype(np.float32)
    if frames < 4 or np.abs(np.diff(small, axis=0)).mean() < MOVES:
        return 0
    for period in range(2, frames // 2 + 1):
        if frames % period == 0 and np.abs(small[period:] - small[:-period]).mean() < min(
            SAME, 0.5 * float(np.abs(np.diff(small, axis=0)).mean())
        ):
            return frames // period
    return 0
