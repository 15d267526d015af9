"""Whether a recording has all the arrays and files that its writer counted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stg_lab.errors import RecordingError
from stg_lab.recording.layout import LATER_COORDS, MARK, PLAIN, STEP_COORDS, X0_KEPT
from stg_lab.recording.store import all_there

if TYPE_CHECKING:
    import xarray as xr


def check_whole(path: Path, ds: xr.Dataset, whole: int, finished: bool) -> None:
    """Every array and every chunk that the writer counted must be there; a missing chunk would read as NaN, silently.

    Args:
        whole: how many steps the writer counted.
        finished: whether the run ended by itself.

    Raises:
        RecordingError: something is gone.
    """
    needed = ["x_t", "prediction", "final", "branch", "step", *STEP_COORDS]
    needed += [X0_KEPT] * (ds.attrs[MARK] > PLAIN)  # without it x0 would be taken for predictions
    absent = [name for name in needed if name not in ds]
    if absent:
        raise RecordingError(f"{path} is damaged: {', '.join(absent)} is gone.")
    zeros = ".0" * ds.final.ndim
    chunks = [f"x_t/c.{k}{zeros}" for k in range(whole)]
    chunks += [f"prediction/c.{k}.{b}{zeros}" for k in range(whole) for b in range(ds.sizes["branch"])]
    chunks += [f"{name}/c.{k}" for k in range(whole) for name in STEP_COORDS]
    chunks += [f"{name}/c.{k}" for k in range(whole) for name in LATER_COORDS if name in ds]
    chunks += [f"final/c{zeros}"] if finished else []
    all_there(path, iter(chunks))
