"""Arrays that are read when asked for, and that say so where their data is not there any more, or not what was written.

To zarr a chunk file that is missing is a chunk of nothing but the fill value. A recording that was moved, deleted or replaced
while it is open would read as zeros or NaN, without a word. Here it is an error.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import sys
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from xarray.backends import BackendArray
from xarray.core import indexing

from stg_lab.errors import RecordingError
from stg_lab.recording.chunks import ChunkFiles
from stg_lab.recording.layout import ID, LATENT_DIMS
from stg_lab.recording.planned import Planned

if TYPE_CHECKING:
    import xarray as xr


class Place:
    """A folder that was opened, and whether it is still there and still the same one.

    Args:
        path: of the folder, absolute.
        made: the id that its maker gave it; None for those from before there were any.
        keep: lives as long as anything that is read from there.
    """

    def __init__(self, path: Path, made: str | None, keep: Any = None) -> None:
        self.path, self._made, self._keep = path, made, keep
        self._seen: tuple[int, ...] = ()

    def check(self) -> None:
        """Raise `RecordingError` where the folder is gone, or another run has taken its place."""
        root = self.path / "zarr.json"
        try:
            about = os.stat(root)
            seen = (about.st_ino, about.st_mtime_ns, about.st_size)
            if seen == self._seen:
                return
            now = json.loads(root.read_text())["attributes"].get(ID)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RecordingError(
                f"{self.path} is gone: it was moved, deleted or broken after it was opened. Put it back, or open it where it is "
                "now: lab.open('new/place.zarr'). A temporary one (record=True) goes with its process; to keep one, record it "
                "with record='some/folder.zarr'."
            ) from error
        if now != self._made:
            raise RecordingError(
                f"{self.path} was replaced by a later run after it was opened, so what was there cannot be read any more. Open "
                f"the later one with lab.open({str(self.path)!r}); to keep both, give each its own name with record=."
            )
        self._seen = seen


class Lazy(BackendArray):
    """One array of a store; whatever cannot be read is a `RecordingError` that names its file.

    Args:
        files: of its chunks.
        place: the folder of the store.
        due: names of the files that must be there, in the array's own folder; others may be missing and read as the fill value.
    """

    def __init__(self, files: ChunkFiles, place: Place, due: Collection[str]) -> None:
        self.shape, self.dtype = files.plan.shape, files.plan.numpy
        self._files, self._place, self._due = files, place, due

    def __getitem__(self, key: Any) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple) -> Any:
        wanted = [np.atleast_1d(np.arange(size)[part]) for part, size in zip(key, self.shape, strict=True)]
        values = np.full([len(along) for along in wanted], self._files.plan.fill, self.dtype)
        chunks = [_by_chunk(along, size) for along, size in zip(wanted, self._files.plan.chunk, strict=True)]
        for parts in itertools.product(*chunks):
            found = self._chunk(tuple(number for number, _, _ in parts))
            if found is not None:
                values[_outer([to for _, to, _ in parts])] = found[_outer([at for _, _, at in parts])]
        # Only now: what was there before may have gone while it was read.
        self._place.check()
        return values[tuple(0 if np.ndim(part) == 0 and not isinstance(part, slice) else slice(None) for part in key)]

    def small(self) -> np.ndarray:
        """All numbers of an array of one chunk, or of none."""
        found = self._chunk((0,) * len(self.shape)) if math.prod(self.shape) else None
        if found is None:
            return np.full(self.shape, self._files.plan.fill, self.dtype)
        return found[tuple(map(slice, self.shape))].copy()

    def _chunk(self, index: tuple[int, ...]) -> np.ndarray | None:
        """The numbers of a chunk; None where it was never written."""
        key = self._files.plan.key(*index)
        what = f"{self._files.name}/{key}{self._where(index)}"
        try:
            return self._files.read(*index)
        except FileNotFoundError:
            self._place.check()
            if key in self._due:
                raise RecordingError(f"{self._place.path} is damaged: the data of {what} is gone.") from None
            return None
        except Exception as error:  # each codec has its own kinds for a file that was cut short
            self._place.check()
            others = " What lies in other files can." if len(self.shape) > 1 else ""  # small ones are read at once
            raise RecordingError(
                f"{self._place.path} is damaged: {what} cannot be read ({type(error).__name__}: {error}).{others}"
            ) from error

    def _where(self, index: tuple[int, ...]) -> str:
        """Which step (and branch, layer, ...) a chunk holds, in brackets."""
        plan = self._files.plan
        told = [
            f"{dim} {i}"
            for dim, i, size, chunk in zip(plan.dims, index, self.shape, plan.chunk, strict=True)
            if chunk < size or (dim == "step" and chunk == 1)
        ]
        return f" ({', '.join(told)})" if told else ""


Span = slice | np.ndarray


def _by_chunk(wanted: np.ndarray, size: int) -> list[tuple[int, Span, Span]]:
    """Positions along a dimension, chunk by chunk: its number, where they go in the result, and where they lie in the chunk."""
    found = []
    for number in np.unique(wanted // size):
        to = np.flatnonzero(wanted // size == number)
        found.append((int(number), _span(to), _span(wanted[to] - number * size)))
    return found


def _span(at: np.ndarray) -> Span:
    """Positions as a slice where they follow each other, which numpy reads several times faster."""
    begin = int(at[0])
    return slice(begin, begin + len(at)) if (np.diff(at) == 1).all() else at


def _outer(spans: list[Span]) -> tuple[Any, ...]:
    """An index that takes every combination of positions."""
    if all(isinstance(span, slice) for span in spans):
        return tuple(spans)
    return np.ix_(*(np.arange(s.start, s.stop) if isinstance(s, slice) else s for s in spans))


def variable(files: ChunkFiles, place: Place, due: Collection[str]) -> xr.Variable:
    """An array of a store for xarray: texts and what is one file without latents is read now; arguments as for `Lazy`."""
    import xarray as xr

    lazy = Lazy(files, place, due)
    data = lazy.small() if at_once(files.plan) else indexing.LazilyIndexedArray(lazy)
    return xr.Variable(files.plan.dims, data)


def at_once(plan: Planned) -> bool:
    """Whether an array is read when its store is opened."""
    return (plan.one_chunk and plan.dims[-len(LATENT_DIMS) :] != LATENT_DIMS) or not math.prod(plan.shape)


def _alone() -> None:
    """In a forked child dask works in the thread that asks: its pool of threads, or its cluster, stayed with the parent, and to
    wait for it would be to wait for ever."""
    if "dask.config" in sys.modules:
        sys.modules["dask.config"].config["scheduler"] = "synchronous"


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_alone)
