"""Folders that a run holds while it writes: no second run takes them, and what a killed run held is free again."""

from __future__ import annotations

import errno
import os
import weakref
from pathlib import Path


class Held:
    """A folder that this process holds until `release`, or until it ends by whatever way: the system lets go of it.

    Args:
        folder: stays held when it is renamed.

    Raises:
        BlockingIOError: another run holds it.
        OSError: there is no such folder.
    """

    def __init__(self, folder: Path) -> None:
        handle = os.open(folder, os.O_RDONLY)
        self.release = weakref.finalize(self, _let_go, handle, os.getpid())
        try:
            self.sure = _lock(handle)
        except BlockingIOError:
            self.release()
            raise


def _lock(handle: int) -> bool:
    """Lock a folder; False where the system cannot, so that nobody knows who else writes there."""
    try:
        import fcntl
    except ImportError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES):
            raise BlockingIOError(error.errno, "another run is writing there") from None
        return False
    return True


def _let_go(handle: int, process: int) -> None:
    """Unlock in the process that locked; a forked child only closes its own handle of the same lock."""
    if os.getpid() == process:
        try:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_UN)
        except (ImportError, OSError):
            pass
    os.close(handle)
