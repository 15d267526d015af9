"""Reading the noise level off a scheduler, before it steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stg_lab.errors import UnsupportedPipelineError
from stg_lab.x0 import OneStep, one_step, process, renoise_weight

FLOW_SCHEDULERS = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler")
SIGMA_SCHEDULERS = ("UniPCMultistepScheduler", "DPMSolverMultistepScheduler")
#: Schedulers whose step is `x' = A' x0 + B' eps` and nothing else.
SINGLE_STEP = ("FlowMatchEulerDiscreteScheduler",)


@dataclass(frozen=True)
class NoiseLevel:
    """Where a step starts.

    Attributes:
        timestep: the scheduler's own.
        time: the timestep as a share of the training timesteps, 1 for pure noise.
        sigma: the scheduler's own noise level.
        one_step: how x0 follows from a prediction.
        process: signal and noise level (A, B) of `x_t = A x0 + B eps`.
        next_weight: how strongly CFG++ weighs its vector here; None where the scheduler does not allow it.
    """

    timestep: float
    time: float
    sigma: float
    one_step: OneStep
    process: tuple[float, float]
    next_weight: float | None


def noise_level(scheduler: Any, timestep: Tensor | float) -> NoiseLevel:
    """The noise level at which `scheduler.step(..., timestep, ...)` is about to start.

    Must be called before the step: schedulers move their index in it.

    Raises:
        UnsupportedPipelineError: a scheduler whose x0 the lab does not know.
    """
    _prediction_type(scheduler)  # first: a scheduler that is not known may not even count its steps
    return level_at(scheduler, step_index(scheduler, timestep), timestep)


def level_at(scheduler: Any, index: int, timestep: Tensor | float | None = None) -> NoiseLevel:
    """The noise level at which step `index` of the scheduler's run starts; see `noise_level`."""
    prediction = _prediction_type(scheduler)
    timestep = float(scheduler.timesteps[index] if timestep is None else timestep)
    sigma, after = (float(s) for s in scheduler.sigmas[index : index + 2])
    now = process(prediction, sigma=sigma)
    single = type(scheduler).__name__ in SINGLE_STEP and not scheduler.config.get("stochastic_sampling", False)
    return NoiseLevel(
        timestep,
        timestep / scheduler.config.num_train_timesteps,
        sigma,
        one_step(prediction, sigma=sigma),
        now,
        renoise_weight(now, process(prediction, sigma=after)) if single else None,
    )


def _prediction_type(scheduler: Any) -> str:
    kind, config = type(scheduler).__name__, scheduler.config
    if kind in FLOW_SCHEDULERS:
        return "flow_reversed" if config.get("invert_sigmas", False) else "flow"
    if kind in SIGMA_SCHEDULERS and config.get("prediction_type") == "flow_prediction":
        return "flow"
    raise UnsupportedPipelineError(
        f"the lab does not know how {kind} (prediction_type={config.get('prediction_type')!r}) makes x0. "
        f"Known: {', '.join(FLOW_SCHEDULERS)}, and {', '.join(SIGMA_SCHEDULERS)} with flow_prediction."
    )


def step_index(scheduler: Any, timestep: Tensor | float) -> int:
    """The index of the coming step. `step_index` is None before the first one, even after `set_begin_index(0)`."""
    if scheduler.step_index is not None:
        return scheduler.step_index
    if scheduler.begin_index is not None:
        return scheduler.begin_index
    if not isinstance(timestep, Tensor):
        timestep = torch.as_tensor(timestep)
    return scheduler.index_for_timestep(timestep.to(scheduler.timesteps.device))


def rewind(scheduler: Any, index: int) -> None:
    """Make a scheduler start afresh at step `index` of its run, as if nothing had been sampled before.

    Raises:
        UnsupportedPipelineError: a scheduler with a state that the lab does not know.
    """
    kind = type(scheduler).__name__
    if kind not in (*SINGLE_STEP, *SIGMA_SCHEDULERS):
        raise UnsupportedPipelineError(
            f"Restart cannot rewind {kind}. It knows: {', '.join((*SINGLE_STEP, *SIGMA_SCHEDULERS))}."
        )
    scheduler._step_index = index
    if kind in SIGMA_SCHEDULERS:  # their memory of earlier predictions is of another trajectory
        scheduler.model_outputs = [None] * scheduler.config.solver_order
        scheduler.lower_order_nums = 0
    if kind == "UniPCMultistepScheduler":
        scheduler.timestep_list = [None] * scheduler.config.solver_order
        scheduler.last_sample = None
