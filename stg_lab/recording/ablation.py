"""Reading an ablation: scores of many weak models at a few states. Needs no model and no torch."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stg_lab.errors import RecordingError
from stg_lab.guidance.scores import SCORES
from stg_lab.recording.layout import LATENT_DIMS
from stg_lab.recording.reader import IncompleteRecordingWarning

if TYPE_CHECKING:
    import xarray as xr

FORMAT = 1  # raised when an older reader could no longer make sense of an ablation
MARK = "stg_lab_ablation"  # root attribute that holds FORMAT
MODEL = ("layer", "part", "axis")  # what tells the weak models of a sweep apart
#: Values of the array "made", which says what became of each weak pass of each run and step.
MISSING, MADE, NOTHING_CHANGED, REFUSED = range(4)


def is_ablation(path: Path) -> bool:
    """Whether a folder is an ablation of the lab, whole or not."""
    try:
        return MARK in json.loads((path / "zarr.json").read_text())["attributes"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def open_ablation(path: str | Path, *, keep: Any = None) -> xr.Dataset:
    """Open what `lab.ablate` kept. No model, no GPU and no torch are needed from here on.

    Args:
        path: the folder.
        keep: anything that must live as long as arrays read from it: the temporary folder it lies in.

    Returns:
        The dataset that `lab.ablate` describes. Passes that were not made are NaN; the attribute `complete` says whether
        there are any.

    Warns:
        IncompleteRecordingWarning: the sweep was cut off; the passes that were made are there.

    Raises:
        RecordingError: nothing there, not an ablation of the lab, damaged, or written by a newer version.
    """
    path = Path(path)
    if not path.exists():
        raise RecordingError(f"there is no ablation at {path}. Make one with lab.ablate(..., record={str(path)!r}).")
    if not is_ablation(path):
        raise RecordingError(f"{path} is not an ablation of the lab (no zarr.json with {MARK!r} in it).")
    try:
        ds = _read(path, keep)
    except RecordingError:
        raise
    except Exception as error:  # zarr and xarray raise many kinds for a folder with holes
        raise RecordingError(f"{path} is damaged and cannot be read: {type(error).__name__}: {error}") from error
    if not ds.attrs["complete"]:
        warnings.warn(
            f"{path} is incomplete: the sweep was cut off. Ask lab.ablate for the same with record={str(path)!r} to go on.",
            IncompleteRecordingWarning,
            stacklevel=2,
        )
    return ds


def _read(path: Path, keep: Any) -> xr.Dataset:
    import xarray as xr
    from zarr.storage import LocalStore

    store = LocalStore(path, read_only=True)
    store._keep = keep  # type: ignore[attr-defined]  # lazy arrays refer to the store, and through it to the folder
    raw = xr.open_zarr(store, consolidated=False, chunks={})
    if raw.attrs[MARK] > FORMAT:
        raise RecordingError(
            f"{path} was written by a newer stg_lab (format {raw.attrs[MARK]}, this one reads {FORMAT})."
        )
    for coordinate in raw.coords.values():  # small, and looked up all the time
        coordinate.load()
    made = raw.made.load()
    _check_whole(path, raw, made)
    samples = raw.sizes["sample"] // made.sizes["run"]
    by_sample = made.rename(run="sample").isel(sample=np.repeat(np.arange(made.sizes["run"]), samples))
    scores = raw.scores.load().transpose("score", "step", *MODEL, "sample")
    # Data that was written without its marker is not to be counted on.
    ds = scores.where((by_sample == MADE) | (by_sample == NOTHING_CHANGED)).to_dataset(dim="score")
    for name, score in SCORES.items():
        ds[name].attrs = score.attrs()
    ds.sharpness_lost.attrs["measured_on"] = raw.attrs["settings"].get("sharpness", "")
    ds["nothing_changed"] = (by_sample == NOTHING_CHANGED).transpose("step", *MODEL, "sample")
    ds.nothing_changed.attrs["long_name"] = "whether the weak pass equals the conditional one, up to rounding"
    for name in ("x0", "x0_cond", "x0_uncond"):
        if name in raw:
            ds[name] = raw[name]
            ds[name].attrs.update(long_name="one-step prediction", units="latents")
    ds = ds.drop_vars("why").assign(why=_reasons(raw))
    complete = bool(((made != MISSING) | (raw.weak == "")).all())
    return ds.assign_attrs(settings=raw.attrs["settings"], arguments=raw.attrs["arguments"], complete=complete)


def _reasons(raw: xr.Dataset) -> xr.DataArray:
    """Why each weak model is not there; "" for those that are. Some refusals turned up on the way."""
    why, weak = raw.why.reset_coords(drop=True).copy(), raw.weak.values
    for specification, reason in raw.attrs.get("refused", {}).items():
        why.values[weak == specification] = reason
    return why.assign_attrs(long_name="why there is no such weak model")


def _check_whole(path: Path, raw: xr.Dataset, made: xr.DataArray) -> None:
    """Every chunk that a marker counts must be there; a missing one would read as NaN, silently."""
    gone = next((chunk for chunk in _chunks(raw, made.values) if not (path / chunk).exists()), None)
    if gone is not None:
        raise RecordingError(f"{path} is damaged: the data of {gone} is gone.")


def _chunks(raw: xr.Dataset, made: np.ndarray) -> Iterator[str]:
    tail = ".0" * len(LATENT_DIMS)
    for run, step, *index in np.argwhere((made == MADE) | (made == NOTHING_CHANGED)):
        model = ".".join(map(str, (step, *index)))
        yield f"scores/c.{model}.0.{run}"
        yield f"x0_cond/c.{step}.{run}{tail}"
        if "x0" in raw:
            yield f"x0/c.{model}.{run}{tail}"
