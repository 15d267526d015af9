"""Files that are whole or not there, whoever else writes the same one."""

from __future__ import annotations

import contextlib
import os
import platform
import threading
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A name to write to, which takes the file's place at the end; its folder is made. After an error nothing has changed."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f"{file.name}.{platform.node()}-{os.getpid()}-{threading.get_ident()}.partial")
    try:
        yield partial
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)


def write(file: Path, content: bytes) -> None:
    """Write a file, whole or not at all."""
    with replacing(file) as partial:
        partial.write_bytes(content)
