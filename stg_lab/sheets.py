"""Contact sheets: many clips on one picture, so that a person can judge them at a glance."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont


def contact_sheet(
    video: np.ndarray, captions: list[str], path: Path | str, *, columns: int = 2, zoom: int | None = None
) -> None:
    """Write clips as rows of frames, each under its caption.

    Args:
        video: `(batch, frame, height, width, 3)` in [0, 1].
        captions: one a clip.
        path: PNG file to write.
        columns: clips side by side.
        zoom: whole-number enlargement without smoothing; by default small pictures are enlarged to 64 pixels.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(sheet_png(video, captions, columns=columns, zoom=zoom))


def sheet_png(video: np.ndarray, captions: list[str], *, columns: int = 1, zoom: int | None = None) -> bytes:
    """The contact sheet as the bytes of a PNG; arguments as for `contact_sheet`."""
    batch, frames, height, width, _ = video.shape
    zoom = zoom or max(1, 64 // height)
    gap, text = 6, 16
    cell_w, cell_h = frames * width * zoom + gap, height * zoom + text + gap
    rows = -(-batch // columns)
    sheet = Image.new("RGB", (columns * cell_w + gap, rows * cell_h + gap), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=12)
    pixels = to_bytes(video)
    for i in range(batch):
        x, y = gap + (i % columns) * cell_w, gap + (i // columns) * cell_h
        pen.text((x, y), captions[i], fill="black", font=font)
        strip = Image.fromarray(np.concatenate(list(pixels[i]), axis=1))
        sheet.paste(strip.resize((strip.width * zoom, strip.height * zoom), Image.Resampling.NEAREST), (x, y + text))
    out = io.BytesIO()
    sheet.save(out, "PNG", optimize=True)
    return out.getvalue()


def to_bytes(video: np.ndarray) -> np.ndarray:
    """Values in [0, 1] as uint8, rounded."""
    return (np.clip(np.asarray(video), 0, 1) * 255 + 0.5).astype(np.uint8)
