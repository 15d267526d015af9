"""Reading the noise level off a scheduler, before it steps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stg_lab.errors import UnsupportedPipelineError
from stg_lab.x0 import OneStep, limit_of, one_step, process, renoise_weight

FLOW_SCHEDULERS = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler")
MULTISTEP_SCHEDULERS = ("UniPCMultistepScheduler", "DPMSolverMultistepScheduler")
SIGMA_SCHEDULERS = ("EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler")
ALPHA_SCHEDULERS = ("DDIMScheduler", "DDPMScheduler", "CogVideoXDDIMScheduler", "CogVideoXDPMScheduler")
#: Schedulers whose step is `x' = A' x0 + B' eps` and nothing else.
SINGLE_STEP = ("FlowMatchEulerDiscreteScheduler", "EulerDiscreteScheduler", "EDMEulerScheduler")
#: Schedulers whose step is that at eta=0, with alphas in place of sigmas.
DDIM = ("DDIMScheduler", "CogVideoXDDIMScheduler")
#: Schedulers that `rewind` can start afresh at any step.
REWINDABLE = (
    "FlowMatchEulerDiscreteScheduler",
    "EulerDiscreteScheduler",
    *MULTISTEP_SCHEDULERS,
    "EulerAncestralDiscreteScheduler",
    "DDIMScheduler",
    "CogVideoXDDIMScheduler",
)


@dataclass(frozen=True)
class NoiseLevel:
    """Where a step starts.

    Attributes:
        timestep: the scheduler's own.
        sigma: the scheduler's own number; it rises from 0 to 1 over a run of Mochi.
        noise: the noise level as papers write it, falling over a run: B for flow models, B / A for others.
        one_step: how x0 follows from a prediction.
        process: signal and noise level (A, B) of `x_t = A x0 + B eps`.
        next_weight: how strongly CFG++ weighs its vector here; None where the scheduler does not allow it.
        after: noise level B at which the step ends; NaN where the scheduler tells alphas and not sigmas.
    """

    timestep: float
    sigma: float
    noise: float
    one_step: OneStep
    process: tuple[float, float]
    next_weight: float | None
    after: float = math.nan

    @property
    def share(self) -> float:
        """Noise as a share, B / (A + B): 1 is pure noise; the sigma of a flow model with the same signal-to-noise ratio."""
        a, b = self.process
        return b / (a + b)

    @property
    def coordinates(self) -> dict[str, float]:
        """As a recording keeps it."""
        return {
            "timestep": self.timestep,
            "sigma": self.sigma,
            "noise": self.noise,
            "x0_sample": self.one_step.sample,
            "x0_prediction": self.one_step.prediction,
            "next_weight": math.nan if self.next_weight is None else self.next_weight,
        }


def noise_level(scheduler: Any, timestep: Tensor | float, said: str = "") -> NoiseLevel:
    """The noise level at which `scheduler.step(..., timestep, ...)` is about to start.

    Must be called before the step: schedulers move their index in it.

    Args:
        said: what the predictions are, where the scheduler does not say (`Family.prediction_type`).

    Raises:
        UnsupportedPipelineError: a scheduler whose x0 the lab does not know.
    """
    said = said or _prediction_type(scheduler)  # first: a scheduler that is not known may not even count its steps
    _check_number(scheduler, timestep)  # before it is looked for
    return level_at(scheduler, step_index(scheduler, timestep), timestep, said)


def level_at(scheduler: Any, index: int, timestep: Tensor | float | None = None, said: str = "") -> NoiseLevel:
    """The noise level at which step `index` of the scheduler's run starts; see `noise_level`."""
    kind, prediction = type(scheduler).__name__, said or _prediction_type(scheduler)
    timestep = float(scheduler.timesteps[index] if timestep is None else timestep)
    _check_number(scheduler, timestep)
    if kind in ALPHA_SCHEDULERS:
        alpha = float(scheduler.alphas_cumprod[int(timestep)])
        sigma, now = math.sqrt((1 - alpha) / alpha) if alpha else math.inf, process(prediction, alpha=alpha)
        step, after = one_step(prediction, alpha=alpha), _alpha_after(scheduler, int(timestep))
        weight = None if after is None else renoise_weight(now, process(prediction, alpha=after))
        ends = math.nan
    else:
        sigma, after = (float(s) for s in scheduler.sigmas[index : index + 2])
        now, step = process(prediction, sigma=sigma), one_step(prediction, sigma=sigma)
        ends = process(prediction, sigma=after)[1]
        plain = kind in SINGLE_STEP and not scheduler.config.get("stochastic_sampling", False)
        weight = renoise_weight(now, process(prediction, sigma=after)) if plain else None
    noise = now[1] if prediction.startswith("flow") else sigma
    return NoiseLevel(timestep, sigma, noise, step, now, weight, ends)


def along_step(rest: Mapping[str, Any], scheduler: Any, sigma: float) -> Tensor | None:
    """What predictions of a step are multiplied with to be of the kind that `noise_level` says, where its x0 then is the one that the
    scheduler steps towards; None where they are of that kind.

    With `per_token_timesteps` `FlowMatchEulerDiscreteScheduler` steps against the prediction that it is handed, each token from a noise
    level of its own (diffusers 0.42.1).

    Args:
        rest: arguments of `scheduler.step`.
        sigma: of the step.
    """
    tokens = rest.get("per_token_timesteps")
    if tokens is None:
        return None
    return -(tokens / scheduler.config.num_train_timesteps / sigma)[..., None]


def _alpha_after(scheduler: Any, timestep: int) -> float | None:
    """The cumulative alpha that a step of DDIM (eta=0) ends at; None where the scheduler steps in another way."""
    if type(scheduler).__name__ not in DDIM or limit_of(type(scheduler).__name__, scheduler.config):
        return None
    after = timestep - scheduler.config.num_train_timesteps // scheduler.num_inference_steps
    return float(scheduler.alphas_cumprod[after] if after >= 0 else scheduler.final_alpha_cumprod)


def _check_number(scheduler: Any, timestep: Tensor | float) -> None:
    if math.isnan(timestep):  # FlowMatchEuler stretches a schedule of one step to its shift_terminal by 0 / 0
        raise UnsupportedPipelineError(
            f"{type(scheduler).__name__} has made a schedule of {len(scheduler.timesteps)} steps that are not numbers. "
            "Take more steps."
        )


def _prediction_type(scheduler: Any) -> str:
    """What the predictions are, in the words of `x0.PREDICTION_TYPES`."""
    kind, config = type(scheduler).__name__, scheduler.config
    given = config.get("prediction_type")
    if kind in FLOW_SCHEDULERS:
        return "flow_reversed" if config.get("invert_sigmas", False) else "flow"
    if kind in MULTISTEP_SCHEDULERS and given == "flow_prediction":
        return "flow"
    if kind in SIGMA_SCHEDULERS and given in ("epsilon", "v_prediction"):
        return f"{given}_sigma"
    if kind in ALPHA_SCHEDULERS and given in ("epsilon", "v_prediction", "sample"):
        return given
    raise UnsupportedPipelineError(
        f"the lab does not know how {kind} (prediction_type={given!r}) makes x0. Known: "
        f"{', '.join((*FLOW_SCHEDULERS, *SIGMA_SCHEDULERS, *ALPHA_SCHEDULERS))}, and {', '.join(MULTISTEP_SCHEDULERS)} "
        "with flow_prediction."
    )


def is_known(scheduler: Any) -> bool:
    """Whether x0 follows from what a scheduler is given."""
    try:
        return hasattr(scheduler, "config") and bool(_prediction_type(scheduler))
    except UnsupportedPipelineError:
        return False


def step_index(scheduler: Any, timestep: Tensor | float) -> int:
    """The index of the coming step. `step_index` is None before the first one, even after `set_begin_index(0)`."""
    if not hasattr(scheduler, "step_index"):  # schedulers that look everything up by the timestep
        return int((scheduler.timesteps == int(timestep)).nonzero()[0])
    if scheduler.step_index is not None:
        return scheduler.step_index
    if scheduler.begin_index is not None:
        return scheduler.begin_index
    if not isinstance(timestep, Tensor):
        timestep = torch.as_tensor(timestep)
    return scheduler.index_for_timestep(timestep.to(scheduler.timesteps.device))


def rewind(scheduler: Any, index: int | None) -> None:
    """Make a scheduler start afresh at step `index` of its run, as if nothing had been sampled before.

    Raises:
        UnsupportedPipelineError: a scheduler with a state that the lab does not know.
    """
    kind = type(scheduler).__name__
    if kind not in REWINDABLE:
        raise UnsupportedPipelineError(f"Restart cannot rewind {kind}. It knows: {', '.join(REWINDABLE)}.")
    if kind not in ALPHA_SCHEDULERS:  # those have no counter
        scheduler._step_index = index
    if kind in MULTISTEP_SCHEDULERS:  # their memory of earlier predictions is of another trajectory
        scheduler.model_outputs = [None] * scheduler.config.solver_order
        scheduler.lower_order_nums = 0
    if kind == "UniPCMultistepScheduler":
        scheduler.timestep_list = [None] * scheduler.config.solver_order
        scheduler.last_sample = None
