"""Claiming the place of a new store, before anything is computed."""

from __future__ import annotations

import json
import os
from pathlib import Path

from stg_lab.errors import RecordingError, RecordingExistsError
from stg_lab.recording.store import has_mark
from stg_lab.recording.successor import Successor, is_left_over, recover


def where(path: str | os.PathLike[str]) -> Path:
    """The folder that a path means, absolute; what a link points to where it is one.

    Raises:
        RecordingError: a link that leads nowhere but to itself.
    """
    place = Path(path).absolute()
    try:
        return place.resolve() if place.is_symlink() else place
    except (OSError, RuntimeError) as error:
        raise RecordingError(f"{place} is a link that leads back to itself. Choose another place.") from error


def claimed(path: Path, overwrite: bool, mark: str, kind: str) -> Successor:
    """Check the place of a new store, and hold what it replaces.

    Args:
        overwrite: whether an earlier store may be replaced.
        mark: the root attribute of such a store.
        kind: what it is, such as "a recording".

    Raises:
        RecordingExistsError: the place is taken, or another run is writing there.
        RecordingError: it cannot be made.
    """
    recover(path)
    if not path.exists():
        parent = next(p for p in path.parents if p.exists())
        if not parent.is_dir():
            raise RecordingError(f"{path} cannot be made: {parent} is a file, not a folder.")
        return Successor(path, replacing=False)
    if path.is_dir() and not any(path.iterdir()):
        return Successor(path, replacing=False)
    left_over = path.is_dir() and not _is_document(path / "zarr.json") and is_left_over(path)
    if not left_over and not has_mark(path, mark):
        raise RecordingExistsError(
            f"{path} exists and is not {kind} of the lab; it is left alone. Choose another name."
        )
    if not overwrite:
        what = f"what is left of {kind} that was cut off or damaged" if left_over else kind
        raise RecordingExistsError(
            f"{path} already holds {what}. Choose another name, or pass overwrite=True to replace it."
        )
    try:
        return Successor(path, replacing=True)
    except BlockingIOError:
        raise RecordingExistsError(
            f"another run is writing to {path} now. Wait until it is done, or choose another name."
        ) from None


def _is_document(file: Path) -> bool:
    """Whether a file says, as JSON, what a folder is."""
    try:
        return isinstance(json.loads(file.read_text()), dict)
    except (OSError, ValueError, RecursionError):
        return False
