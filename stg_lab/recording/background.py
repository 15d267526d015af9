"""Recording beside the sampling: the disk works while the model computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from stg_lab.recording.writer import Recorder

#: Steps that may be on their way to the disk at once. Two keep a disk that is fast enough busy; memory is paid for each.
AHEAD = 2

#: An array, or a function that waits for one that is still on its way to the host.
Awaited = np.ndarray | Callable[[], np.ndarray]


class Behind:
    """Work that is done behind the caller, in a thread of its own and in order, at most `ahead` pieces at once.

    Handing over waits for the oldest piece where there are more. Leave it (`with`), by whatever way, and all that was handed over
    is done, up to the first failure, and the thread is gone. The interpreter, too, waits for it before it exits.

    Args:
        ahead: pieces on their way at once, 1 or more.
    """

    def __init__(self, *, ahead: int = AHEAD) -> None:
        self._ahead = ahead
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="stg_lab-behind")
        self._coming: deque[Future[None]] = deque()
        self._failure: BaseException | None = None  # of the thread: nothing is done after it
        self._told = False  # whether the caller has met the failure

    def submit(self, work: Callable[..., None], *args: Any) -> None:
        """Hand over one piece; raises, instead, what an earlier one raised."""
        self._wait(self._ahead - 1)
        self.check()
        self._coming.append(self._thread.submit(self._do, work, [args]))

    def flush(self) -> None:
        """Wait until all that was handed over is done, or has failed: `check` says so."""
        self._wait(0)

    def check(self) -> None:
        """Raise what a piece raised."""
        if self._failure is not None:
            self._told = True
            raise self._failure

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """A failure that the caller has not met yet is raised, unless something else is on its way up."""
        self._thread.shutdown(wait=True)
        self._coming.clear()
        if error is None and not self._told:
            self.check()

    def _do(self, work: Callable[..., None], given: list[tuple]) -> None:
        """In the thread. The arguments are let go before anybody hears that the piece is done and makes the next one."""
        args = given.pop()
        if self._failure is not None:
            return  # what comes after a gap would take the place of what is missing
        try:
            work(*args)
        except BaseException as failure:  # also an interrupt: the caller must meet whatever it was
            self._failure = failure

    def _wait(self, left: int) -> None:
        """Wait until no more than `left` pieces are on their way."""
        while len(self._coming) > left:
            self._coming[0].result()
            self._coming.popleft()


class BackgroundRecorder:
    """A `Recorder` that compresses and writes in a thread of its own: each step whole, in order, as the recorder does it.

    At most `ahead` steps are on their way to the disk; `write` waits for the oldest where there are more, so that memory stays
    the same however slow the disk is. Leave it (`with`), by whatever way, and every step that was handed over is written
    and the thread is gone. The interpreter, too, writes what was handed over before it exits.

    Args:
        recorder: does the work; nobody else may write to it.
        ahead: steps on their way at once, 1 or more.
    """

    def __init__(self, recorder: Recorder, *, ahead: int = AHEAD) -> None:
        self._recorder, self._behind = recorder, Behind(ahead=ahead)

    @property
    def path(self) -> Path:
        return self._recorder.path

    @property
    def started(self) -> bool:
        return self._recorder.started

    @property
    def written(self) -> int:
        """Whole steps on disk, not those on their way."""
        return self._recorder.written

    def check_space(self, steps: int, branches: int, shape: tuple[int, ...], watched: int = 0) -> None:
        """See `Recorder.check_space`."""
        self._recorder.check_space(steps, branches, shape, watched)

    def start(self, **layout: Any) -> None:
        """See `Recorder.start`; done before it returns."""
        self._recorder.start(**layout)

    def write(
        self,
        level: Mapping[str, float],
        x_t: Awaited,
        predictions: Mapping[str, Awaited],
        watched: Mapping[str, Awaited] = {},
    ) -> None:
        """Hand over one step; see `Recorder.write`. The arrays must not change any more.

        Args:
            x_t, predictions, watched: where one is a function, the thread calls it for the array.

        Raises:
            RecordingError: an earlier step could not be written. The error is the recorder's own.
        """
        self._behind.submit(self._write, level, x_t, predictions, watched)

    def flush(self) -> None:
        """Wait until every step that was handed over is on disk, or has failed to get there: the next `write` says so."""
        self._behind.flush()

    def finish(self, final: np.ndarray | None) -> None:
        """Wait for every step, and mark the recording complete; see `Recorder.finish`.

        Raises:
            RecordingError: something could not be written.
        """
        self._behind.flush()
        self._behind.check()
        self._recorder.finish(final)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what was handed over and end the thread. A failure that the sampler has not met yet is raised, unless
        something else is on its way up."""
        try:
            self._behind.__exit__(kind, error, trace)
        finally:
            self._recorder.give_up()

    def _write(
        self,
        level: Mapping[str, float],
        x_t: Awaited,
        predictions: Mapping[str, Awaited],
        watched: Mapping[str, Awaited],
    ) -> None:
        """In the thread."""
        arrays = [{name: _array(p) for name, p in named.items()} for named in (predictions, watched)]
        self._recorder.write(level, _array(x_t), *arrays)


def _array(awaited: Any) -> Any:
    return awaited() if callable(awaited) else awaited
