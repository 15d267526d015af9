"""Recordings as one file, to send and to ship: a zip of the folder, opened like the folder itself."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

from stg_lab.errors import RecordingError, RecordingExistsError, did_you_mean
from stg_lab.files import written
from stg_lab.given import Place, read, shown, takes
from stg_lab.recording.layout import is_ours
from stg_lab.recording.own_folder import OwnFolder
from stg_lab.recording.unpack import unpack
from stg_lab.shipped import data_folder

SUFFIX = ".zarr.zip"


class Unpacked(OwnFolder):
    """A packed recording's files in a temporary folder, which goes when nothing refers to this object any more.

    Raises:
        RecordingError: the file is damaged, or holds what no recording does.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.path = Path(self.folder) / file.name.removesuffix(".zip")
        unpack(file, self.path)


def recordings() -> list[str]:
    """Names of the recordings and sweeps that ship with the lab; each opens with `lab.open(name)` or `lab.open_ablation(name)`."""
    return sorted(file.name.removesuffix(SUFFIX) for file in data_folder("recordings").glob(f"*{SUFFIX}"))


def as_text(path: Any) -> str:
    """A path or name as text.

    Raises:
        RecordingError: it is neither.
    """
    if isinstance(path, str | os.PathLike):
        return os.fspath(path)
    hint = "Type for example lab.open('run.zarr')."
    if hasattr(path, "recording"):
        hint = "A Run has its recording at hand: run.recording."
    elif hasattr(path, "ds") or hasattr(path, "dims"):
        hint = "It is open already."
    raise RecordingError(
        f"what is opened is a folder, a packed file or a name that ships, got {type(path).__name__}: {shown(path)}. {hint}"
    )


def place(path: str | os.PathLike[str], keep: Any = None) -> tuple[Path, Any]:
    """Where the folder of a recording lies, as an absolute path, and what must live as long as it is read.

    Args:
        path: a folder, a packed file, or one of `recordings()`.
        keep: what must live in any case.

    Raises:
        RecordingError: no such recording ships, or a packed file is damaged.
    """
    text = as_text(path)
    if text in recordings() and not Path(text).exists():
        path = data_folder("recordings") / f"{text}{SUFFIX}"
    elif isinstance(path, str) and text.isidentifier() and not Path(text).exists():
        raise RecordingError(
            f"there is no recording at {text}, and none of that name ships.{did_you_mean(text, recordings())} "
            f"Shipped: {', '.join(recordings()) or 'none found'}. Make one with lab.sample(..., record='{text}.zarr')."
        )
    found: Path = read("what is opened", path, Place(), RecordingError).absolute()
    if found.suffix != ".zip" or not found.is_file():
        return found, keep
    unpacked = Unpacked(found)
    return unpacked.path, (unpacked, keep)


@takes(RecordingError, folder=Place())
def pack(folder: str | os.PathLike[str], file: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Pack the folder of a recording or sweep into one file; the same folder gives the same bytes.

    Args:
        folder: as `record=` named it, or `recording.path`.
        file: ends in `.zarr.zip`.
        overwrite: replace an earlier file.

    Raises:
        RecordingError: there is no such folder, the name ends otherwise, or the file exists.
        FileError: the file cannot be written; an older one is as it was.
    """
    folder, file = Path(folder), Path(file)
    if not (folder / "zarr.json").is_file():
        raise RecordingError(f"{folder} is not the folder of a recording: no zarr.json in it.")
    if not file.name.endswith(SUFFIX):
        raise RecordingError(f"a packed recording ends in {SUFFIX}, got {file.name!r}. Type '{file.stem}{SUFFIX}'.")
    if file.exists() and not overwrite:
        raise RecordingExistsError(f"{file} exists. Pass overwrite=True to replace it.")
    with written(file) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        for one in sorted(p for p in folder.rglob("*") if p.is_file()):
            name = one.relative_to(folder).as_posix()
            if not is_ours(name) or name.endswith(".partial"):
                continue  # a note that somebody put there
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            packed.writestr(entry, one.read_bytes())
    return file
