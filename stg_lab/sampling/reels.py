"""The recordings of one trace: one, or one for each loop of a pipeline call that samples in several."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path
from typing import Any, Self

from stg_lab.errors import RecordingError
from stg_lab.families.caller_frame import call_site
from stg_lab.recording import BackgroundRecorder, Recorder, Recording, open_recording
from stg_lab.sampling.temporary import make_recorder


class Reels:
    """Recorders, of which the last one is at work. Leave it (`with`), by whatever way, and all have written what they were given.

    Args:
        record, dtype, overwrite: what the user said.
    """

    def __init__(self, record: bool | str | Path = False, dtype: str = "float32", overwrite: bool = False) -> None:
        first, self.keep = make_recorder(record, dtype, overwrite)
        self._dtype, self._overwrite = dtype, overwrite
        self.all: list[BackgroundRecorder] = [] if first is None else [first]
        self._stack = contextlib.ExitStack()
        self._opened: dict[int, Recording] = {}
        self._site: Any = None  # of the user's call, to tell a loop within it from another call

    @property
    def current(self) -> BackgroundRecorder | None:
        return self.all[-1] if self.all else None

    @property
    def settings(self) -> dict[str, int]:
        """What a recording says of its place: its number among the loops of the call, where it is not the first."""
        return {"section": len(self.all) - 1} if len(self.all) > 1 else {}

    def turn_over(self, pipe: Any) -> None:
        """A call of the pipeline begins, or a loop within the one that is recorded: that has a recording of its own.

        Raises:
            RecordingError: it is another call.
        """
        site, before = call_site(pipe), self._site
        if self.current is None or not self.current.started:
            self._site = site
            return
        if site != before:
            raise RecordingError(
                f"{self.current.path} keeps one pipeline call, and this is another. Open a new lab.attach(...) around it."
            )
        name = self._another()
        if len(self.all) == 2:
            warnings.warn(
                f"{type(pipe).__name__} began a second loop of steps within the call. Each loop is guided by itself and has a recording "
                f"of its own: {self.all[0].path.name}, {name}, ...; `.recordings` of the trace or the run has them all.",
                stacklevel=2,
            )

    def _another(self) -> str:
        """Go on in a recorder of its own, beside the first one, and say under which name."""
        first = self.all[0].path
        number = len(self.all) + 1
        while (path := first.with_name(f"{first.stem}-{number}{first.suffix}")).exists() and not self._overwrite:
            number += 1
        recorder = BackgroundRecorder(Recorder(path, dtype=self._dtype, overwrite=self._overwrite))
        self.all.append(self._stack.enter_context(recorder))
        return path.name

    def recordings(self) -> list[Recording]:
        """What has been recorded so far.

        Raises:
            RecordingError: nothing.
        """
        if not self.all:
            raise RecordingError("nothing was recorded. Pass record=True or record='some/folder.zarr'.")
        self.all[-1].flush()
        if not self.all[0].written:
            raise RecordingError("nothing was recorded: the pipeline finished no step inside the `with`.")
        return [self._open(number) for number, recorder in enumerate(self.all) if recorder.written]

    def _open(self, number: int) -> Recording:
        recorder, known = self.all[number], self._opened.get(number)
        if known is None or known.steps < recorder.written:
            self._opened[number] = open_recording(recorder.path, keep=self.keep)
        return self._opened[number]

    def __enter__(self) -> Self:
        for recorder in self.all:
            self._stack.enter_context(recorder)
        return self

    def __exit__(self, *raised: Any) -> None:
        self._stack.__exit__(*raised)
