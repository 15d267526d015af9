"""Opening a folder of the lab's arrays: what it is, what keeps it alive, and what is said where it is damaged."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stg_lab.errors import RecordingError

if TYPE_CHECKING:
    import xarray as xr


#: What opens a folder, by the root attribute that says what it is.
OPENS = {"stg_lab_recording": "lab.open", "stg_lab_ablation": "lab.open_ablation"}


class IncompleteRecordingWarning(UserWarning):
    """The run behind a recording or an ablation was cut off; what is whole is there."""


def has_mark(path: Path, mark: str) -> bool:
    """Whether a folder is a zarr group with this root attribute."""
    try:
        return mark in json.loads((path / "zarr.json").read_text())["attributes"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


@contextlib.contextmanager
def opening(path: Path, kind: str, mark: str, maker: str) -> Iterator[None]:
    """Say plainly why a folder cannot be opened, around the code that reads it.

    Args:
        kind: what the folder should be, such as "a recording".
        mark: the root attribute that says so.
        maker: the function that makes one, such as "lab.sample".

    Raises:
        RecordingError: nothing there, something else, or damaged.
    """
    name = kind.split()[-1]
    if not path.exists():
        raise RecordingError(f"there is no {name} at {path}. Make one with {maker}(..., record={str(path)!r}).")
    if not has_mark(path, mark):
        other = next((opens for m, opens in OPENS.items() if m != mark and has_mark(path, m)), "")
        hint = f" It opens with {other}(...)." if other else ""
        raise RecordingError(f"{path} is not {kind} of the lab (no zarr.json with {mark!r} in it).{hint}")
    try:
        yield
    except RecordingError:
        raise
    except Exception as error:  # zarr and xarray raise many kinds for a folder with holes
        raise RecordingError(f"{path} is damaged and cannot be read: {type(error).__name__}: {error}") from error


def open_arrays(
    path: Path, keep: Any, *, mark: str, newest: int, due: Callable[[xr.Dataset], Iterable[str]]
) -> xr.Dataset:
    """The arrays in a folder as they are, lazy, without dask.

    Args:
        keep: lives as long as any array read from here.
        newest: the highest format that the caller can read.
        due: the files that the writer counted, such as "x_t/c.0.0", from the arrays. One that is missing is an error now, and
            when it goes missing later and is read.

    Raises:
        RecordingError: a newer version wrote them, or a file that is due is gone.
    """
    import xarray as xr
    from zarr.storage import LocalStore

    from stg_lab.recording.lazy import guarded

    store = LocalStore(path, read_only=True)
    store._keep = keep  # type: ignore[attr-defined]  # lazy arrays refer to the store, and through it to the folder
    ds = xr.open_zarr(store, consolidated=False, chunks=None)
    if ds.attrs[mark] > newest:
        raise RecordingError(
            f"{path} was written by a newer stg_lab (format {ds.attrs[mark]}, this one reads {newest})."
        )
    counted = frozenset(due(ds))
    _all_there(path, counted)
    return guarded(ds, path, store, counted)


def _all_there(path: Path, chunks: Iterable[str]) -> None:
    """Files that the writer counted must be there; a missing one would read as NaN, silently."""
    gone = next((chunk for chunk in sorted(chunks) if not (path / chunk).exists()), None)
    if gone is not None:
        raise RecordingError(f"{path} is damaged: the data of {gone} is gone.")
