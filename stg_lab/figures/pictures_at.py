"""What figures show: a place in a recording, and its latents as pictures."""

from __future__ import annotations

from typing import Any

import numpy as np

from stg_lab.errors import RecordingError
from stg_lab.recording import Recording, check_number, recording_of
from stg_lab.sampling import Run, decode

Source = Run | Recording


def check_place(recording: Recording, step: int | None, sample: int) -> int:
    """The step to show: the given one, or a third of the way, where shapes begin to stand.

    Raises:
        RecordingError: the step or sample is out of range.
    """
    step = check_number("step", recording.steps // 3 if step is None else step, recording.steps)
    check_number("sample", sample, recording.ds.sizes["sample"])
    return step


def one_step(source: Source, prediction: Any, step: int, sample: int) -> np.ndarray:
    """The one-step prediction of a branch, or of any prediction like it, as a clip `(frame, height, width, 3)`."""
    latents = recording_of(source).x0(prediction).isel(step=step, sample=[sample])
    return decoded(source, latents.values)[0]


def final(source: Source, sample: int) -> np.ndarray:
    """The finished video of a sample, `(frame, height, width, 3)`."""
    return (source.video if isinstance(source, Run) else source.video())[sample]


def decoded(source: Source, latents: np.ndarray) -> np.ndarray:
    """Latents `(sample, channel, frame, y, x)` as video: by the recording's exact preview, else by the run's pipeline.

    Raises:
        RecordingError: a recording by itself, of a model with a learned decoder.
    """
    pipe = source.pipe if isinstance(source, Run) else None
    recording = recording_of(source)
    if recording.has_preview and (pipe is None or recording.preview_exact):
        return recording.preview(latents)
    if pipe is None:
        raise RecordingError(
            "this recording's model has a learned decoder. Pass the run itself, or decode rec.x0(...) with lab.decode(pipe, ...)."
        )
    return decode(pipe, latents)


def caption(recording: Recording, step: int, sample: int, what: str = "one-step predictions") -> str:
    """A title: the prompt, and which step it is."""
    words = f"“{recording.captions[sample]}”, " if recording.captions[sample] else ""
    sigma = float(recording.ds.sigma[step])
    return f"{words}{what} at step\u00a0{step}\u00a0of\u00a0{recording.planned} (σ\u00a0=\u00a0{sigma:.2f})"


def lettered(labels: list[str]) -> list[str]:
    """Labels with (a), (b), ... before them, so that a caption can point at rows."""
    return [f"({chr(ord('a') + i)}) {label}" if i < 26 else label for i, label in enumerate(labels)]
