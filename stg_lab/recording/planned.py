"""What is said of an array of a zarr store: `zarr.json` and the names of its chunks."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

#: Level of the zstd codec that every array is written with; zarr's own default, said so that it stays.
LEVEL = 0
TEXT = "string"
KINDS = (
    "bool",
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    "float16",
    "float32",
    "float64",
)
#: Most bytes that the texts of a chunk may unpack to.
MOST_TEXT = 2**26


@dataclass(frozen=True)
class Planned:
    """An array of a store, as it is to be or as it is.

    Attributes:
        dims: name of each dimension.
        shape: of the whole array.
        chunks: of a chunk; the whole array where nothing is said.
        dtype: of numbers; "string" for texts.
        fill: what a chunk that was never written reads as.
        values: what to write at once, as one chunk.
        coordinate: whether xarray is to take it for a coordinate, which arrays named like their dimension are anyway.
        separator: between the numbers in the name of a chunk's file: "." for one folder of files, "/" for a tree.
    """

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    chunks: tuple[int, ...] | None = None
    fill: Any = 0
    values: np.ndarray | None = None
    coordinate: bool = False
    separator: str = "."

    @classmethod
    def of(cls, dims: str | tuple[str, ...], values: Any, *, coordinate: bool = True) -> Planned:
        """An array whose values are known."""
        array = np.asarray(values)
        texts = array.dtype.kind in "OU"
        dims = (dims,) if isinstance(dims, str) else dims
        dtype, fill = (TEXT, "") if texts else (array.dtype.name, 0)
        return cls(dims, array.shape, dtype, fill=fill, values=array, coordinate=coordinate)

    @classmethod
    def read(cls, document: Any) -> Self:
        """From what zarr writes about an array.

        Raises:
            ValueError, TypeError, KeyError: it is no array, or one that the lab does not write.
        """
        dims, shape, dtype = document["dimension_names"], document["shape"], document["data_type"]
        chunks = document["chunk_grid"]["configuration"]["chunk_shape"]
        whole = all(type(n) is int and n >= 0 for n in (*shape, *chunks)) and 0 not in chunks
        names = all(isinstance(name, str) for name in dims) and len(set(dims)) == len(dims)
        codecs = ["vlen-utf8" if dtype == TEXT else "bytes", "zstd"]
        if (
            not whole
            or not names
            or not len(dims) == len(shape) == len(chunks)
            or dtype not in (*KINDS, TEXT)
            or [codec["name"] for codec in document["codecs"]] != codecs
            or document["codecs"][0].get("configuration", {}).get("endian", "little") != "little"
        ):
            raise ValueError("it is no array that the lab writes")
        encoding = document["chunk_key_encoding"].get("configuration", {}).get("separator", "/")
        fill = document["fill_value"]
        fill = float("nan") if fill == "NaN" else fill
        return cls(tuple(dims), tuple(shape), dtype, tuple(chunks), fill, separator=encoding)

    def document(self) -> dict[str, Any]:
        """What zarr writes about it."""
        first: dict[str, Any] = {"name": "vlen-utf8"}
        if self.dtype != TEXT:
            first = {"name": "bytes", "configuration": {"endian": "little"}}
        return {
            "zarr_format": 3,
            "node_type": "array",
            "shape": list(self.shape),
            "data_type": self.dtype,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(self.chunk)}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": self.separator}},
            "fill_value": "NaN" if isinstance(self.fill, float) and np.isnan(self.fill) else self.fill,
            "codecs": [first, {"name": "zstd", "configuration": {"level": LEVEL, "checksum": False}}],
            "attributes": {},
            "dimension_names": list(self.dims),
        }

    @property
    def chunk(self) -> tuple[int, ...]:
        """Shape of a chunk."""
        return tuple(max(size, 1) for size in (self.shape if self.chunks is None else self.chunks))

    @property
    def grid(self) -> tuple[int, ...]:
        """How many chunks there are along each dimension."""
        return tuple(-(-size // chunk) for size, chunk in zip(self.shape, self.chunk, strict=True))

    @property
    def one_chunk(self) -> bool:
        """Whether all of it lies in one file."""
        return math.prod(self.grid) == 1

    @property
    def numpy(self) -> np.dtype:
        """The dtype of its values in memory."""
        return np.dtype(object) if self.dtype == TEXT else np.dtype(self.dtype)

    @property
    def most_bytes(self) -> int:
        """The largest that the file of a chunk can be: zstd adds a little to what it cannot shrink."""
        raw = MOST_TEXT if self.dtype == TEXT else math.prod(self.chunk) * self.numpy.itemsize
        return raw + raw // 128 + 1024

    def key(self, *index: int) -> str:
        """Name of a chunk's file in the folder of the array; arguments as for `ChunkFiles.write`."""
        rest = (0,) * (len(self.shape) - len(index))
        return self.separator.join(["c", *map(str, (*index, *rest))])

    def has(self, key: str) -> bool:
        """Whether it has a chunk whose file has this name."""
        index = [int(number) for number in re.findall(r"\d+", key)]
        inside = len(index) == len(self.shape) and all(i < count for i, count in zip(index, self.grid, strict=True))
        return inside and key == self.key(*index)

    def keys(self) -> Iterator[str]:
        """Names of the files of all chunks."""
        return (self.key(*index) for index in itertools.product(*map(range, self.grid)))
