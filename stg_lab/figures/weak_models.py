"""Many weak models side by side, at one step of one run: what each predicts, and where it points."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np

from stg_lab.errors import RecordingError
from stg_lab.figures.style import print_style
from stg_lab.figures.weak_model import decoded
from stg_lab.guidance import COND, UNCOND
from stg_lab.palette import colour
from stg_lab.recording import Recording
from stg_lab.sampling import Run
from stg_lab.weak import described

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = tuple[str, str, np.ndarray, float]  # label, colour, clip (frame, height, width, 3), length of the guidance vector


def weak_models(source: Run | Recording, *, step: int | None = None, sample: int = 0, frames: int = 5) -> Figure:
    """One-step predictions of every recorded branch in rows, beside the guidance vectors that point away from them.

    The left half shows x0 of the branch, the right half x0 of the conditional prediction minus x0 of the branch, in pixels
    around mid-grey, with one gain for all rows, so that lengths compare. The bar gives the length of the guidance vector
    (in the model's own space, over the whole clip) as a share of the conditional prediction's.

    Args:
        source: a run or a recording that holds weak models.
        step: which step, from 0; by default a third of the way.
        sample: which sample of the batch.
        frames: how many frames of each, spread over the clip.

    Returns:
        A matplotlib figure; `lab.figures.save(figure, "weak_models")` writes PDF and PNG.

    Raises:
        RecordingError: no weak model, or the step or sample is out of range.
    """
    recording = source.recording if isinstance(source, Run) else source
    step = recording.steps // 3 if step is None else step
    for name, value, count in (("step", step, recording.steps), ("sample", sample, recording.ds.sizes["sample"])):
        if not 0 <= value < count:
            raise RecordingError(f"{name} {value} is out of range: this recording has {name}s 0 to {count - 1}.")
    if not recording.weak:
        raise RecordingError("this recording holds no weak model. Record some with lab.Probe(lab.skip([5])) + ...")
    rows = _rows(source, recording, step, sample)
    sigma = float(recording.ds.sigma[step])
    title = f"“{recording.captions[sample]}”, step {step} of {recording.planned}, σ = {sigma:.2f}"
    return _draw(rows, title, frames)


def _rows(source: Run | Recording, recording: Recording, step: int, sample: int) -> list[Row]:
    names = [COND, *([UNCOND] if UNCOND in recording.branches else []), *recording.weak]
    cond = recording.prediction(COND).isel(step=step, sample=sample).values
    rows = []
    for name in names:
        prediction = recording.prediction(name).isel(step=step, sample=sample).values
        if np.isnan(prediction).any():  # not computed at this step
            continue
        words = {COND: "conditional", UNCOND: "unconditional"}.get(name) or described(recording.weak[name])
        clip = decoded(source, recording.x0(name).isel(step=step, sample=[sample]).values)[0]
        length = float(np.linalg.norm(cond - prediction) / np.linalg.norm(cond))
        rows.append((words, colour(name, list(recording.weak)), clip, length))
    return rows


def _draw(rows: list[Row], title: str, frames: int) -> Figure:
    import matplotlib.pyplot as plt

    cond = rows[0][2]
    vectors = [cond - clip for _, _, clip, _ in rows]
    gain = 0.5 / float(np.quantile(np.abs(np.stack(vectors[1:])), 0.995))
    shown = np.unique(np.linspace(0, len(cond) - 1, min(frames, len(cond))).round().astype(int))
    n = len(shown)
    side, label, bar, gap, top = 0.66, 2.2, 1.5, 0.2, 0.62  # inches
    width = label + 2 * n * side + gap + bar
    height = top + side * len(rows) + 0.1
    longest = max(length for *_, length in rows)
    with print_style():
        figure = plt.figure(figsize=(width, height))
        for r, ((words, ink, clip, length), vector) in enumerate(zip(rows, vectors, strict=True)):
            bottom = height - top - (r + 1) * side
            y = (bottom + side / 2) / height
            text = textwrap.fill(words, 27)
            figure.text((label - 0.1) / width, y, text, ha="right", va="center", fontsize=8.5, linespacing=1.1)
            for c, frame in enumerate(shown):
                _picture(figure, label + c * side, bottom, side, clip[frame])
                if r > 0:
                    _picture(figure, label + (n + c) * side + gap, bottom, side, 0.5 + gain * vector[frame])
            if r > 0:
                left = label + 2 * n * side + gap + 0.12
                ax = figure.add_axes(
                    (left / width, (bottom + 0.22) / height, (bar - 0.62) / width, (side - 0.44) / height)
                )
                ax.barh([0], [length], color=ink)
                ax.set_xlim(0, longest)
                ax.set_axis_off()
                figure.text((width - 0.06) / width, y, f"{100 * length:.0f} %", ha="right", va="center", fontsize=8.5)
        y = 1 - (top - 0.12) / height
        centre = label + n * side / 2
        figure.text(centre / width, y, "one-step prediction x0", ha="center", fontsize=8.5)
        figure.text(
            (centre + n * side + gap) / width,
            y,
            f"cond − this, × {2 * gain:.1f} around grey",
            ha="center",
            fontsize=8.5,
        )
        figure.text((width - bar / 2) / width, y, "length / cond's", ha="center", fontsize=8.5)
        figure.suptitle(title, fontsize=10.5, y=1 - 0.08 / height, va="top")
    plt.close(figure)  # shown by its repr, not twice by pyplot
    return figure


def _picture(figure: Figure, left: float, bottom: float, side: float, pixels: np.ndarray) -> None:
    """One square picture at a place in inches, with a hair of space around it."""
    width, height = figure.get_size_inches()
    ax = figure.add_axes((left / width, bottom / height, (side - 0.04) / width, (side - 0.04) / height))
    ax.imshow(np.clip(pixels, 0, 1))
    ax.set_axis_off()
