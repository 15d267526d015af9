"""The demo's videos as one film and as one sheet, for whoever cannot open the page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from stg_lab.files import written
from stg_lab.report import Grid
from stg_lab.sheets import contact_sheet, to_bytes
from stg_lab.videos import encoded

SIDE, GAP, TEXT, HEAD, MARGIN = 96, 6, 18, 22, 12  # pixels; small videos are enlarged to SIDE
LOOPS = 4  # many players do not loop by themselves


def write_film(grid: Grid, path: Path) -> Path:
    """The grid as an mp4: columns under their headings, rows under their captions, in two halves where there are many."""
    frames = film(grid)
    film_of_all = encoded(np.concatenate([frames] * LOOPS))
    with written(path) as file:
        file.write_bytes(film_of_all)
    return path


def film(grid: Grid) -> np.ndarray:
    """Frames of the grid, uint8 `(frame, height, width, 3)` with even sides."""
    videos = [to_bytes(column.video) for column in grid.columns]
    _, count, h, w, _ = videos[0].shape
    zoom = max(1, SIDE // h)
    h, w, rows = h * zoom, w * zoom, len(grid.captions)
    deep = rows if rows < 5 else (rows + 1) // 2
    wide = len(videos) * (w + GAP) + MARGIN
    canvas = _lettered(grid, deep, wide, h, w)
    frames = np.repeat(np.asarray(canvas)[None], count, axis=0)
    for column, clips in enumerate(videos):
        for row, clip in enumerate(clips):
            x = MARGIN + (row // deep) * wide + column * (w + GAP)
            y = HEAD + MARGIN + (row % deep) * (h + TEXT + GAP) + TEXT
            frames[:, y : y + h, x : x + w] = clip.repeat(zoom, axis=1).repeat(zoom, axis=2)
    return frames


def _lettered(grid: Grid, deep: int, wide: int, h: int, w: int) -> Image.Image:
    """Headings and captions on white, room for the videos left free."""
    halves = -(-len(grid.captions) // deep)
    size = (halves * wide + MARGIN, HEAD + 2 * MARGIN + deep * (h + TEXT + GAP))
    canvas = Image.new("RGB", (size[0] + size[0] % 2, size[1] + size[1] % 2), "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=13)
    for half in range(halves):
        for column, shown in enumerate(grid.columns):
            pen.text((MARGIN + half * wide + column * (w + GAP), MARGIN), shown.heading, fill="black", font=font)
    for row, caption in enumerate(grid.captions):
        place = (MARGIN + row // deep * wide, HEAD + MARGIN + row % deep * (h + TEXT + GAP))
        pen.text(place, f"{caption}, seed {grid.seeds[row]}", fill="#5a6270", font=font)
    return canvas


def write_sheet(grid: Grid, path: Path) -> Path:
    """The grid frame by frame, a row of clips for each caption."""
    columns, rows = grid.columns, range(len(grid.captions))
    video = np.stack([column.video for column in columns], axis=1).reshape(-1, *columns[0].video.shape[1:])
    titles = [f"{column.heading}: {grid.captions[row]}" for row in rows for column in columns]
    contact_sheet(video, titles, path, columns=len(columns))
    return path
