"""Many weak models side by side, at one step of one run: what each predicts, and where it points."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stg_lab.errors import RecordingError
from stg_lab.figures.film import Film, Strip, check_frames, draw
from stg_lab.figures.pictures_at import caption, check_place, one_step
from stg_lab.figures.style import Width, inches
from stg_lab.given import takes
from stg_lab.guidance import COND, UNCOND
from stg_lab.palette import colour
from stg_lab.recording import Name, Recording, as_source, recording_of
from stg_lab.sampling import Run
from stg_lab.weak import described

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = tuple[str, str, np.ndarray, float]  # label, colour, clip (frame, height, width, 3), length of the guidance vector


@takes()
def weak_models(
    source: Run | Recording | Name,
    *,
    step: int | None = None,
    sample: int = 0,
    frames: int | None = None,
    width: Width = "page",
) -> Figure:
    """One-step predictions of every recorded branch in rows, beside the guidance vectors that point away from them.

    The left half shows x0 of the branch, the right half x0 of the conditional prediction minus x0 of the branch, in pixels
    around mid-grey, with one gain for all rows, so that lengths compare. The bar gives the length of the guidance vector
    (in the model's own space, over the whole clip) as a share of the conditional prediction's.

    Args:
        source: a run, a recording, or the path or name of one, that holds weak models.
        step: which step, from 0; by default a third of the way.
        sample: which sample of the batch.
        frames: how many frames of each, spread over the clip; by default at most 5, or 2 in a column.
        width: "page", "column", or inches.

    Returns:
        A matplotlib figure; `lab.figures.save(figure, "weak_models")` writes PDF and PNG.

    Raises:
        RecordingError: no weak model, or the step or sample is out of range.
        CallError: a width or a number of frames that cannot be.
    """
    shown: Run | Recording = as_source(source)
    recording = recording_of(shown)
    inches(width)
    check_frames(frames)
    step = check_place(recording, step, sample)
    if not recording.weak:
        raise RecordingError("this recording holds no weak model. Record some with lab.Probe(lab.skip([5])) + ...")
    rows = _rows(shown, recording, step, sample)
    return draw(_film(rows, caption(recording, step, sample)), width, frames)


def _rows(source: Run | Recording, recording: Recording, step: int, sample: int) -> list[Row]:
    names = [COND, *([UNCOND] if UNCOND in recording.branches else []), *recording.weak]
    cond = recording.prediction(COND).isel(step=step, sample=sample).values
    rows = []
    for name in names:
        prediction = recording.prediction(name).isel(step=step, sample=sample).values
        if np.isnan(prediction).any():  # not computed at this step
            continue
        words = {COND: "conditional", UNCOND: "unconditional"}.get(name) or described(recording.weak[name])
        clip = one_step(source, name, step, sample)
        length = float(np.linalg.norm(cond - prediction) / np.linalg.norm(cond))
        rows.append((words, colour(name, list(recording.weak)), clip, length))
    return rows


def _film(rows: list[Row], title: str) -> Film:
    cond = rows[0][2]
    vectors = [cond - clip for _, _, clip, _ in rows]
    longest = float(np.quantile(np.abs(np.stack(vectors[1:] or vectors)), 0.995))
    gain = 0.5 / longest if longest else 1.0
    strips = [
        Strip(words, (clip, 0.5 + gain * vector if r else None), length if r else None, ink)
        for r, ((words, ink, clip, length), vector) in enumerate(zip(rows, vectors, strict=True))
    ]
    heads = ("one-step prediction x0", f"cond − this, × {2 * gain:.1f} around grey")
    return Film(title, strips, heads, "length / cond’s")
