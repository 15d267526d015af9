"""The CFG scale that a recorded pipeline itself used: one for a run, one for each step, or one for each frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stg_lab.guidance import Guidance, Moment, number

if TYPE_CHECKING:
    from stg_lab.recording.reader import Recording


def has_frames(recording: Recording) -> bool:
    """Whether frames have CFG scales of their own (SVD)."""
    return bool(recording.settings.get("guidance_scales"))


def by_frame(recording: Recording, scale: float) -> np.ndarray:
    """The scale of each frame for a scale of the call, as the pipeline makes them; an array that multiplies predictions."""
    own = recording.settings["guidance_scales"]
    same = scale == recording.settings["guidance_scale"]
    ramp = np.array(own) if same else np.linspace(own[0], scale, len(own))
    return ramp.astype(np.float32)[None, None, :, None, None]


def own_scale(recording: Recording, step: int) -> float | np.ndarray:
    """The pipeline's own scale at a step, where frames have their own as an array that multiplies predictions."""
    scale = float(recording.ds.guidance_scale[step])
    return by_frame(recording, scale) if has_frames(recording) else scale


def asks_for_own(recording: Recording, guidance: Guidance, at: Moment) -> bool:
    """Whether a guidance asks for what the call asked for, and so leaves the pipeline's own scale in force, as in a run."""
    asked = recording.settings.get("guidance_scale")
    return guidance.has_cfg and guidance.leaves_cfg(at) and guidance.cfg_scale() == asked


def scale_text(recording: Recording, step: int | None = None) -> str:
    """The pipeline's own scale at a step, or in the whole run, for people: "4", "1 to 3 over the frames"."""
    steps = range(recording.steps) if step is None else [step]
    scales = [np.ravel(own_scale(recording, k)) for k in steps]
    if has_frames(recording):
        return f"{number(round(scales[-1][0], 2))} to {number(round(scales[-1][-1], 2))} over the frames"
    low, high = (number(round(float(s), 2)) for s in (min(scales)[0], max(scales)[0]))
    return high if low == high else f"{low} to {high} over the steps"
