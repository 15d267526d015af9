"""Jobs on a dask cluster (extra `cluster`): on one machine with many GPUs, over SSH, under Slurm. See docs/cluster.md.

The scheduler is given one job a worker at a time, each bound to its worker, so that nothing is stolen away from a loaded model and a
worker that is lost takes one job with it. What happened to a job is known from which worker had it.
"""

from __future__ import annotations

import contextlib
import time
import uuid
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stg_lab.errors import CallError
from stg_lab.sweeps.workers import ATTEMPTS, Outcome, WorkerLost, Workers, attempt, out_of_memory, patience

LOOK = 1.0  # seconds between looks at which workers are there
COME = 300.0  # seconds to wait for a first worker: queues of clusters take their time


@dataclass
class _Running:
    """A job on its way: its place, which attempt it is, and since when."""

    future: Any
    place: int
    attempt: int
    since: float


class Cluster(Workers):
    """The workers of a `dask.distributed.Client`, of which some may come later and some may go.

    Args:
        client: connected to the scheduler. Its workers have one thread and no limit of memory.
        told: called with a sentence where a worker was lost.
        come: seconds to wait for a worker where there is none.
        limit: seconds after which a job is taken to hang; None for 20 times the longest so far, half an hour at least.

    Raises:
        CallError: no worker came, or they are not fit: with several threads (two models in one process), or with a limit of host
            memory, at which dask would end a worker that loads a large model.
    """

    def __init__(
        self,
        client: Any,
        *,
        told: Callable[[str], None] = warnings.warn,
        come: float = COME,
        limit: float | None = None,
    ) -> None:
        self._client, self._told, self._come, self._limit = client, told, come, limit
        self._longest = 0.0
        self._check(self._there())

    @property
    def count(self) -> int:  # type: ignore[override]
        return max(len(self._workers()), 1)

    def outcomes(self, work: Callable[..., Any], jobs: Sequence[tuple]) -> Iterator[Outcome]:
        waiting = deque((place, 1) for place in range(len(jobs)))
        running: dict[str, _Running] = {}  # by address of the worker
        try:
            while waiting or running:
                self._give(waiting, running, work, jobs)
                self._wait(running)
                there = self._workers()
                for address, one in list(running.items()):
                    done, how = self._look(address, one, there)
                    if not done:
                        continue
                    del running[address]
                    if how and one.attempt < ATTEMPTS:
                        waiting.appendleft((one.place, one.attempt + 1))
                        self._told(f"{address} {how}; its job, number {one.place}, is done again.")
                    elif how:
                        yield one.place, WorkerLost(f"{address} {how}, as the worker before did at the same job.")
                    else:
                        yield one.place, _result(one.future)
        finally:
            for one in running.values():
                one.future.cancel(force=True)

    def _look(self, address: str, one: _Running, there: Mapping[str, Any]) -> tuple[bool, str]:
        """Whether a job is over, and how its worker was lost, where it was."""
        took = time.monotonic() - one.since
        if one.future.done():
            result = _result(one.future)
            self._longest = max(self._longest, took)
            if out_of_memory(result):
                self._client.restart_workers([address], raise_for_error=False)
            return True, "was out of memory" if out_of_memory(result) else "died" if _killed(result) else ""
        if address not in there:
            one.future.cancel(force=True)
            return True, "died or cannot be reached"
        limit = self._limit or patience(self._longest)
        if took > limit:
            one.future.cancel(force=True)
            self._client.restart_workers([address], raise_for_error=False)
            return True, f"gave no answer for {limit:.0f} seconds"
        return False, ""

    def _give(
        self,
        waiting: deque[tuple[int, int]],
        running: dict[str, _Running],
        work: Callable[..., Any],
        jobs: Sequence[tuple],
    ) -> None:
        if waiting and not running:
            self._check(self._there())
        for address in [a for a in self._workers() if a not in running] if waiting else ():
            if not waiting:
                return
            place, time_ = waiting.popleft()
            key = (
                f"{getattr(work, '__name__', 'work')}-{uuid.uuid4().hex}"  # no result of another search is taken for it
            )
            future = self._client.submit(
                attempt, work, jobs[place], key=key, workers=[address], allow_other_workers=False, pure=False, retries=0
            )
            running[address] = _Running(future, place, time_, time.monotonic())

    def _wait(self, running: dict[str, _Running]) -> None:
        from distributed import wait

        with contextlib.suppress(TimeoutError):  # then it is time to look which workers are there
            wait([one.future for one in running.values()], timeout=LOOK, return_when="FIRST_COMPLETED")

    def _workers(self) -> dict[str, Any]:
        """Those that are there, by address."""
        return self._client.scheduler_info(n_workers=-1)["workers"]

    def _there(self) -> dict[str, Any]:
        end = time.monotonic() + self._come
        while not (found := self._workers()):
            if time.monotonic() > end:
                raise CallError(
                    f"no worker came to {self._client.scheduler.address} in {self._come:.0f} seconds. Start some: dask worker "
                    "ADDRESS --nthreads 1 --memory-limit 0; see docs/cluster.md."
                )
            time.sleep(0.1)
        return found

    def _check(self, workers: dict[str, Any]) -> None:
        many = [address for address, one in workers.items() if one["nthreads"] != 1]
        bound = [address for address, one in workers.items() if one["memory_limit"]]
        if many or bound:
            why = f"several threads, and so would run two models in one process ({many[0]})" if many else ""
            why = why or f"a limit of memory, at which dask ends a worker that loads a large model ({bound[0]})"
            raise CallError(
                f"the cluster has workers with {why}. Start them with --nthreads 1 --memory-limit 0, or "
                "LocalCluster(threads_per_worker=1, memory_limit=0); see docs/cluster.md."
            )


def _result(future: Any) -> Any:
    try:
        return future.result()
    except Exception as error:  # of dask: what work raised is a result
        return error


def _killed(result: Any) -> bool:
    from distributed import CancelledError, KilledWorker

    return isinstance(result, KilledWorker | CancelledError)
