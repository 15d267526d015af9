"""Where a store is written, and how it takes the place of an earlier one.

Every store is laid out in a hidden folder beside its place, and comes there by one rename: at once where the place is free, after
its first step where it replaces an earlier store. The two change places in one call where the system can (`exchange`), else by two
renames. Whatever a killed run leaves is told by its name and free of locks, and the next run or `lab.open` puts it right (`recover`).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import glob
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self

from stg_lab.recording.chunks import ChunkFiles
from stg_lab.recording.held import Held
from stg_lab.recording.layout import is_array, is_ours

#: Hidden folders beside a store: one on its way there, and one that was there.
COMING, REPLACED = "coming", "replaced"


class Successor:
    """Where a store is written.

    Args:
        path: where it is to lie in the end.
        replacing: whether something of ours lies there. The new store then lies beside it until `take_place`.

    Raises:
        BlockingIOError: another run is writing there.
    """

    def __init__(self, path: Path, replacing: bool) -> None:
        self.path, self.replacing, self.id = path, replacing, uuid.uuid4().hex
        self._held = [Held(path)] if replacing else []
        self._there = False

    @classmethod
    def there(cls, path: Path) -> Self:
        """One that has its place: a store that is gone on with."""
        found = cls(path, replacing=False)
        found._there = True
        return found

    @property
    def place(self) -> Path:
        """Where the store is now."""
        return self.path if self._there else self._beside(COMING)

    @contextlib.contextmanager
    def laying_out(self) -> Iterator[Path]:
        """A hidden folder to lay out the store in; afterwards it comes to its place, if that is free.

        Raises:
            FileExistsError: another run has taken the place meanwhile.
            OSError: the place cannot be written.
        """
        place = self.place
        place.mkdir(parents=True)
        self._held.append(Held(place))
        try:
            yield place
            if not self.replacing:
                self._come()
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise

    def take_place(self, arrays: Iterable[ChunkFiles]) -> None:
        """Put the new store in the place of the earlier one, if there is one, which goes; files in it that are not the lab's own
        are taken along.

        Args:
            arrays: what goes on writing to the store.

        Raises:
            OSError: the places could not be changed; the earlier store is where it was.
        """
        if not self.replacing:
            return
        sync(self.place)  # the earlier store goes: the new one must be there even where the machine fails
        earlier = self._beside(COMING)
        if not self.path.exists():
            os.replace(earlier, self.path)
        elif not exchange(earlier, self.path):
            earlier = self._beside(REPLACED)
            os.replace(self.path, earlier)
            try:
                os.replace(self.place, self.path)
            except OSError:
                os.replace(earlier, self.path)
                raise
        self._there, self.replacing = True, False
        for files in arrays:
            files.moved(self.path)
        with contextlib.suppress(OSError):  # what stays is put right by `recover`
            remove(earlier, self.path)

    def give_up(self) -> None:
        """Nothing more will be written: a store that did not take its place goes, and the place is free for others."""
        if not self._there:
            shutil.rmtree(self.place, ignore_errors=True)
        for held in self._held:
            held.release()

    def _come(self) -> None:
        try:
            os.rename(self.place, self.path)  # takes the place of nothing but an empty folder
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise FileExistsError(errno.EEXIST, "another run has taken the place meanwhile") from error
            raise
        self._there = True

    def _beside(self, what: str) -> Path:
        """A folder beside the store's own, on the same disk, that no other run uses."""
        return self.path.with_name(f".{self.path.name}.{what}-{self.id}")


def recover(path: Path) -> None:
    """Put right what a killed run left beside a store: an earlier store that was moved away comes back where its place is empty,
    and all else of it goes. What a run that lives is writing is left alone."""
    for what in (REPLACED, COMING):
        for left in path.parent.glob(f".{glob.escape(path.name)}.{what}-*"):
            with contextlib.suppress(OSError):  # it is held, or gone meanwhile, or not ours to change
                held = Held(left)
                if held.sure and what == REPLACED and not path.exists():
                    os.rename(left, path)
                elif held.sure:
                    remove(left, path)
                held.release()


def remove(store: Path, heir: Path) -> None:
    """Remove a store of the lab. Files in it that the lab did not write move to the same place in `heir`, or stay."""
    ours = [entry for entry in store.iterdir() if entry.is_dir() and not entry.is_symlink() and is_array(entry.name)]
    for array in ours:
        if all(is_ours(f"{array.name}/{file.name}") and not file.is_dir() for file in array.iterdir()):
            shutil.rmtree(array, ignore_errors=True)
    for folder, folders, files in os.walk(store, topdown=False):
        for name in (*files, *folders):
            file = Path(folder) / name
            if file.is_dir() and not file.is_symlink():
                continue
            inside = file.relative_to(store)
            if is_ours(inside.as_posix()) and not file.is_symlink():
                file.unlink()
            elif heir.is_dir() and not os.path.lexists(heir / inside):
                (heir / inside).parent.mkdir(parents=True, exist_ok=True)
                os.rename(file, heir / inside)
        with contextlib.suppress(OSError):  # something stays in it
            os.rmdir(folder)


def is_left_over(path: Path) -> bool:
    """Whether a folder holds nothing but parts of a store of the lab: of one that was never laid out to its end, or has lost the
    document that says what it is."""
    names = [entry.name + "/zarr.json" * entry.is_dir() for entry in path.iterdir()]
    return all(map(is_ours, names)) and any("/" in name for name in names)


def exchange(one: Path, other: Path) -> bool:
    """Let two folders change places in one step; False where the system or the file system cannot."""
    system: Any = ctypes.CDLL(None, use_errno=True) if os.name == "posix" else None
    names = os.fsencode(one), os.fsencode(other)
    if hasattr(system, "renameat2"):  # Linux; -100 is AT_FDCWD, 2 is RENAME_EXCHANGE
        failed = system.renameat2(-100, names[0], -100, names[1], 2)
    elif hasattr(system, "renamex_np"):  # macOS; 2 is RENAME_SWAP
        failed = system.renamex_np(*names, 2)
    else:
        return False
    if failed and (code := ctypes.get_errno()) not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP):
        raise OSError(code, os.strerror(code), str(other))
    return not failed


def sync(store: Path) -> None:
    """Wait until every file of a store is on the disk itself, not only in the system's memory."""
    for folder, _, files in os.walk(store):
        for path in (*(os.path.join(folder, name) for name in files), folder):
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
