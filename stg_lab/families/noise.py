"""Reading the noise level off a scheduler, before it steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stg_lab.errors import UnsupportedPipelineError
from stg_lab.x0 import OneStep, one_step

FLOW_SCHEDULERS = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler")
SIGMA_SCHEDULERS = ("UniPCMultistepScheduler", "DPMSolverMultistepScheduler")


@dataclass(frozen=True)
class NoiseLevel:
    """Where a step starts: the scheduler's timestep, its sigma, and how x0 follows from a prediction."""

    timestep: float
    sigma: float
    one_step: OneStep


def noise_level(scheduler: Any, timestep: Tensor | float) -> NoiseLevel:
    """The noise level at which `scheduler.step(..., timestep, ...)` is about to start.

    Must be called before the step: schedulers move their index in it.

    Raises:
        UnsupportedPipelineError: a scheduler whose x0 the lab does not know.
    """
    kind, config = type(scheduler).__name__, scheduler.config
    if kind in FLOW_SCHEDULERS:
        prediction = "flow_reversed" if config.get("invert_sigmas", False) else "flow"
    elif kind in SIGMA_SCHEDULERS and config.get("prediction_type") == "flow_prediction":
        prediction = "flow"
    else:
        raise UnsupportedPipelineError(
            f"the lab does not know how {kind} (prediction_type={config.get('prediction_type')!r}) makes x0. "
            f"Known: {', '.join(FLOW_SCHEDULERS)}, and {', '.join(SIGMA_SCHEDULERS)} with flow_prediction."
        )
    sigma = float(scheduler.sigmas[step_index(scheduler, timestep)])
    return NoiseLevel(float(timestep), sigma, one_step(prediction, sigma=sigma))


def step_index(scheduler: Any, timestep: Tensor | float) -> int:
    """The index of the coming step. `step_index` is None before the first one, even after `set_begin_index(0)`."""
    if scheduler.step_index is not None:
        return scheduler.step_index
    if scheduler.begin_index is not None:
        return scheduler.begin_index
    if not isinstance(timestep, Tensor):
        timestep = torch.as_tensor(timestep)
    return scheduler.index_for_timestep(timestep.to(scheduler.timesteps.device))
