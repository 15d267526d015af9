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
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from stg_lab.errors import CallError
from stg_lab.sweeps.workers import Outcome, WorkerLost, Workers, attempt, out_of_memory

ATTEMPTS = 2
LOOK = 1.0  # seconds between looks at which workers are there
COME = 300.0  # seconds to wait for a first worker: queues of clusters take their time


class Cluster(Workers):
    """The workers of a `dask.distributed.Client`, of which some may come later and some may go.

    Args:
        client: connected to the scheduler. Its workers have one thread and no limit of memory.
        told: called with a sentence where a worker was lost.
        come: seconds to wait for a worker where there is none.

    Raises:
        CallError: no worker came, or they are not fit: with several threads (two models in one process), or with a limit of host
            memory, at which dask would end a worker that loads a large model.
    """

    def __init__(self, client: Any, *, told: Callable[[str], None] = warnings.warn, come: float = COME) -> None:
        self._client, self._told, self._come = client, told, come
        self._check(self._there())

    @property
    def count(self) -> int:  # type: ignore[override]
        return max(len(self._workers()), 1)

    def outcomes(self, work: Callable[..., Any], jobs: Sequence[tuple]) -> Iterator[Outcome]:
        waiting = deque((place, 1) for place in range(len(jobs)))
        running: dict[str, tuple[Any, int, int]] = {}  # by worker: future, place, attempt
        try:
            while waiting or running:
                self._give(waiting, running, work, jobs)
                self._wait(running)
                there = self._workers()
                for address, (future, place, time_) in list(running.items()):
                    if future.done():
                        del running[address]
                        result = _result(future)
                        if out_of_memory(result) and time_ < ATTEMPTS:
                            self._client.restart_workers([address], raise_for_error=False)
                            self._again(waiting, place, time_, f"{address} was out of memory")
                        elif _killed(result):
                            yield from self._lost(waiting, place, time_, f"{address} died")
                        else:
                            yield place, result
                    elif address not in there:
                        del running[address]
                        future.cancel(force=True)
                        yield from self._lost(waiting, place, time_, f"{address} died or cannot be reached")
        finally:
            for future, *_ in running.values():
                future.cancel(force=True)

    def _give(
        self, waiting: deque[tuple[int, int]], running: dict, work: Callable[..., Any], jobs: Sequence[tuple]
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
            running[address] = future, place, time_

    def _wait(self, running: dict[str, tuple[Any, int, int]]) -> None:
        from distributed import wait

        with contextlib.suppress(TimeoutError):  # then it is time to look which workers are there
            wait([future for future, *_ in running.values()], timeout=LOOK, return_when="FIRST_COMPLETED")

    def _lost(self, waiting: deque[tuple[int, int]], place: int, time_: int, how: str) -> Iterator[Outcome]:
        if time_ < ATTEMPTS:
            self._again(waiting, place, time_, how)
        else:
            yield place, WorkerLost(f"{how}, as the worker before did at the same job.")

    def _again(self, waiting: deque[tuple[int, int]], place: int, time_: int, how: str) -> None:
        waiting.appendleft((place, time_ + 1))
        self._told(f"{how}; its job, number {place}, is done again.")

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
