"""Who does the jobs of a sweep: this process, several, or a dask cluster."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from stg_lab.errors import CallError, LabError

#: What a job gave: its place among the jobs, and the result, or the exception that it raised.
Outcome = tuple[int, Any]


ATTEMPTS = 2  # at a job whose worker was lost
#: A job is taken to hang after so many times the longest one so far, and not before so many seconds.
PATIENCE, LEAST_PATIENCE = 20, 1800.0


def patience(longest: float) -> float:
    """Seconds after which a job is taken to hang.

    Args:
        longest: how long any took so far.
    """
    return max(PATIENCE * longest, LEAST_PATIENCE)


class WorkerLost(LabError, RuntimeError):
    """A job whose worker died or hung, and died or hung again when another worker did it."""


class Workers:
    """Whoever does jobs one by one; this class does them itself, in this process.

    A job is a function of a module with arguments that can be pickled. It keeps what it makes in a folder and gives back little.

    Attributes:
        count: how many jobs are done at a time.
    """

    count = 1

    def outcomes(self, work: Callable[..., Any], jobs: Sequence[tuple]) -> Iterator[Outcome]:
        """What `work(*job)` gave for each job, in the order in which they are done; exceptions are given, not raised."""
        for place, job in enumerate(jobs):
            yield place, attempt(work, job)

    def do(self, work: Callable[..., Any], jobs: Sequence[tuple]) -> Iterator[Any]:
        """What `work(*job)` gives for each job, in the order in which they are done.

        Work that fails raises here; what others have finished by then is kept by whoever keeps it.
        """
        for _, result in self.outcomes(work, jobs):
            if isinstance(result, BaseException):
                raise result
            yield result

    def close(self) -> None:
        """End what was started."""


#: Works in this process.
ALONE = Workers()


def crew(client: Any = None, *, told: Callable[[str], None] = warnings.warn) -> Workers:
    """Who works.

    Args:
        client: None for this process; a number for as many processes on this machine, which start when there is something to do
            (1 is this process, too); a `dask.distributed.Client` for its cluster.
        told: called with a sentence where a worker was lost.

    Raises:
        CallError: anything else, or a cluster whose workers are not fit for this.
    """
    if client is None:
        return ALONE
    if isinstance(client, int) and not isinstance(client, bool):
        from stg_lab.sweeps.processes import Processes

        if client < 1:
            raise CallError(f"client=2 works in two processes; there is at least one, got {client}.")
        return ALONE if client == 1 else Processes(client, told=told)
    if type(client).__module__.partition(".")[0] == "distributed":
        from stg_lab.sweeps.cluster import Cluster

        return Cluster(client, told=told)
    raise CallError(
        f"client is None (this process), a number of processes, or a dask.distributed Client, got {client!r}. Type for example "
        "client=2."
    )


def attempt(work: Callable[..., Any], job: tuple) -> Any:
    """What work gives, or the exception that it raises; what ends the process is raised."""
    try:
        return work(*job)
    except Exception as error:
        return error


def out_of_memory(result: Any) -> bool:
    """Whether a job found too little memory on its GPU."""
    return type(result).__name__ == "OutOfMemoryError"


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
