"""Whether a recording has all the arrays and files that its writer counted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from stg_lab.errors import RecordingError
from stg_lab.recording.layout import CHECKED, LATER_COORDS, MARK, PLAIN, PROGRESS, STEP_COORDS, X0_KEPT

if TYPE_CHECKING:
    import xarray as xr


def progress(path: Path, ds: xr.Dataset) -> tuple[int, bool]:
    """How many whole steps there are, and whether the run ended by itself.

    Raises:
        RecordingError: the arrays have not so many steps, or it is no progress at all.
    """
    steps, (whole, finished) = ds.sizes["step"], (int(v) for v in ds[PROGRESS].values)
    if not 0 <= whole <= steps or finished not in (0, int(whole == steps)):
        raise RecordingError(
            f"{path} is damaged: {PROGRESS} says {whole} whole steps of {steps} and {finished} for the end, which no run writes."
        )
    return whole, bool(finished)


def due(path: Path, ds: xr.Dataset) -> Iterator[tuple[str, str]]:
    """The files of every chunk that the writer counted, by array; besides those of the small arrays.

    Raises:
        RecordingError: a whole array is gone.
    """
    needed = ["x_t", "prediction", "final", "branch", "step", PROGRESS, *STEP_COORDS]
    needed += [X0_KEPT] * (ds.attrs[MARK] > PLAIN)  # without it x0 would be taken for predictions
    absent = [name for name in needed if name not in ds]
    if absent:
        raise RecordingError(f"{path} is damaged: {', '.join(absent)} is gone.")
    whole, finished = progress(path, ds)
    zeros = ".0" * ds.final.ndim
    for k in range(whole):
        yield "x_t", f"c.{k}{zeros}"
        yield from (("prediction", f"c.{k}.{b}{zeros}") for b in range(ds.sizes["branch"]))
        if ds.attrs[MARK] < CHECKED[MARK]:
            yield from ((name, f"c.{k}") for name in (*STEP_COORDS, *LATER_COORDS) if name in ds)
    if finished:
        yield "final", f"c{zeros}"
