"""Guidance vectors as pictures for a browser: signed around grey, one PNG a vector and sample."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from stg_lab.analysis.directions import vectors_at
from stg_lab.analysis.vectors import change_of_pixels
from stg_lab.recording import Recording
from stg_lab.widgets.sprites import shrunk

ZERO, MOST = 128, 127  # a byte is ZERO + MOST * value / scale
STRONG = 0.998  # quantile of the pixels that sets the scale; the few beyond it saturate


def vector_sheets(recording: Recording, names: list[str], shrink: int = 1) -> tuple[dict[str, bytes], np.ndarray]:
    """What each guidance vector, at weight 1, adds to the decoded one-step prediction.

    Args:
        recording: one that can be shown without a model.
        names: branches that the vectors point away from.
        shrink: how many pixels, each way, become one.

    Returns:
        PNG bytes by `"branch/sample"`, steps going down and frames going right, black where a branch was not computed; and
        the scales `(sample, vector, step)`: a pixel adds `(byte - 128) / 127 * scale`, of the range from 0 to 1.

    Raises:
        RecordingError: this recording has no preview of its latents.
    """
    b = recording.ds.x0_prediction.values
    pixels = np.stack(
        [
            [change_of_pixels(recording, v, b[k]) for v in vectors_at(recording, names, k)]
            for k in range(recording.steps)
        ]
    )  # [step, vector, sample, frame, height, width, 3]
    strength = np.abs(pixels).reshape(*pixels.shape[:3], -1)
    scale = np.quantile(strength, STRONG, axis=-1).transpose(2, 1, 0)  # NaN where there is none
    scale = np.where(np.isfinite(scale) & (scale > 0), scale, 1.0)
    sheets = {}
    for i, name in enumerate(names):
        for sample in range(pixels.shape[2]):
            video = shrunk(pixels[:, i, sample], shrink) / scale[sample, i, :, None, None, None, None]
            sheets[f"{name}/{sample}"] = _signed_png(video)
    return sheets, scale


def _signed_png(video: np.ndarray) -> bytes:
    """`(step, frame, height, width, 3)` in [-1, 1] as one PNG; NaN is black."""
    steps, frames, height, width, _ = video.shape
    values = np.nan_to_num(np.clip(video, -1, 1) * MOST + ZERO).round().astype(np.uint8)
    values = values.transpose(0, 2, 1, 3, 4).reshape(steps * height, frames * width, 3)
    out = io.BytesIO()
    Image.fromarray(values).save(out, "PNG", optimize=True)
    return out.getvalue()
