"""The documents of a store, `zarr.json` of the root and of each array, with their checksums."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stg_lab.errors import RecordingError
from stg_lab.recording.layout import CHECKED, CHECKSUMS, ID
from stg_lab.recording.planned import Planned
from stg_lab.recording.seal import checksum

ROOT = "zarr.json"
#: Most bytes of a document; settings may hold small pictures.
MOST = 2**26


@dataclass(frozen=True)
class Documents:
    """What a store says of itself.

    Attributes:
        attributes: of the root, without the checksums.
        arrays: by name.
        owner: id that every checksum is bound to; "" for a store from before there were checksums.
    """

    attributes: dict[str, Any]
    arrays: dict[str, Planned]
    owner: str


def put(file: Path, *parts: bytes) -> None:
    """Write a file, whole or not at all: whoever reads meanwhile, or after a kill, finds the old one or the new.

    Raises:
        OSError: the disk is full or gone.
    """
    partial = file.with_name(file.name + ".partial")
    with partial.open("wb") as opened:
        for part in parts:
            opened.write(part)
    os.replace(partial, file)


def write_array(folder: Path, plan: Planned, owner: str) -> int:
    """Write the document of one array into its folder, and give its checksum."""
    data = json.dumps(plan.document()).encode()
    put(folder / ROOT, data)
    return checksum(data, f"{folder.name}/{ROOT}", owner)


def write_root(path: Path, attributes: Mapping[str, Any], sums: Mapping[str, int]) -> None:
    """Write the root's document: all that a store holds is what this one lists.

    Args:
        sums: checksum of each array's document, by array; nothing of them is kept where there is no id among the attributes.
    """
    document: dict[str, Any] = {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes)}
    if ID in attributes:
        own = {f"{name}/{ROOT}": value for name, value in sums.items()}
        document["attributes"][CHECKSUMS] = {**own, ROOT: _root_sum(document, own)}
    put(path / ROOT, json.dumps(document, indent=1).encode())


def array_sums(path: Path) -> dict[str, int]:
    """Checksum of each array's document as the root lists them, by array; empty for a store without."""
    kept = _json(path / ROOT)["attributes"].get(CHECKSUMS, {})
    return {name.removesuffix(f"/{ROOT}"): value for name, value in kept.items() if name != ROOT}


def read_documents(path: Path, mark: str, newest: int) -> Documents:
    """The documents of a store, tested.

    Args:
        mark: the root attribute that holds its format.
        newest: the highest format that the caller can read.

    Raises:
        RecordingError: a newer version wrote it, or a document is gone or not what was written.
        ValueError, TypeError, KeyError: the root is no document of a store.
    """
    document = _json(path / ROOT)
    attributes = dict(document["attributes"])
    if attributes[mark] > newest:
        raise RecordingError(
            f"{path} was written by a newer stg_lab (format {attributes[mark]}, this one reads {newest})."
        )
    sums = attributes.pop(CHECKSUMS, None)
    if sums is None and attributes[mark] >= CHECKED[mark]:
        raise RecordingError(f"{path} is damaged: the checksums in {ROOT} are gone.")
    owner = "" if sums is None else str(attributes.get(ID))
    if sums is not None:
        own = {name: value for name, value in sums.items() if name != ROOT}
        if sums.get(ROOT) != _root_sum({**document, "attributes": attributes}, own):
            raise RecordingError(f"{path} is damaged: {ROOT} is not what was written there (its checksum differs).")
        names = [name.removesuffix(f"/{ROOT}") for name in own]
    else:
        names = sorted(file.parent.name for file in path.glob(f"*/{ROOT}"))
    arrays = {name: _array(path, name, owner, (sums or {}).get(f"{name}/{ROOT}")) for name in names}
    return Documents(attributes, arrays, owner)


def _array(path: Path, name: str, owner: str, expected: int | None) -> Planned:
    file = path / name / ROOT
    if not file.is_file():
        raise RecordingError(f"{path} is damaged: {name} is gone.")
    if expected is not None and checksum(file.read_bytes(), f"{name}/{ROOT}", owner) != expected:
        raise RecordingError(f"{path} is damaged: {name}/{ROOT} is not what was written there (its checksum differs).")
    try:
        return Planned.read(_json(file))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise RecordingError(f"{path} is damaged: {name}/{ROOT} cannot be read ({error}).") from error


def _root_sum(document: Mapping[str, Any], sums: Mapping[str, int]) -> int:
    """Checksum of the root's content, however it is spaced, and of the checksums of the others."""
    text = json.dumps([document, sums], sort_keys=True, separators=(",", ":"))
    return checksum(text.encode(), ROOT, str(document["attributes"].get(ID)))


def _json(file: Path) -> Any:
    if file.stat().st_size > MOST:
        raise ValueError(f"{file.name} is larger than {MOST} bytes")
    return json.loads(file.read_text(encoding="utf-8"))
