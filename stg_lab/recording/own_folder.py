"""Temporary folders that go with the object, and the process, that made them."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref


class OwnFolder:
    """A temporary folder that goes when nothing refers to this object any more.

    It belongs to the process that made it: a forked child that lets go of its copy, or ends, leaves it alone.
    """

    def __init__(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="stg_lab-")
        self._remove = weakref.finalize(self, _remove, self.folder, os.getpid())


def _remove(folder: str, process: int) -> None:
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)
