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
    pixels = to_bytes(video[:, shown])
    each = len(video) // len(captions)
    gap, text, (height, width) = 4, 14, video.shape[2:4]
    strip = len(shown) * width
    row_w, row_h = each * (strip + gap) + 2 * gap, height + text + gap
    size = (columns * row_w + gap, -(-len(captions) // columns) * row_h + gap)
    sheet = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=11)
    for i, caption in enumerate(captions):
        x, y = gap + (i % columns) * row_w, gap + (i // columns) * row_h
        pen.text((x, y - 1), caption, fill="black", font=font)
        for k in range(each):
            clip = Image.fromarray(np.concatenate(list(pixels[i * each + k]), axis=1))
            sheet.paste(clip, (x + k * (strip + gap), y + text))
    sheet.save(path, quality=85)


def to_bytes(video: np.ndarray) -> np.ndarray:
    """Values in [0, 1] as uint8, rounded."""
    return (np.clip(np.asarray(video), 0, 1) * 255 + 0.5).astype(np.uint8)
