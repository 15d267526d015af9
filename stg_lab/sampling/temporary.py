"""Where recordings go that nobody named a place for."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Self

from stg_lab.errors import RecordingError
from stg_lab.recording import BackgroundRecorder, Recorder
from stg_lab.recording.own_folder import OwnFolder
from stg_lab.recording.writer import known_dtype


class TemporaryFolder(OwnFolder):
    """A folder that goes when nothing refers to this object any more, unless it is told to stay.

    It is not pickled: what is read from the pickle, in another process or tomorrow, would point to a folder that is gone.
    """

    @property
    def path(self) -> str:
        return self.folder

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise RecordingError(
            f"this recording lies in a temporary folder, {self.path}, which goes with its process, so it cannot be pickled. "
            "Record to a place of its own, record='some/folder.zarr', or copy that folder; then pickle the recording of "
            "lab.open('some/folder.zarr'), or hand on its path."
        )

    def __copy__(self) -> Self:
        return self  # copies of a recording in the same process share the folder

    def __deepcopy__(self, memo: Any) -> Self:
        return self

    def keep(self) -> None:
        """Leave the folder where it is."""
        self._remove.detach()


def make_recorder(
    record: bool | str | Path, dtype: str, overwrite: bool
) -> tuple[BackgroundRecorder | None, TemporaryFolder | None]:
    """A recorder for what the user said with `record`, and the temporary folder that must outlive it, if any."""
    known_dtype(dtype)
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
