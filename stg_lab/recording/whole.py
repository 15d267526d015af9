"""Whether a recording has all the arrays and files that its writer counted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from stg_lab.errors import RecordingError
from stg_lab.recording.layout import LATER_COORDS, MARK, PLAIN, PROGRESS, STEP_COORDS, X0_KEPT

if TYPE_CHECKING:
    import xarray as xr


def progress(ds: xr.Dataset) -> tuple[int, bool]:
    """How many whole steps there are, and whether the run ended by itself."""
    whole, finished = (int(v) for v in ds[PROGRESS].values)
    return whole, bool(finished)


def due(path: Path, ds: xr.Dataset) -> Iterator[str]:
    """The files of every chunk that the writer counted.

    Raises:
        RecordingError: a whole array is gone.
    """
    needed = ["x_t", "prediction", "final", "branch", "step", *STEP_COORDS]
    needed += [X0_KEPT] * (ds.attrs[MARK] > PLAIN)  # without it x0 would be taken for predictions
    absent = [name for name in needed if name not in ds]
    if absent:
        raise RecordingError(f"{path} is damaged: {', '.join(absent)} is gone.")
    whole, finished = progress(ds)
    zeros = ".0" * ds.final.ndim
    for k in range(whole):
        yield f"x_t/c.{k}{zeros}"
        yield from (f"prediction/c.{k}.{b}{zeros}" for b in range(ds.sizes["branch"]))
        yield from (f"{name}/c.{k}" for name in (*STEP_COORDS, *LATER_COORDS) if name in ds)
    if finished:
        yield f"final/c{zeros}"
