"""Arrays that are read when asked for, and that say so where their data is not there any more.

To zarr a chunk file that is missing is a chunk of nothing but the fill value. A recording that was moved, deleted or replaced
while it is open would read as zeros or NaN, without a word. Here it is an error.
"""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from xarray.backends import BackendArray
from xarray.core import indexing

from stg_lab.errors import RecordingError
from stg_lab.recording.layout import ID

if TYPE_CHECKING:
    import xarray as xr


class Place:
    """A folder that was opened, and whether it is still there and still the same one.

    Args:
        path: of the folder, absolute.
        made: the id that its maker gave it; None for those from before there were any.
    """

    def __init__(self, path: Path, made: str | None) -> None:
        self.path, self._made = path, made
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
    """One array of numbers in a folder; whatever cannot be read is a `RecordingError` that names its file.

    Args:
        array: zarr's.
        place: the folder of the store.
        due: names of the files that must be there, relative to the folder; others may be missing and read as the fill value.
    """

    def __init__(self, array: Any, place: Place, due: frozenset[str]) -> None:
        self.shape, self.dtype = array.shape, array.dtype
        self._array, self._place, self._due = array, place, due

    def __getitem__(self, key: Any) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple) -> Any:
        chunks = self._touched(key)
        try:
            values = self._array.oindex[key]
        except Exception as error:  # each codec has its own kinds for a file that was cut short
            self._place.check()
            self._raise_damaged(chunks, error)
        # Only now: what was there before may have gone while it was read.
        self._place.check()
        for index in chunks:
            file = self._file(index)
            if file in self._due and not (self._place.path / file).exists():
                raise RecordingError(f"{self._place.path} is damaged: the data of {file}{self._where(index)} is gone.")
        return values

    def _touched(self, key: tuple) -> list[tuple[int, ...]]:
        """Indices of the chunks that a key reads from."""
        along = [
            np.unique(np.atleast_1d(np.arange(size)[part]) // chunk)
            for part, size, chunk in zip(key, self.shape, self._array.chunks, strict=True)
        ]
        return [tuple(map(int, index)) for index in itertools.product(*along)]

    def _file(self, index: tuple[int, ...]) -> str:
        return f"{self._array.basename}/{self._array.metadata.encode_chunk_key(index)}"

    def _where(self, index: tuple[int, ...]) -> str:
        """Which step (and branch, layer, ...) a chunk holds, in brackets."""
        dims = self._array.metadata.dimension_names
        told = [
            f"{dim} {i}"
            for dim, i, size, chunk in zip(dims, index, self.shape, self._array.chunks, strict=True)
            if chunk < size or dim == "step"
        ]
        return f" ({', '.join(told)})" if told else ""

    def _raise_damaged(self, chunks: list[tuple[int, ...]], error: Exception) -> None:
        """Say which file it is: the first that cannot be read by itself."""
        for index in chunks:
            try:
                self._array.blocks[index]
            except Exception as found:
                others = " What lies in other files can." if len(self.shape) > 1 else ""  # small ones are read at once
                raise RecordingError(
                    f"{self._place.path} is damaged: {self._file(index)}{self._where(index)} cannot be read "
                    f"({type(found).__name__}: {found}).{others}"
                ) from found
        raise RecordingError(f"{self._place.path} cannot be read: {type(error).__name__}: {error}.") from error


def guarded(ds: xr.Dataset, path: Path, store: Any, due: frozenset[str]) -> xr.Dataset:
    """A dataset that was opened from a store, its numbers read as `Lazy` does it; what is an index already stays.

    Args:
        path: the folder of the store.
        store: zarr's.
        due: as for `Lazy`, of all arrays.
    """
    import xarray as xr
    import zarr

    group = zarr.open_group(store, mode="r", use_consolidated=False)
    place = Place(path, ds.attrs.get(ID))
    found = {}
    for name, variable in ds.variables.items():
        if name in ds.indexes or variable.dtype.kind not in "biuf":
            continue
        data = indexing.LazilyIndexedArray(Lazy(group[str(name)], place, due))
        found[name] = xr.Variable(variable.dims, data, variable.attrs, variable.encoding)
    return ds.assign(found)
