"""The paper's weak-model figure (Hyung et al. 2025, figures 18 and 19)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from stg_lab.errors import RecordingError
from stg_lab.figures.style import print_style
from stg_lab.guidance import COND, GUIDED, UNCOND, combine_cfg
from stg_lab.recording import Recording
from stg_lab.sampling import Run, decode
from stg_lab.weak import described

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def weak_model(
    source: Run | Recording,
    *,
    baseline: Run | Recording | None = None,
    step: int | None = None,
    sample: int = 0,
    frames: int | None = None,
) -> Figure:
    """One-step predictions of every model at one step, then the final videos; frames as columns.

    Rows: (a) conditional, (b) unconditional, (c) each weak model, (d) CFG, (e) the guided prediction with STG, and the final
    videos of (f) CFG alone and (g) CFG + STG from the same seed.

    Args:
        source: a run or a recording that holds a weak model.
        baseline: the same call with CFG alone, for row (f). A run samples it when it is not given; a recording cannot, and
            leaves the row out.
        step: which step, from 0; by default a third of the way, where shapes begin to stand.
        sample: which sample of the batch.
        frames: how many frames to show, spread over the clip; by default at most 9.

    Returns:
        A matplotlib figure; `lab.figures.save(figure, "weak_model")` writes PDF and PNG.

    Raises:
        RecordingError: the step or sample is out of range, or a recording without a model cannot be decoded.
    """
    recording = source.recording if isinstance(source, Run) else source
    if baseline is None and isinstance(source, Run):
        baseline = source.baseline
    step = recording.steps // 3 if step is None else step
    for name, value, count in (("step", step, recording.steps), ("sample", sample, recording.ds.sizes["sample"])):
        if not 0 <= value < count:
            raise RecordingError(f"{name} {value} is out of range: this recording has {name}s 0 to {count - 1}.")
    rows = _rows(source, recording, baseline, step, sample)
    return _draw(rows, _title(recording, step, sample), frames)


def _rows(
    source: Run | Recording, recording: Recording, baseline: Run | Recording | None, step: int, sample: int
) -> list[tuple[str, np.ndarray]]:
    """Label and clip `(frame, height, width, 3)` of each row."""

    def picture(latents: Any) -> np.ndarray:
        return decoded(source, latents.isel(step=step, sample=[sample]).values)[0]

    scale = recording.settings["guidance_scale"]
    rows = [("conditional", picture(recording.x0(COND)))]
    if UNCOND in recording.branches:
        rows.append(("unconditional", picture(recording.x0(UNCOND))))
    for name, words in recording.weak.items():
        if not np.isnan(recording.prediction(name).isel(step=step, sample=sample).values).any():
            rows.append((f"weak model:\n{described(words)}", picture(recording.x0(name))))
    if UNCOND in recording.branches:
        cfg = combine_cfg(recording.prediction(COND), recording.prediction(UNCOND), scale)  # lazy: one step is read
        rows.append((f"CFG {scale:g}", picture(recording.x0(cfg))))
    if recording.weak:
        rows.append(("guided:\n" + recording.settings["guidance_text"], picture(recording.x0(GUIDED))))
    if baseline is not None:
        rows.append((f"final video,\nCFG {scale:g} alone", _final(baseline, sample)))
    if recording.complete:
        label = recording.settings["guidance_text"] if not recording.weak else "guided"
        rows.append((f"final video,\n{label}", _final(source, sample)))
    return rows


def _final(source: Run | Recording, sample: int) -> np.ndarray:
    return (source.video if isinstance(source, Run) else source.video())[sample]


def decoded(source: Run | Recording, latents: np.ndarray) -> np.ndarray:
    """Latents `(sample, channel, frame, y, x)` as video: by the recording's exact preview, else by the run's pipeline.

    Raises:
        RecordingError: a recording by itself, of a model with a learned decoder.
    """
    pipe = source.pipe if isinstance(source, Run) else None
    recording = source.recording if isinstance(source, Run) else source
    if recording.has_preview and (pipe is None or recording.preview_exact):
        return recording.preview(latents)
    if pipe is None:
        raise RecordingError(
            "this recording's model has a learned decoder. Pass the run itself, or decode rec.x0(...) with lab.decode(pipe, ...)."
        )
    return decode(pipe, latents)


def _title(recording: Recording, step: int, sample: int) -> str:
    sigma = float(recording.ds.sigma[step])
    caption = recording.captions[sample]
    words = f"“{caption}”, " if caption else ""
    return f"{words}one-step predictions at step {step} of {recording.planned} (σ = {sigma:.2f})"


def _draw(rows: list[tuple[str, np.ndarray]], title: str, frames: int | None) -> Figure:
    import matplotlib.pyplot as plt

    length, height, width, _ = rows[0][1].shape
    shown = np.unique(np.linspace(0, length - 1, min(frames or 9, length)).round().astype(int))
    side, label = 0.62, 1.75  # inches: one frame, the column of labels
    size = (label + side * len(shown) * width / height, 0.42 + (side + 0.06) * len(rows))
    with print_style():
        figure, axes = plt.subplots(
            len(rows), len(shown), figsize=size, squeeze=False, gridspec_kw={"wspace": 0.03, "hspace": 0.06}
        )
        figure.subplots_adjust(left=label / size[0], right=0.995, bottom=0.01, top=1 - 0.42 / size[1])
        for r, (name, clip) in enumerate(rows):
            for c, frame in enumerate(shown):
                ax = axes[r, c]
                ax.imshow(np.clip(clip[frame], 0, 1))
                ax.set_axis_off()
                if r == 0:
                    ax.set_title(f"frame {frame}", fontsize=6.5, pad=2)
            y = 1 - (0.42 + (r + 0.5) * (size[1] - 0.42) / len(rows)) / size[1]
            text = f"({chr(ord('a') + r)}) {name}"
            figure.text((label - 0.08) / size[0], y, text, ha="right", va="center", fontsize=7)
        figure.suptitle(title, fontsize=8, y=1 - 0.06 / size[1], va="top")
    plt.close(figure)  # shown by its repr, not twice by pyplot
    return figure
