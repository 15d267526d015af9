"""Writing a file whole or not at all."""

from __future__ import annotations

import contextlib
import os
import platform
import threading
from collections.abc import Iterator
from pathlib import Path

from stg_lab.errors import FileError, LabError


@contextlib.contextmanager
def written(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A place beside `path` to write to; what was written there takes the place of `path` in one step when the `with` ends.

    The folder of `path` is made. The file is on the disk itself before it takes the place of an older one, so that one of the two
    is whole even where the machine fails.

    Raises:
        FileError: the file cannot be written; an older one is as it was.
    """
    path = Path(path)
    partial = path.with_name(
        f"{path.name}.{platform.node()}-{os.getpid()}-{threading.get_ident()}.partial"
    )  # others may write it, too
    try:
        if path.is_dir():
            raise IsADirectoryError(21, "it is a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except LabError:
        raise
    except OSError as error:
        older = " The older file there is as it was." if path.is_file() else ""
        raise FileError(f"{path} could not be written: {error.strerror or error}.{older}") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def write(path: str | os.PathLike[str], content: bytes) -> None:
    """A file of this content, by `written`."""
    with written(path) as partial:
        partial.write_bytes(content)
