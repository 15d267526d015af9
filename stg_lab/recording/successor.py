"""A store that is to take the place of an earlier one: written beside it, until it holds something worth having."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterable
from pathlib import Path

from stg_lab.recording.chunks import ChunkFiles


class Successor:
    """Where a store is written.

    Args:
        path: where it is to lie in the end.
        replacing: whether an earlier store lies there. The new one then lies beside it until `take_place`; else it is written
            to its own place at once.
    """

    def __init__(self, path: Path, replacing: bool) -> None:
        self.path, self.replacing, self.id = path, replacing, uuid.uuid4().hex

    @property
    def place(self) -> Path:
        """Where the store is now."""
        return self._beside("coming") if self.replacing else self.path

    def take_place(self, arrays: Iterable[ChunkFiles]) -> None:
        """Put the new store in the place of the earlier one, if there is one, by two renames.

        Args:
            arrays: what goes on writing to the store.

        Raises:
            OSError: the renames failed; the earlier store is where it was.
        """
        if not self.replacing:
            return
        earlier = self._beside("replaced")
        if self.path.exists():
            os.replace(self.path, earlier)
        try:
            os.replace(self.place, self.path)
        except OSError:
            if earlier.exists():
                os.replace(earlier, self.path)
            raise
        for files in arrays:
            files.moved(self.path)
        self.replacing = False
        shutil.rmtree(earlier, ignore_errors=True)

    def give_up(self) -> None:
        """Nothing more will be written: a store that did not take its place goes."""
        if self.replacing:
            shutil.rmtree(self.place, ignore_errors=True)

    def _beside(self, what: str) -> Path:
        """A folder beside the store's own, on the same disk, that no other run uses."""
        return self.path.with_name(f".{self.path.name}.{what}-{self.id}")
