"""Explorers that compute: work in the background, with a status, progress and a stop, while the notebook stays usable."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import traitlets

from stg_lab.errors import CallError, LabError
from stg_lab.widgets.base import Explorer


class Stopped(Exception):
    """Ends work in the background because the reader asked for it."""


class Job:
    """What work in the background is told, and how it tells what it does."""

    def __init__(self, widget: Working, stop: threading.Event) -> None:
        self._widget, self._stop = widget, stop

    @property
    def stopping(self) -> bool:
        """Whether the reader has asked to stop."""
        return self._stop.is_set()

    def check(self) -> None:
        """Raise `Stopped` where the reader has asked for it: a good place is between two steps."""
        if self.stopping:
            raise Stopped

    def tell(self, status: str | None = None, progress: float | None = None, **traits: Any) -> None:
        """Set traits of the widget, all in one message to the browser.

        Args:
            status: a short line.
            progress: 0 to 1, or -1 where it is not known.
            **traits: others.
        """
        known = {name: value for name, value in (("status", status), ("progress", progress)) if value is not None}
        self._widget.update(**known, **traits)


class Working(Explorer):
    """An explorer that does one piece of work at a time in a thread of its own.

    Attributes:
        status: what it does now, or did last.
        progress: of the work, 0 to 1; -1 while there is none, or it cannot be told.
        running: whether it works now.
        stop: set it, from the browser or from Python, and the work ends at its next step; what is done is kept.
        pictures: PNG bytes by name that change while it works; `sheets` holds those that last.
    """

    status = traitlets.Unicode("").tag(sync=True)
    progress = traitlets.Float(-1.0).tag(sync=True)
    running = traitlets.Bool(False).tag(sync=True)
    stop = traitlets.Bool(False).tag(sync=True)
    pictures = traitlets.Dict().tag(sync=True)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._lock = threading.RLock()  # the browser's messages and the work set traits from two threads
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        super().__init__(*args, **kwargs)

    def start(self, work: Callable[[Job], None], status: str = "starting") -> None:
        """Begin a piece of work in the background.

        Args:
            work: called in a thread of its own with a `Job`; whatever it raises is shown in place, but for `Stopped`.

        Raises:
            CallError: another piece is not done yet.
        """
        with self._lock:
            if self.running:
                raise CallError(
                    "this explorer is still at work. Wait until it is done (widget.wait()), or stop it first."
                )
            self._stopping.clear()
            self.update(running=True, stop=False, problem="", status=status, progress=-1.0)
            self._thread = threading.Thread(target=self._work, args=(work,), name="stg_lab-work", daemon=True)
        self._thread.start()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the work is done, at most some seconds; returns whether it is."""
        if self._thread is not None:
            self._thread.join(seconds)
        return not self.running

    def close(self) -> None:
        """Stop the work, and take the view away."""
        self._stopping.set()
        super().close()

    def update(self, **traits: Any) -> None:
        """Set several traits at once, from any thread, as one message to the browser."""
        with self._lock, self.hold_sync():
            for name, value in traits.items():
                setattr(self, name, value)

    def set_state(self, sync_data: Any) -> None:
        """What the browser sets; never in the middle of an update."""
        with self._lock:
            super().set_state(sync_data)

    @traitlets.observe("stop")
    def _stop_changed(self, change: Any) -> None:
        if change["new"] and self.running:
            self._stopping.set()
            self.status = "stopping after this step"

    def _work(self, work: Callable[[Job], None]) -> None:
        """In the thread."""
        end: dict[str, Any] = {}
        try:
            work(Job(self, self._stopping))
        except Stopped:
            pass
        except Exception as error:
            known = isinstance(error, LabError)
            notes = getattr(error, "__notes__", [])
            end["problem"] = "\n".join([str(error) if known else f"{type(error).__name__}: {error}", *notes])
            end["status"] = "failed"
        finally:
            self.update(running=False, stop=False, progress=-1.0, **end)


@contextlib.contextmanager
def no_progress_bar(pipe: Any) -> Iterator[None]:
    """Inside the `with`, a pipeline prints no progress bar: from a thread it would land in whatever cell runs."""
    before = getattr(pipe, "_progress_bar_config", None)
    if hasattr(pipe, "set_progress_bar_config"):
        pipe.set_progress_bar_config(**{**(before or {}), "disable": True})
    try:
        yield
    finally:
        if before is not None:
            pipe._progress_bar_config = before
        elif hasattr(pipe, "_progress_bar_config"):
            del pipe._progress_bar_config
