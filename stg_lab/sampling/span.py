"""Which of its scheduler's steps a running call takes. Calls with a `strength` begin further down than the first one."""

from __future__ import annotations

from typing import Any

import torch

from stg_lab.families.running import running


def span(pipe: Any) -> tuple[int, int]:
    """The first step of the scheduler's run that the running call takes, and how many it takes.

    Known at the first denoiser call, before any step is taken: pipelines slice the scheduler's timesteps into a variable of
    their call. Where there is none, some have told the scheduler where they begin; else it is the scheduler's own first step.
    """
    scheduler = pipe.scheduler
    every, mine = _numbers(scheduler.timesteps), _numbers(running(pipe, "timesteps").get("timesteps"))
    for first in range(len(every) - len(mine) + 1) if mine else ():
        if every[first : first + len(mine)] == mine:
            return first, len(mine)
    first = getattr(scheduler, "begin_index", None) or 0
    return first, len(every) - first


def place_of_step(scheduler: Any, timestep: Any) -> int | None:
    """Which of the scheduler's steps starts at a timestep; None where that does not say it."""
    if isinstance(timestep, torch.Tensor) and timestep.numel() != 1:
        return None
    every = _numbers(scheduler.timesteps)
    return every.index(float(timestep)) if float(timestep) in every else None


def _numbers(timesteps: Any) -> list[float]:
    try:
        return [float(t) for t in timesteps]
    except (TypeError, ValueError):  # no list of numbers, whatever its name says
        return []
