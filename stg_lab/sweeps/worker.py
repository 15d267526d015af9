"""Inside a worker process: jobs come through a pipe, what they give goes back. See `stg_lab.sweeps.processes`."""

from __future__ import annotations

import os
import pickle
import queue
import threading
from multiprocessing.connection import Connection

from stg_lab.errors import CallError
from stg_lab.sweeps.workers import attempt, out_of_memory

OUT_OF_MEMORY = 12  # exit code


def serve(descriptor: int) -> None:
    """Do jobs until the other end is closed, be it that its process was killed: then this one ends at once, in the middle of a
    job, too. What was finished is on disk."""
    import torch

    torch.set_num_threads(1)
    pipe, jobs = Connection(descriptor), queue.SimpleQueue[bytes]()
    threading.Thread(target=_listen, args=(pipe, jobs), daemon=True).start()
    while True:
        result = _result(jobs.get())
        if out_of_memory(result):
            os._exit(OUT_OF_MEMORY)  # what CUDA holds is not all given back; a new process has it all
        pipe.send_bytes(_pickled(result))


def _listen(pipe: Connection, jobs: queue.SimpleQueue[bytes]) -> None:
    try:
        while True:
            jobs.put(pipe.recv_bytes())
    except (EOFError, OSError):
        os._exit(1)


def _result(message: bytes) -> object:
    try:
        work, job = pickle.loads(message)
    except Exception as error:
        return CallError(f"a job could not be sent to a process ({type(error).__name__}: {error}).")
    return attempt(work, job)


def _pickled(result: object) -> bytes:
    try:
        return pickle.dumps(result)
    except Exception:
        return pickle.dumps(CallError(f"what a job gave could not be sent back: {result!r}"))
