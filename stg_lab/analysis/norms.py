"""How long the guidance vectors are."""

from __future__ import annotations

import numpy as np
import xarray as xr

from stg_lab.guidance import COND, GUIDED
from stg_lab.recording import Source, recording_of
from stg_lab.recording.layout import LATENT_DIMS


def norms(recording: Source) -> xr.Dataset:
    """Root-mean-square length of every guidance vector at every step.

    The root mean square is the Euclidean norm divided by the square root of the number of values, so it does not depend on
    a video's size, and the conditional prediction itself is of order 1.

    Args:
        recording: any recording with at least one branch beside `cond` and `guided`.

    Returns:
        Dataset with dims `(vector, step, sample)`:

        - `norm`: RMS of `cond - branch`, for each branch but `cond`; for `guided` of `guided - cond`, the whole push;
        - `relative`: that over the RMS of `cond` at the same step;
        - `cosine`: cosine of each vector to CFG's (`cond - uncond`), NaN where there is no `uncond`.

        A branch that was not computed at a step is NaN there.
    """
    recording = recording_of(recording)
    cond = recording.prediction(COND)
    length = _rms(cond)
    names = [b for b in recording.branches if b != COND]
    vectors = {b: cond - recording.prediction(b) if b != GUIDED else recording.prediction(b) - cond for b in names}
    uncond = vectors.get("uncond")
    rows = []
    for name in names:
        norm = _rms(vectors[name])
        cosine = _cosine(vectors[name], uncond) if uncond is not None else xr.full_like(norm, np.nan)
        rows.append(xr.Dataset({"norm": norm, "relative": norm / length, "cosine": cosine}))
    result = xr.concat(rows, xr.DataArray(names, dims="vector", name="vector"), coords="minimal", compat="override")
    result.norm.attrs.update(long_name="RMS of the guidance vector", units="1")
    result.relative.attrs.update(long_name="RMS of the guidance vector / RMS of cond", units="1")
    result.cosine.attrs.update(long_name="cosine to CFG's guidance vector", units="1")
    return result.drop_vars("branch", errors="ignore").compute()


def _rms(x: xr.DataArray) -> xr.DataArray:
    return (x * x).mean(LATENT_DIMS, skipna=False) ** 0.5


def _cosine(a: xr.DataArray, b: xr.DataArray) -> xr.DataArray:
    return (a * b).mean(LATENT_DIMS, skipna=False) / (_rms(a) * _rms(b))
