"""Chunks of the arrays of a zarr store, written and read as files.

What lies on disk is plain zarr v3, which zarr and xarray read like any other store. The lab writes and reads the files itself: a
chunk costs a fifth of the time, its checksum is tested against its name, nothing is unpacked that is larger than what is
declared, and no thread is needed, so that it also works in a forked child.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numcodecs.vlen import VLenUTF8
from numcodecs.zstd import Zstd

from stg_lab.recording.documents import array_sums, put, read_documents, write_array, write_root
from stg_lab.recording.layout import ID
from stg_lab.recording.planned import LEVEL, MOST_TEXT, TEXT, Planned
from stg_lab.recording.seal import seal, unsealed


class ChunkFiles:
    """Writes and reads whole chunks of one array of a store.

    Chunks of nothing but the fill value are written too, so that a missing one means damage.

    Args:
        plan: what is said of the array.
        folder: where the array lies.
        owner: id of the store, which every checksum is bound to; "" for one from before there were checksums.
    """

    def __init__(self, plan: Planned, folder: Path, owner: str = "") -> None:
        self.name, self.plan, self.owner = folder.name, plan, owner
        self._folder = folder
        self._texts = plan.dtype == TEXT
        self._dtype = plan.numpy if self._texts else plan.numpy.newbyteorder("<")
        self._text, zstd = VLenUTF8().encode, Zstd(level=LEVEL)
        self._encode, self._decode = zstd.encode, zstd.decode

    def moved(self, store: Path) -> None:
        """The store lies somewhere else now."""
        self._folder = store / self.name

    def write(self, values: Any, *index: int) -> None:
        """Write one chunk, whole or not at all.

        Args:
            values: what broadcasts to the chunk's shape.
            index: which chunk, in units of chunks along the leading dimensions; 0 along the others.

        Raises:
            OSError: the disk is full or gone.
        """
        chunk = np.ascontiguousarray(np.broadcast_to(np.asarray(values, self._dtype), self.plan.chunk))
        if self._texts:  # of whatever kind of str: numpy has one of its own
            chunk = self._text(np.array([str(one) for one in chunk.flat], object))
        data = self._encode(chunk)
        key = self.plan.key(*index)
        put(self._folder / key, data, seal(data, f"{self.name}/{key}", self.owner) if self.owner else b"")

    def read(self, *index: int) -> np.ndarray:
        """One chunk, which is larger than the array where that ends within it; arguments as for `write`.

        Raises:
            FileNotFoundError: it was never written, or is gone.
            OSError: it cannot be read.
            ValueError, RuntimeError: it is not what was written there.
        """
        key = self.plan.key(*index)
        with open(self._folder / key, "rb") as file:
            data = file.read(self.plan.most_bytes + 1)
        if len(data) > self.plan.most_bytes:
            raise ValueError("it is larger than the array allows")
        if self.owner:
            data = unsealed(data, f"{self.name}/{key}", self.owner)
        size, expected = _unpacked_size(data), math.prod(self.plan.chunk) * self._dtype.itemsize
        if size > MOST_TEXT if self._texts else size != expected:
            raise ValueError(f"it would unpack to {size} bytes, not to what the array allows")
        raw = self._decode(data)
        if self._texts:
            return _texts(bytes(raw), math.prod(self.plan.chunk)).reshape(self.plan.chunk)
        return np.frombuffer(raw, self._dtype).astype(self.plan.numpy, copy=False).reshape(self.plan.chunk)


def _unpacked_size(frame: bytes) -> int:
    """How much a frame of zstd says it unpacks to (RFC 8878, section 3.1.1.1).

    Raises:
        ValueError: it is none, or does not say.
    """
    if frame[:4] != b"\x28\xb5\x2f\xfd" or len(frame) < 6:
        raise ValueError("it is no frame of zstd")
    flag, single, names = frame[4] >> 6, frame[4] >> 5 & 1, (0, 1, 2, 4)[frame[4] & 3]
    begin, length = 5 + (not single) + names, (single, 2, 4, 8)[flag]
    if not length or len(frame) < begin + length:
        raise ValueError("it does not say its size")
    return int.from_bytes(frame[begin : begin + length], "little") + (256 if length == 2 else 0)


def _texts(raw: bytes, count: int) -> np.ndarray:
    """What `VLenUTF8` wrote; its own reader takes the count from the file, and memory for as many.

    Raises:
        ValueError: it is cut short, or not of this count.
    """
    found, at = np.empty(count, object), 4
    if int.from_bytes(raw[:4], "little") != count:
        raise ValueError(f"it does not hold {count} texts")
    for i in range(count):
        size = int.from_bytes(raw[at : at + 4], "little")
        found[i], at = raw[at + 4 : at + 4 + size].decode(), at + 4 + size
    if at != len(raw):
        raise ValueError("its texts are cut short")
    return found


def lay_out(path: Path, arrays: Mapping[str, Planned], attributes: Mapping[str, Any]) -> dict[str, ChunkFiles]:
    """Make a store, with the values that are known, and give what writes the others.

    The root's document comes last: a store that has one is laid out to its end.

    Args:
        attributes: of the root. With an id among them (`layout.ID`) everything gets its checksum.

    Raises:
        OSError: the place cannot be written.
    """
    beside = " ".join(name for name, plan in arrays.items() if plan.coordinate and (name,) != plan.dims)
    path.mkdir(parents=True, exist_ok=True)
    files, sums = _add(path, arrays, str(attributes.get(ID, "")))
    write_root(path, {"coordinates": beside, **attributes}, sums)
    return files


def chunk_files(path: Path, mark: str, newest: int) -> dict[str, ChunkFiles]:
    """What writes and reads the arrays of a store that is there; arguments and errors as for `read_documents`."""
    found = read_documents(path, mark, newest)
    return {name: ChunkFiles(plan, path / name, found.owner) for name, plan in found.arrays.items()}


def replace_arrays(path: Path, prefix: str, arrays: Mapping[str, Planned], mark: str, newest: int) -> None:
    """Put arrays into a store that is there, in place of those whose names begin with `prefix`.

    The root's document first lists none of them, and at the end all: whoever opens the store meanwhile, or after a kill, finds
    all or none.

    Raises:
        OSError: the place cannot be written.
    """
    found, sums = read_documents(path, mark, newest), array_sums(path)
    others = {name: value for name, value in sums.items() if not name.startswith(prefix)}
    if others != sums:
        write_root(path, found.attributes, others)
    for name in found.arrays:
        if name.startswith(prefix):
            shutil.rmtree(path / name)
    _, added = _add(path, arrays, found.owner)
    if found.owner:
        write_root(path, found.attributes, others | added)


def _add(path: Path, arrays: Mapping[str, Planned], owner: str) -> tuple[dict[str, ChunkFiles], dict[str, int]]:
    """Arrays with the values that are known, and the checksums of their documents."""
    files, sums = {}, {}
    for name, plan in arrays.items():
        (path / name).mkdir(exist_ok=True)
        files[name] = ChunkFiles(plan, path / name, owner)
        if plan.values is not None and plan.values.size:
            files[name].write(plan.values)
        sums[name] = write_array(path / name, plan, owner)  # last: what has a document has its values
    return files, sums
