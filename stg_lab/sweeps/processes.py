"""Processes of this machine that work side by side, each with one thread of torch, or with one GPU of its own.

Two processes of one thread are faster than one of two: models as small as the embedded ones leave a second thread little to do.

Each is a fresh interpreter, which does not import the user's script again: no `if __name__ == "__main__"` is needed, and a notebook
may use them. A process that dies takes its own job with it and no other; a pool of the standard library would give up them all.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Pipe, wait
from typing import Any

from stg_lab.errors import CallError
from stg_lab.sweeps.workers import ATTEMPTS, Outcome, WorkerLost, Workers, patience


class Processes(Workers):
    """Several processes; they start when there is something to do.

    Args:
        count: how many.
        told: called with a sentence where a process was lost.
        limit: seconds after which a job is taken to hang; None for 20 times the longest so far, half an hour at least.
    """

    def __init__(self, count: int, *, told: Callable[[str], None] = warnings.warn, limit: float | None = None) -> None:
        if os.name != "posix":
            raise CallError(
                "several processes need Linux or macOS. Type client=None, or give a dask.distributed Client."
            )
        self.count, self._told, self._given_limit = count, told, limit
        self._longest = 0.0
        self._workers: list[_Process] = []

    def outcomes(self, work: Callable[..., Any], jobs: Sequence[tuple]) -> Iterator[Outcome]:
        waiting = deque((place, 1) for place in range(len(jobs)))
        try:
            while waiting or any(one.job for one in self._workers):
                self._give(waiting, work, jobs)
                yield from self._gather(waiting)
        finally:
            for one in [one for one in self._workers if one.job]:  # whoever asked is gone
                self._end(one)

    def close(self) -> None:
        while self._workers:
            self._end(self._workers[-1])

    def _give(self, waiting: deque[tuple[int, int]], work: Callable[..., Any], jobs: Sequence[tuple]) -> None:
        while waiting:
            idle = next((one for one in self._workers if not one.job), None)
            if idle is None and len(self._workers) == self.count:
                return
            if idle is None:
                taken = {one.number for one in self._workers}
                idle = _Process(next(n for n in range(self.count) if n not in taken))
                self._workers.append(idle)
            place, time_ = waiting.popleft()
            idle.begin((place, time_), pickle.dumps((work, jobs[place])))

    def _gather(self, waiting: deque[tuple[int, int]]) -> Iterator[Outcome]:
        """Results that are there; waits for one, or for a sign that a process is lost."""
        busy = {one.connection: one for one in self._workers if one.job}
        ready = wait(
            list(busy), timeout=min(max(one.since + self._limit - time.monotonic(), 0) for one in busy.values())
        )
        for connection in ready:
            one = busy[connection]  # type: ignore[index]
            try:
                result = one.connection.recv()
            except (EOFError, OSError):
                yield from self._lose(one, waiting, f"died{one.ending()}")
                continue
            self._longest = max(self._longest, time.monotonic() - one.since)
            (place, _), one.job = one.job, None  # type: ignore[misc]
            yield place, result
        for one in busy.values():
            if one.job and time.monotonic() >= one.since + self._limit:
                yield from self._lose(one, waiting, f"gave no answer for {self._limit:.0f} seconds")

    @property
    def _limit(self) -> float:
        return self._given_limit or patience(self._longest)

    def _lose(self, one: _Process, waiting: deque[tuple[int, int]], how: str) -> Iterator[Outcome]:
        place, time_ = one.job  # type: ignore[misc]
        self._end(one)
        if time_ < ATTEMPTS:
            waiting.appendleft((place, time_ + 1))
            self._told(f"a worker {how}; its job, number {place}, is done again.")
        else:
            yield place, WorkerLost(f"the worker {how}, as the one before did at the same job.")

    def _end(self, one: _Process) -> None:
        self._workers.remove(one)
        one.end()


class _Process:
    """A process with its end of a pipe. `job` is what it does: its place, and which attempt this is."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.job: tuple[int, int] | None = None
        self.since = 0.0
        self.connection, theirs = Pipe()
        code = f"from stg_lab.sweeps.worker import serve; serve({theirs.fileno()})"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env={**os.environ, **self._environment(), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,  # Ctrl-C is for whoever started it, which ends the process then
        )
        theirs.close()

    def _environment(self) -> dict[str, str]:
        """One GPU for each, where there are GPUs. A process sees no other, from before torch is imported."""
        shown = visible_gpus()
        return {"CUDA_VISIBLE_DEVICES": shown[self.number % len(shown)]} if shown else {"OMP_NUM_THREADS": "1"}

    def begin(self, job: tuple[int, int], message: bytes) -> None:
        self.job, self.since = job, time.monotonic()
        with contextlib.suppress(OSError):  # it is gone, which the next look finds
            self.connection.send_bytes(message)

    def ending(self) -> str:
        """How it ended by itself, in brackets."""
        with contextlib.suppress(subprocess.TimeoutExpired):  # its end of the pipe goes a moment before it does
            code = self._process.wait(timeout=5)
            return f" (signal {-code})" if code < 0 else f" (exit code {code})"
        return ""

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self.connection.close()


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` names them."""
    import torch

    if not torch.cuda.is_available():
        return []
    said = os.environ.get("CUDA_VISIBLE_DEVICES")
    return said.split(",") if said else [str(n) for n in range(torch.cuda.device_count())]
