"""Contact sheets: many clips on one picture, so that a person can judge them at a glance."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from stg_lab.files import written

QUALITY = 85  # of formats that lose some, such as WebP


def contact_sheet(
    video: np.ndarray, captions: list[str], path: Path | str, *, columns: int = 2, zoom: int | None = None
) -> None:
    """Write clips as rows of frames, each under its caption.

    Args:
        video: `(batch, frame, height, width, 3)` in [0, 1].
        captions: one a clip.
        path: picture to write; its ending decides the format.
        columns: clips side by side.
        zoom: whole-number enlargement without smoothing; by default small pictures are enlarged to 64 pixels.
    """
    _save(_clips(video, captions, columns, zoom), path)


def sheet_png(video: np.ndarray, captions: list[str], *, columns: int = 1, zoom: int | None = None) -> bytes:
    """The contact sheet as the bytes of a PNG; arguments as for `contact_sheet`."""
    out = io.BytesIO()
    _clips(video, captions, columns, zoom).save(out, "PNG", optimize=True)
    return out.getvalue()


def _clips(video: np.ndarray, captions: list[str], columns: int, zoom: int | None) -> Image.Image:
    zoom = zoom or max(1, 64 // video.shape[2])
    strips = [_side_by_side(clip) for clip in to_bytes(video)]
    size = (strips[0].width * zoom, strips[0].height * zoom)
    large = [strip.resize(size, Image.Resampling.NEAREST) for strip in strips]
    return _sheet(large, captions, columns, gap=6, text=16, font=12)


def group_sheet(video: np.ndarray, captions: list[str], path: Path | str, *, columns: int = 2, frames: int = 5) -> None:
    """Write many clips of few captions: a row of clips under each caption, each as some of its frames, at their own size.

    Args:
        video: `(batch, frame, height, width, 3)` in [0, 1], those of a caption in a row.
        captions: one a row; as many clips belong to each.
        path: picture to write; its ending decides the format.
        columns: rows side by side.
        frames: how many frames of each clip, spread evenly over it.
    """
    shown = np.linspace(0, video.shape[1] - 1, min(frames, video.shape[1])).round().astype(int)
    gap = np.full((video.shape[2], 4, 3), 255, np.uint8)
    parts = [part for clip in to_bytes(video[:, shown]) for part in (*clip, gap)]
    each = len(parts) // len(captions)
    rows = [_side_by_side([*parts[first : first + each], gap]) for first in range(0, len(parts), each)]
    _save(_sheet(rows, captions, columns, gap=4, text=14, font=11), path)


def _save(sheet: Image.Image, path: Path | str) -> None:
    kind = Image.registered_extensions()[Path(path).suffix.lower()]
    with written(path) as file:
        sheet.save(file, kind, quality=QUALITY, optimize=True)


def _side_by_side(pictures: Iterable[np.ndarray]) -> Image.Image:
    return Image.fromarray(np.concatenate(list(pictures), axis=1))


def _sheet(
    strips: list[Image.Image], captions: list[str], columns: int, *, gap: int, text: int, font: int
) -> Image.Image:
    """Strips of one size in columns, each under its caption."""
    cell_w, cell_h = strips[0].width + gap, strips[0].height + text + gap
    sheet = Image.new("RGB", (columns * cell_w + gap, -(-len(strips) // columns) * cell_h + gap), "white")
    pen, letters = ImageDraw.Draw(sheet), ImageFont.load_default(size=font)
    for i, strip in enumerate(strips):
        x, y = gap + (i % columns) * cell_w, gap + (i // columns) * cell_h
        pen.text((x, y), captions[i], fill="black", font=letters)
        sheet.paste(strip, (x, y + text))
    return sheet


def to_bytes(video: np.ndarray) -> np.ndarray:
    """Values in [0, 1] as uint8, rounded."""
    return (np.clip(np.asarray(video), 0, 1) * 255 + 0.5).astype(np.uint8)
