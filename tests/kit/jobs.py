"""Jobs for workers: functions of a module, since other processes import them by name."""

import os
import signal
import time
from pathlib import Path


def square(x):
    return os.getpid(), x * x


def threads_and_gpus(_):
    import torch

    return torch.get_num_threads(), os.environ.get("CUDA_VISIBLE_DEVICES")


def fail(x):
    raise ValueError(f"no {x}")


def die(folder, x, times):
    """Die by SIGKILL the first `times` times, for x = 2."""
    if x == 2 and _tries(folder) < times:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def hang(folder, x):
    """Hang the first time, for x = 1."""
    if x == 1 and _tries(folder) < 1:
        time.sleep(600)
    return x


class OutOfMemoryError(RuntimeError):
    """What torch calls it."""


def run_out(folder, x):
    """Too little memory the first time, for x = 1."""
    if x == 1 and _tries(folder) < 1:
        raise OutOfMemoryError("CUDA out of memory")
    return os.getpid(), x


def wait_for_the_end(folder):
    """Say that it began, and wait."""
    (Path(folder) / "began").write_text(str(os.getpid()))
    time.sleep(600)


def _tries(folder):
    """How often this was asked before."""
    before = len(list(Path(folder).glob("try-*")))
    (Path(folder) / f"try-{before}").touch()
    return before
