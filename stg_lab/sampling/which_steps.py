"""Which of its scheduler's steps a running call takes. Calls with a `strength` begin further down than the first one."""

from __future__ import annotations

from typing import Any

import torch

from stg_lab.errors import GuidanceError
from stg_lab.families.caller_frame import running
from stg_lab.guidance import Guidance


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


def begun(guidance: Guidance, pipe: Any, timestep: Any, expected: tuple[int, int]) -> tuple[int, int]:
    """`span`, once the first step's timestep is there: as expected, or whatever counts steps has counted wrongly.

    Raises:
        GuidanceError: it is another step, and there is a guidance.
    """
    every = _numbers(pipe.scheduler.timesteps)
    given = float(timestep) if not isinstance(timestep, torch.Tensor) or timestep.numel() == 1 else None
    if given not in every or given == every[expected[0]]:
        return expected
    first = every.index(given)
    if guidance != Guidance():
        raise GuidanceError(
            f"{type(pipe).__name__} begins at step {first} of the {len(every)} that its scheduler has made, and its call does "
            "not say so before (in a variable `timesteps`). Windows, schedules and noise levels cannot be told in time. "
            "Record only: guidance=None."
        )
    return first, len(every) - first


def check_restart(guidance: Guidance, pipe: Any, taken: int) -> None:
    """Restart is for whole runs; raises `GuidanceError` in others."""
    every = len(pipe.scheduler.timesteps)
    if guidance.restarts is not None and taken < every:
        raise GuidanceError(
            f"Restart goes back up a whole run, and this call takes only {taken} of the {every} steps of its scheduler "
            "(does it have a strength below 1?). Leave .restart(...) out."
        )


def _numbers(timesteps: Any) -> list[float]:
    try:
        return [float(t) for t in timesteps]
    except (TypeError, ValueError):  # no list of numbers, whatever its name says
        return []
