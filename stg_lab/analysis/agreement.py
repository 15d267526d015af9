"""From which step on the conditional and the unconditional prediction agree: what adaptive guidance would save."""

from __future__ import annotations

import numpy as np
import xarray as xr

from stg_lab.given import Number, takes
from stg_lab.guidance import COND, UNCOND
from stg_lab.guidance.scores import cosine
from stg_lab.recording import Source, recording_of


@takes(threshold=Number(-1, 1))
def agreement(recording: Source, threshold: float = 0.99, *, branch: str = UNCOND) -> xr.DataArray:
    """Cosine of the angle between the conditional prediction and another one, at every step.

    Args:
        recording: of a run that recorded both predictions.
        threshold: from which cosine on they are said to agree, as in `lab.CFG(4).until(threshold)`.
        branch: the other prediction.

    Returns:
        `(step, sample)`, float64. Its coordinate `through (sample)` is the first step from which on nothing more would be guided:
        one past the first whose cosine is at least the threshold, or the number of steps where none is.

    Raises:
        RecordingError: no such branch.
    """
    recording = recording_of(recording)
    c, u = (recording.prediction(name) for name in (COND, branch))
    values = np.stack([cosine(c.isel(step=k).values, u.isel(step=k).values) for k in range(c.sizes["step"])])
    reached = values >= threshold
    through = np.where(reached.any(0), reached.argmax(0) + 1, len(values))
    return xr.DataArray(
        values,
        dims=("step", "sample"),
        coords={"through": ("sample", through)},
        name="agreement",
        attrs={"long_name": f"cosine of cond and {branch}", "threshold": threshold},
    )
