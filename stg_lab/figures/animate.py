"""The moving version of a figure: the same clips under the same labels, as mp4 and GIF."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from stg_lab.errors import CallError
from stg_lab.figures.film import Film, film_of
from stg_lab.figures.pictures_at import Source
from stg_lab.figures.style import fitted, font, scaled, text_width
from stg_lab.figures.weak_model import weak_model
from stg_lab.files import written
from stg_lab.given import Number, Whole, takes
from stg_lab.recording import Name, Recording, as_source
from stg_lab.sampling import Run
from stg_lab.sheets import to_bytes
from stg_lab.videos import mp4, write_gif

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SMALLEST, LARGEST = 128, 320  # pixels of a clip's height and width: small clips are enlarged, large ones reduced
TEXT, GAP, LABELS = 12, 8, 150  # pixels: height of letters, space between clips, widest column of labels
LINE = 16
KINDS = ("mp4", "gif")


@takes(fps=Number(high=1000), hold=Number(high=600), loops=Whole(-1000, 1000), columns=Whole(-1000, 1000))
def animate(
    source: Figure | Source | Name,
    path: str | Path,
    *,
    fps: float = 8,
    hold: float = 0.5,
    loops: int = 4,
    columns: int | None = None,
    **options: Any,
) -> list[Path]:
    """Write the moving version of a figure: every clip at once, under its label, with a line that fills as time passes.

    Args:
        source: a figure of `lab.figures` that shows clips; or a run, a recording, or the path or name of one, which stands for
            its `weak_model` figure.
        path: a stem, for `stem.mp4` and `stem.gif`; or a path that ends in .mp4 or .gif, for that one alone.
        fps: frames per second.
        hold: seconds that the last frame stays before the clips begin again.
        loops: how often an mp4 shows the clips, for players that do not repeat; a GIF repeats for ever.
        columns: clips side by side, for figures with one clip a row; by default at most 5.
        **options: for a run or recording, what `weak_model` takes.

    Returns:
        The paths. The same input gives a GIF of the same bytes.

    Raises:
        CallError: a figure without clips, or numbers that make no video; and what `weak_model` raises.
    """
    if not fps > 0 or hold < 0 or loops < 1:
        raise CallError(f"fps={fps}, hold={hold}, loops={loops}: a video needs fps > 0, hold >= 0 and loops >= 1.")
    if columns is not None and columns < 1:
        raise CallError(f"columns={columns}: give a whole number from 1, or leave it out.")
    given: Figure | Source = as_source(source)
    if isinstance(given, Run | Recording):
        film = film_of(weak_model(given, **options))
    elif options:
        raise CallError(f"{', '.join(options)}: only a run or recording takes these; a figure was made with its own.")
    else:
        film = film_of(given)
    path = Path(path)
    suffix = path.suffix.lower()[1:]
    stem = path.with_suffix("") if suffix in KINDS else path
    canvas = moving(film, columns)
    stay = np.repeat(canvas[-1:], round(hold * fps), axis=0)
    video = np.concatenate([canvas, stay])[None].astype(np.float32) / 255
    paths = []
    for kind in (suffix,) if suffix in KINDS else KINDS:
        paths.append(stem.with_name(f"{stem.name}.{kind}"))
        if kind == "mp4":
            encoded = mp4(video, fps=fps, loops=loops)
            with written(paths[-1]) as file:
                file.write_bytes(encoded)
        else:
            write_gif(video, paths[-1], fps=fps)
    return paths


def moving(film: Film, columns: int | None = None) -> np.ndarray:
    """A film as one video, labels burnt in: uint8 `(frame, height, width, 3)`.

    With one clip a row, labels stand over the clips and rows fill a grid; else rows keep their labels on the left.
    """
    if len(film.heads) == 1:
        cells = [(row.label, row.clips[0]) for row in film.rows]
        columns = min(columns or (5 if len(cells) <= 5 else min(5, -(-len(cells) // 2))), len(cells))
        rows = [cells[i : i + columns] for i in range(0, len(cells), columns)]
        return _drawn(film, rows, labels=None)
    heads = list(film.heads)
    rows = [[(heads[g] if r == 0 else "", clip) for g, clip in enumerate(row.clips)] for r, row in enumerate(film.rows)]
    labels = [row.label for row in film.rows]
    return _drawn(film, rows, labels if any(labels) else None)


def _drawn(film: Film, rows: Sequence[Sequence[tuple[str, Any]]], labels: list[str] | None) -> np.ndarray:
    """Clips in rows, words over them, and labels on the left."""
    length, _, _ = film.shape
    height, width = _size(film)
    widest, line = round(scaled(LABELS)), round(scaled(LINE))
    wide = max(len(row) for row in rows)
    left = GAP
    if labels is not None:
        longest = max(_width(words) for label in labels for words in label.split("\n"))
        left += min(widest, longest) + GAP
        labels = [_fitted(label, widest) for label in labels]
    total = left + wide * (width + GAP)
    title = _fitted(film.title, total - 2 * GAP)
    over = [[_fitted(words, width) for words, _ in row] for row in rows]
    lines = [max(0 if not words else 1 + words.count("\n") for words in row) for row in over]
    tops, y = [], GAP + line * (1 + title.count("\n")) + GAP // 2
    for count in lines:
        tops.append(y + count * line)
        y = tops[-1] + height + GAP
    page = Image.new("RGB", (total, y + 4), "white")
    pen = ImageDraw.Draw(page)
    _write(pen, (total / 2, GAP), title, "ma")
    for r, row in enumerate(over):
        for c, words in enumerate(row):
            _write(pen, (left + c * (width + GAP) + width / 2, tops[r] - 3), words, "md")
        if labels is not None:
            _write(pen, (left - GAP, tops[r] + height / 2), labels[r], "rm")
    canvas = np.repeat(np.asarray(page)[None], length, axis=0)
    for r, cells in enumerate(rows):
        for c, (_, clip) in enumerate(cells):
            if clip is not None:
                x = left + c * (width + GAP)
                canvas[:, tops[r] : tops[r] + height, x : x + width] = _resized(clip, length, height, width)
    for t in range(length):  # how far the clip has come
        canvas[t, -4:-1, GAP : GAP + round((total - 2 * GAP) * (t + 1) / length)] = 150
    return canvas


def _size(film: Film) -> tuple[int, int]:
    """Pixels of a clip: small ones enlarged by a whole number, large ones reduced."""
    _, height, width = film.shape
    zoom = max(1, -(-SMALLEST // height))
    height, width = height * zoom, width * zoom
    return (height, width) if width <= LARGEST else (round(height * LARGEST / width), LARGEST)


def _resized(clip: np.ndarray, length: int, height: int, width: int) -> np.ndarray:
    """A clip of `length` frames; a shorter one stays on its last."""
    pixels = to_bytes(clip[np.minimum(np.arange(length), len(clip) - 1)])
    smaller = width < pixels.shape[2]
    how = Image.Resampling.LANCZOS if smaller else Image.Resampling.NEAREST
    return np.stack([np.asarray(Image.fromarray(frame).resize((width, height), how)) for frame in pixels])


def _write(pen: ImageDraw.ImageDraw, place: tuple[float, float], words: str, anchor: str) -> None:
    """Words around a place: the anchor's first letter says which part across lies there, the second which part down."""
    lines = words.split("\n")
    x, y = place
    above = {"a": 0.0, "m": len(lines) / 2, "d": float(len(lines))}[anchor[1]]
    for i, line in enumerate(lines):
        left = x - _width(line) * {"m": 0.5, "r": 1.0}[anchor[0]]
        pen.text(
            (round(left), round(y + (i - above) * round(scaled(LINE)))),
            line,
            fill="black",
            font=_letters(font(), scaled(TEXT)),
        )


@functools.cache
def _letters(family: str, size: float) -> ImageFont.FreeTypeFont:
    from matplotlib.font_manager import FontProperties, findfont

    return ImageFont.truetype(findfont(FontProperties(family=family)), size)


def _fitted(words: str, pixels: float) -> str:
    return fitted(words, pixels / 72, TEXT)  # at 72 pixels an inch, points are pixels


def _width(line: str) -> int:
    return int(np.ceil(72 * text_width(line, TEXT)))
