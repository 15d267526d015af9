"""Laying out zarr stores and writing their chunks straight to files, which zarr and xarray read like any others."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

#: Level of the zstd codec that every array is written with; zarr's own default, said so that it stays.
LEVEL = 0


@dataclass(frozen=True)
class Planned:
    """An array of a store that is to be.

    Attributes:
        dims: name of each dimension.
        shape: of the whole array.
        chunks: of a chunk; the whole array where nothing is said.
        dtype: of numbers; "string" for texts.
        fill: what a chunk that was never written reads as.
        values: what to write at once, as one chunk.
        coordinate: whether xarray is to take it for a coordinate, which arrays named like their dimension are anyway.
    """

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    chunks: tuple[int, ...] | None = None
    fill: Any = 0
    values: np.ndarray | None = None
    coordinate: bool = False

    @classmethod
    def of(cls, dims: str | tuple[str, ...], values: Any, *, coordinate: bool = True) -> Planned:
        """An array whose values are known."""
        array = np.asarray(values)
        texts = array.dtype.kind in "OU"
        dims = (dims,) if isinstance(dims, str) else dims
        dtype, fill = ("string", "") if texts else (array.dtype.name, 0)
        return cls(dims, array.shape, dtype, fill=fill, values=array, coordinate=coordinate)

    def metadata(self) -> Any:
        """What zarr writes about it."""
        from zarr.core.metadata.v3 import ArrayV3Metadata

        texts = self.dtype == "string"
        first: dict[str, Any] = {"name": "vlen-utf8"}
        if not texts:
            first = {"name": "bytes", "configuration": {"endian": "little"}}
        chunks = self.shape if self.chunks is None else self.chunks
        return ArrayV3Metadata.from_dict(
            {
                "zarr_format": 3,
                "node_type": "array",
                "shape": self.shape,
                "data_type": self.dtype,
                "chunk_grid": {
                    "name": "regular",
                    "configuration": {"chunk_shape": tuple(max(size, 1) for size in chunks)},
                },
                # One file a chunk, without a tree of folders.
                "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
                "fill_value": "NaN" if isinstance(self.fill, float) and np.isnan(self.fill) else self.fill,
                "codecs": [first, {"name": "zstd", "configuration": {"level": LEVEL, "checksum": False}}],
                "attributes": {},
                "dimension_names": self.dims,
            }
        )


def lay_out(path: Path, arrays: Mapping[str, Planned], attributes: Mapping[str, Any]) -> dict[str, ChunkFiles]:
    """Make a store, with the values that are known, and give what writes the others.

    `xarray.Dataset.to_zarr` makes the same store in 0.1 s, of which a short run feels every one; this takes a tenth.

    Raises:
        OSError: the place cannot be written.
    """
    import zarr
    from zarr.core.group import GroupMetadata
    from zarr.storage import LocalStore

    coordinates = " ".join(name for name, plan in arrays.items() if plan.coordinate and (name,) != plan.dims)
    path.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr's notes on strings in the v3 format: both ends are ours
        metadata = {name: plan.metadata() for name, plan in arrays.items()}
        root = GroupMetadata(attributes={"coordinates": coordinates, **attributes})
        dict(zarr.create_hierarchy(store=LocalStore(path), nodes={"": root, **metadata}))
        files = {name: ChunkFiles(about, path / name) for name, about in metadata.items()}
    for name, plan in arrays.items():
        if plan.values is not None and plan.values.size:
            files[name].write(plan.values)
    return files


def chunk_files(path: Path) -> dict[str, ChunkFiles]:
    """What writes the arrays of a store that is there."""
    import zarr

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as above
        group = zarr.open_group(path, mode="r+", use_consolidated=False)
        return {name: ChunkFiles(array.metadata, path / name) for name, array in group.arrays()}


class ChunkFiles:
    """Writes whole chunks of one array of a store.

    Assigning to the zarr array does the same, but spends 0.9 ms of Python on a chunk of any size: 12 ms for the fourteen
    chunks of a small step, during which a sampler in another thread waits for the interpreter. This way it is 2 ms. Chunks
    of nothing but the fill value are written too, so that a missing one means damage.

    Args:
        metadata: zarr's, of a v3 array of numbers or texts whose codecs are those of `Planned`.
        folder: where the array lies.
    """

    def __init__(self, metadata: Any, folder: Path) -> None:
        from numcodecs.vlen import VLenUTF8
        from numcodecs.zstd import Zstd

        self.name, self._folder = folder.name, folder
        self._shape = tuple(metadata.chunk_grid.chunk_shape)
        self._key = metadata.encode_chunk_key
        dtype = metadata.data_type.to_native_dtype()
        self._texts = dtype.kind not in "biuf"
        self._dtype = np.dtype(object) if self._texts else dtype.newbyteorder("<")
        self._text = VLenUTF8().encode
        self._encode = Zstd(level=LEVEL).encode

    def moved(self, store: Path) -> None:
        """The store lies somewhere else now."""
        self._folder = store / self.name

    def write(self, values: Any, *index: int) -> None:
        """Write one chunk, whole or not at all: whoever reads meanwhile, or after a crash, finds the old one or the new.

        Args:
            values: what broadcasts to the chunk's shape.
            index: which chunk, in units of chunks along the leading dimensions; 0 along the others.

        Raises:
            OSError: the disk is full or gone.
        """
        chunk = np.ascontiguousarray(np.broadcast_to(np.asarray(values, self._dtype), self._shape))
        data = self._encode(self._text(chunk) if self._texts else chunk)
        rest = (0,) * (len(self._shape) - len(index))
        file = self._folder / self._key((*index, *rest))
        partial = file.with_name(file.name + ".partial")
        partial.write_bytes(data)
        os.replace(partial, file)
