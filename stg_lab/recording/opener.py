"""Opening a recording: its whole steps, with what older formats did not say filled in."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stg_lab.errors import RecordingError
from stg_lab.recording.float16 import predicted
from stg_lab.recording.layout import FORMAT, LATER_COORDS, MARK, PREVIEW, PROGRESS, X0_KEPT
from stg_lab.recording.packed import as_text, place
from stg_lab.recording.previews import preview_of
from stg_lab.recording.reader import Recording
from stg_lab.recording.store import IncompleteRecordingWarning, open_arrays, opening
from stg_lab.recording.successor import recover
from stg_lab.recording.whole import due, progress

if TYPE_CHECKING:
    import xarray as xr


def open_recording(path: str | os.PathLike[str], *, keep: Any = None) -> Recording:
    """Open a recording. No model, no GPU and no torch are needed from here on.

    Args:
        path: the folder, a file that `lab.pack` made of it, or the name of a recording that ships (`lab.recordings()`).
        keep: anything that must live as long as the recording or an array read from it: the temporary folder it lies in.

    Warns:
        IncompleteRecordingWarning: the run was cut off; the whole steps are there.

    Raises:
        RecordingError: nothing there, not a recording of the lab, damaged, or written by a newer version.
    """
    given = as_text(path)
    path, keep = place(path, keep)
    recover(path)
    with opening(path, "a recording", MARK, "lab.sample"):
        ds, whole, finished, planned, checked = _read(path, keep)
        preview = preview_of(ds)
    if whole == 0:
        raise RecordingError(f"{path} holds no whole step: the run was cut off in the first one.")
    if not finished:
        warnings.warn(
            f"{path} is incomplete: the run was cut off after {whole} of {planned} steps.",
            IncompleteRecordingWarning,
            stacklevel=2,
        )
    dtype = ds.prediction.dtype.name
    if ds[X0_KEPT].any():
        ds["prediction"] = predicted(ds.x0_sample, ds.x0_prediction, ds[X0_KEPT] == 1, ds.x_t, ds.prediction)
    ds = ds.drop_vars([name for name in ds if str(name).startswith(PREVIEW) or name == PROGRESS])
    ds.attrs["settings"] = json.dumps(ds.attrs["settings"])  # as text, since netCDF's attributes hold no dicts
    recording = Recording(ds, path, complete=finished, planned=planned, preview=preview)
    recording.record_dtype, recording.opened_from, recording.checked = dtype, given, checked
    return recording


def _read(path: Path, keep: Any) -> tuple[xr.Dataset, int, bool, int, bool]:
    """The whole steps, how many they are, whether the run ended by itself, how many were planned, and whether all that is read
    is tested against checksums."""
    ds, checked = open_arrays(path, keep, mark=MARK, newest=FORMAT, due=lambda ds: due(path, ds))
    (whole, finished), planned = progress(path, ds), ds.sizes["step"]
    ds = ds.isel(step=slice(0, whole))
    # Chunk by chunk what is large; the thousands of small ones are read as they are, not each as a task of dask's.
    for name in ("x_t", "prediction", "final"):
        ds[name] = ds[name].chunk({dim: 1 for dim in ("step", "branch") if dim in ds[name].dims})
    scale = ds.attrs["settings"].get("guidance_scale") or 1.0
    unsaid = {
        "run_step": np.arange(whole, dtype=float),
        "noise": ds.sigma.values,
        "guidance_scale": np.full(whole, float(scale)),
    }
    for name, otherwise in LATER_COORDS.items():
        values = ds[name].values if name in ds else np.full(whole, otherwise)
        ds[name] = ("step", np.where(np.isnan(values), unsaid[name], values) if name in unsaid else values)
    ds = ds.set_coords(list(LATER_COORDS))
    for coordinate in ds.coords.values():  # small, and looked up all the time
        coordinate.load()
    return ds, whole, finished, planned, checked
