"""Opening a folder of the lab's arrays: what it is, what keeps it alive, and what is said where it is damaged."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stg_lab.errors import RecordingError
from stg_lab.recording.chunks import ChunkFiles
from stg_lab.recording.documents import read_documents
from stg_lab.recording.layout import ID, MARK, PREVIEW, SWEEP_MARK

if TYPE_CHECKING:
    import xarray as xr


#: What opens a folder, by the root attribute that says what it is.
OPENS = {MARK: "lab.open", SWEEP_MARK: "lab.open_ablation"}


class IncompleteRecordingWarning(UserWarning):
    """The run behind a recording or an ablation was cut off; what is whole is there."""


def has_mark(path: Path, mark: str) -> bool:
    """Whether a folder is a zarr group with this root attribute."""
    try:
        return mark in json.loads((path / "zarr.json").read_text())["attributes"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
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
    path: Path, keep: Any, *, mark: str, newest: int, due: Callable[[xr.Dataset], Iterable[tuple[str, str]]]
) -> tuple[xr.Dataset, bool]:
    """The arrays in a folder as they are, without dask: small ones read, the others lazy.

    Args:
        keep: lives as long as any array read from here.
        newest: the highest format that the caller can read.
        due: the files that the writer counted, such as ("x_t", "c.0.0"), from the arrays. One that is missing is an error now,
            and when it goes missing later and is read. Arrays of one file that are no latents are due in any case.

    Returns:
        The arrays, and whether each of them carries checksums.

    Raises:
        RecordingError: a newer version wrote them, or a file that is due is gone or not what was written there.
    """
    import xarray as xr

    from stg_lab.recording.lazy import Place, at_once, variable

    found = read_documents(path, mark, newest)
    attributes, at = found.attributes, Place(path, found.attributes.get(ID), keep)
    counted: dict[str, set[str]] = {}
    variables = {}
    for name, plan in found.arrays.items():
        if name.startswith(PREVIEW) and not found.owner and not (path / name / plan.key()).exists():
            continue  # of a preview that was cut off while it was written
        # Stores from before there were ids leave out chunks of nothing but the fill value.
        counted[name] = set(plan.keys()) if ID in attributes and at_once(plan) else set()
        variables[name] = variable(ChunkFiles(plan, path / name, found.owner), at, counted[name])
    coordinates = attributes.pop("coordinates", "").split()
    ds = xr.Dataset(variables, attrs=attributes).set_coords([name for name in coordinates if name in variables])
    for array, key in due(ds):
        counted[array].add(key)
    _all_there(path, counted)
    return ds, bool(found.owner)


def _all_there(path: Path, counted: Mapping[str, set[str]]) -> None:
    """Files that the writer counted must be there; a missing one would read as NaN, silently."""
    for array, keys in sorted(counted.items()):
        there = set(os.listdir(path / array))
        gone = next((key for key in sorted(keys - there) if not (path / array / key).exists()), None)
        if gone is not None:
            raise RecordingError(f"{path} is damaged: the data of {array}/{gone} is gone.")
