"""Who makes batches of videos: this process, or one process a core.

Two processes of one thread are faster than one of two: models as small as these leave a second thread little to do.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any


class Workers:
    """Processes that work side by side, one thread each; they start when there is something to do.

    Args:
        count: how many; 1 works in this process.
    """

    def __init__(self, count: int = 1) -> None:
        if count < 1:
            raise ValueError(f"there is at least one worker, got {count}.")
        self.count = count
        self._pool: ProcessPoolExecutor | None = None

    def do(self, work: Callable[..., Any], jobs: Sequence[tuple]) -> Iterator[Any]:
        """What `work(*job)` gives for each job, in the order in which they are done.

        Work that fails raises here; what others have finished by then is kept by whoever keeps it.
        """
        if self.count == 1 or len(jobs) < 2:
            yield from (work(*job) for job in jobs)
            return
        if self._pool is None:
            context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
            self._pool = ProcessPoolExecutor(self.count, context, initializer=_begin)
        futures = [self._pool.submit(work, *job) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            for future in futures:
                future.cancel()

    def close(self) -> None:
        """End the processes."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


#: Works in this process.
ALONE = Workers()


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _begin() -> None:
    """In a new worker: one thread for torch, and one that ends the worker where its parent was killed."""
    import torch

    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # what was finished is on disk
