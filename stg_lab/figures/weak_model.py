"""The paper's weak-model figure (Hyung et al. 2025, figures 18 and 19)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stg_lab.figures.film import Film, Strip, check_frames, draw
from stg_lab.figures.pictures_at import caption, check_place, final, lettered, one_step
from stg_lab.figures.style import Width, inches
from stg_lab.given import takes
from stg_lab.guidance import COND, GUIDED, UNCOND, combine_cfg
from stg_lab.recording import BESIDE, Name, Recording, as_source, baseline_text, recording_of
from stg_lab.recording.scales import own_scale, scale_text
from stg_lab.sampling import Run
from stg_lab.weak import described

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@takes(baseline=BESIDE)
def weak_model(
    source: Run | Recording | Name,
    *,
    baseline: Run | Recording | None = None,
    step: int | None = None,
    sample: int = 0,
    frames: int | None = None,
    width: Width = "page",
) -> Figure:
    """One-step predictions of every model at one step, then the final videos; frames as columns.

    Rows: (a) conditional, (b) unconditional, (c) each weak model, (d) CFG, (e) the guided prediction with STG, and the final
    videos of (f) CFG alone and (g) CFG + STG from the same seed.

    Args:
        source: a run, a recording, or the path or name of one, that holds a weak model.
        baseline: the same call with CFG alone, or without guidance, for row (f). A run samples it when it is not given; a recording cannot, and
            leaves the row out.
        step: which step, from 0; by default a third of the way, where shapes begin to stand.
        sample: which sample of the batch.
        frames: how many frames to show, spread over the clip; by default at most 10, or 5 in a column.
        width: "page", "column", or inches.

    Returns:
        A matplotlib figure; `lab.figures.save(figure, "weak_model")` writes PDF and PNG.

    Raises:
        RecordingError: the step or sample is out of range, or a recording without a model cannot be decoded.
        CallError: a width or a number of frames that cannot be.
    """
    shown: Run | Recording = as_source(source)
    recording = recording_of(shown)
    inches(width)
    check_frames(frames)
    step = check_place(recording, step, sample)
    if baseline is None and isinstance(shown, Run):
        baseline = shown.baseline
    rows = _rows(shown, recording, baseline, step, sample)
    labels = lettered([label for label, _ in rows])
    strips = [Strip(label, (clip,)) for label, (_, clip) in zip(labels, rows, strict=True)]
    return draw(Film(caption(recording, step, sample), strips), width, frames)


def _rows(
    source: Run | Recording, recording: Recording, baseline: Run | Recording | None, step: int, sample: int
) -> list[tuple[str, np.ndarray]]:
    """Label and clip `(frame, height, width, 3)` of each row."""
    rows = [("conditional", one_step(source, COND, step, sample))]
    if UNCOND in recording.branches:
        rows.append(("unconditional", one_step(source, UNCOND, step, sample)))
    for name, words in recording.weak.items():
        if not np.isnan(recording.prediction(name).isel(step=step, sample=sample).values).any():
            rows.append((f"weak model: {described(words)}", one_step(source, name, step, sample)))
    if UNCOND in recording.branches:
        cond, uncond = (recording.prediction(name) for name in (COND, UNCOND))  # lazy: one step is read
        cfg = combine_cfg(cond, uncond, own_scale(recording, step))
        rows.append((f"CFG {scale_text(recording, step)}", one_step(source, cfg, step, sample)))
    if recording.weak:
        rows.append((f"guided: {recording.settings['guidance_text']}", one_step(source, GUIDED, step, sample)))
    if baseline is not None:
        rows.append((f"final video, {baseline_text(baseline, recording)}", final(baseline, sample)))
    if recording.complete:
        label = recording.settings["guidance_text"] if not recording.weak else "guided"
        rows.append((f"final video, {label}", final(source, sample)))
    return rows
