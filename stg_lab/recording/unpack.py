"""Unpacking a recording from a file that may come from anywhere."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from stg_lab.errors import RecordingError
from stg_lab.recording.documents import MOST, ROOT
from stg_lab.recording.layout import is_ours
from stg_lab.recording.planned import Planned

#: A chunk is compressed already, so that packing gains little: no entry unpacks to more than so many times its size, and a bit.
MOST_RATIO, A_BIT = 64, 2**20


def unpack(file: Path, folder: Path) -> None:
    """Unpack a zip of a store into a folder: its own files alone, each no larger than the array that it belongs to declares.

    Raises:
        RecordingError: the file is damaged, or would unpack to more.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)  # also for a zip of something else, which `opening` then tells
        with zipfile.ZipFile(file) as packed:
            for entry in _parts(packed):
                place = folder / entry.filename
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(packed.read(entry))
    except (
        Exception
    ) as error:  # zipfile and its codecs raise many kinds for damage: RuntimeError, zlib.error, OSError ...
        raise RecordingError(f"{file} is damaged and cannot be unpacked: {error or type(error).__name__}.") from None


def _parts(packed: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The documents, and the chunks of the arrays that they declare.

    Raises:
        ValueError: there are two of a name, or one is too large.
    """
    ours = [entry for entry in packed.infolist() if is_ours(entry.filename)]
    if len({entry.filename for entry in ours}) < len(ours):
        raise ValueError("two of its entries have the same name")
    documents = {entry.filename: entry for entry in ours if entry.filename.endswith(ROOT)}
    for entry in documents.values():
        _check_size(entry, MOST)
    arrays = {
        name.removesuffix(f"/{ROOT}"): Planned.read(json.loads(packed.read(entry)))
        for name, entry in documents.items()
        if name != ROOT
    }
    chunks = [entry for entry in ours if entry.filename not in documents and entry.filename.partition("/")[0] in arrays]
    for entry in chunks:
        array, _, key = entry.filename.partition("/")
        if not arrays[array].has(key):
            raise ValueError(f"{entry.filename} lies outside of the array")
        _check_size(entry, arrays[array].most_bytes)
    return [*documents.values(), *chunks]


def _check_size(entry: zipfile.ZipInfo, most: int) -> None:
    if entry.file_size > min(most, MOST_RATIO * entry.compress_size + A_BIT):
        raise ValueError(f"{entry.filename} would unpack to {entry.file_size} bytes, more than it may have")
