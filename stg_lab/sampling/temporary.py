"""Where recordings go that nobody named a place for."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path

from stg_lab.recording import BackgroundRecorder, Recorder


class TemporaryFolder:
    """A folder that goes when nothing refers to this object any more, unless it is told to stay."""

    def __init__(self) -> None:
        self.path = tempfile.mkdtemp(prefix="stg_lab-")
        self._remove = weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)

    def keep(self) -> None:
        """Leave the folder where it is."""
        self._remove.detach()


def make_recorder(
    record: bool | str | Path, dtype: str, overwrite: bool
) -> tuple[BackgroundRecorder | None, TemporaryFolder | None]:
    """A recorder for what the user said with `record`, and the temporary folder that must outlive it, if any."""
    if record is False or record is None:
        return None, None
    if record is True:
        folder = TemporaryFolder()
        return BackgroundRecorder(Recorder(Path(folder.path) / "run.zarr", dtype=dtype)), folder
    return BackgroundRecorder(Recorder(record, dtype=dtype, overwrite=overwrite)), None


def place_of(record: bool | str | Path) -> Path | None:
    """Where a recording will go, or the folder that it will go into; None for none."""
    if record is False or record is None:
        return None
    return Path(tempfile.gettempdir()) if record is True else Path(record)
