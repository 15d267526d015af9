"""Which of its scheduler's steps a running call takes. Calls with a `strength` begin further down than the first one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from stg_lab.errors import GuidanceError, UnsupportedPipelineError
from stg_lab.families import Family
from stg_lab.families.noise import level_at
from stg_lab.families.running import running
from stg_lab.guidance import Guidance, Moment


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


def placed(at: Moment, pipe: Any, family: Family, offset: int, *, needed: bool) -> Moment:
    """A moment of a run with its noise level, as far as the scheduler tells, and with where the family keeps frames.

    Args:
        offset: the run's first step in that of the scheduler.
        needed: whether it will not do without a noise level.
    """
    dims = family.layout.partition(";")[0].split(", ")
    frame = dims.index("frame") if "frame" in dims else at.frame
    space = tuple(dims.index(side) for side in ("y", "x") if side in dims)
    at = replace(at, given=family.given_frames(pipe, at_step=True), frame=frame, space=space)
    try:
        level = level_at(pipe.scheduler, offset + at.step, said=family.prediction_type)
    except UnsupportedPipelineError:
        if needed:
            raise
        return at  # enough for all that asks no noise level
    signal, noise = level.process
    return replace(
        at, sigma=level.noise, next_weight=level.next_weight, one_step=level.one_step, signal=signal, level=noise
    )


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
