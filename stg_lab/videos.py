"""Videos as files: mp4 through mediapy and the ffmpeg that ships with imageio-ffmpeg, GIF through Pillow."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from stg_lab.files import written
from stg_lab.sheets import to_bytes


def tile(video: np.ndarray, *, columns: int | None = None, gap: int = 2, height: int = 192) -> np.ndarray:
    """Several clips beside each other, small ones enlarged without smoothing.

    Args:
        video: `(batch, frame, height, width, 3)` in [0, 1].
        columns: clips in a row; by default nearly square.
        gap: pixels between clips, before enlarging.
        height: clips are enlarged by the largest whole number that keeps one below this many pixels.

    Returns:
        uint8 `(frame, height, width, 3)` with even sides, as h264 wants them.
    """
    batch, frames, h, w, _ = video.shape
    columns = columns or int(np.ceil(np.sqrt(batch)))
    rows = -(-batch // columns)
    canvas = np.zeros((frames, rows * (h + gap) - gap, columns * (w + gap) - gap, 3), np.uint8)
    for i, clip in enumerate(to_bytes(video)):
        y, x = (i // columns) * (h + gap), (i % columns) * (w + gap)
        canvas[:, y : y + h, x : x + w] = clip
    zoom = max(1, height // h)
    canvas = canvas.repeat(zoom, axis=1).repeat(zoom, axis=2)
    return np.pad(canvas, ((0, 0), (0, canvas.shape[1] % 2), (0, canvas.shape[2] % 2), (0, 0)), mode="edge")


def mp4(video: np.ndarray, *, fps: float = 8, loops: int = 1) -> bytes:
    """Clips as one h264 mp4 that browsers play; `loops` repeats them, for players that do not loop by themselves.

    Args:
        video: `(batch, frame, height, width, 3)` in [0, 1]; several clips are tiled.
    """
    return encoded(np.concatenate([tile(video)] * loops), fps=fps)


def encoded(frames: np.ndarray, *, fps: float = 8) -> bytes:
    """Frames, uint8 `(frame, height, width, 3)` with even sides, as an h264 mp4."""
    import imageio_ffmpeg
    import mediapy

    mediapy.set_ffmpeg(imageio_ffmpeg.get_ffmpeg_exe())
    return mediapy.compress_video(frames, fps=fps, qp=16)


def write_gif(video: np.ndarray, path: str | Path, *, fps: float = 8) -> None:
    """Clips as one looping GIF, tiled; arguments as for `mp4`."""
    frames = [Image.fromarray(f).quantize(256, dither=Image.Dither.NONE) for f in tile(video, height=128)]
    out = io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:], duration=round(1000 / fps), loop=0)
    with written(path) as file:
        file.write_bytes(out.getvalue())
