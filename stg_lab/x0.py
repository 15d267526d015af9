"""One-step predictions: x0 from a noisy sample and a prediction, for every prediction type.

For every sampler of the field x0 is linear in both: `x0 = a * x_t + b * prediction`, where a and b depend on the noise
level alone. The two numbers say everything, so a recording keeps them and needs no scheduler afterwards.

Some samplers then limit x0 before they step on (`limit_of`). What the lab calls x0 is the model's own, before that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stg_lab.errors import GuidanceError, did_you_mean

#: Prediction types, and the forward process that each belongs to.
PREDICTION_TYPES = {
    "flow": "x_t = (1 - sigma) x0 + sigma eps, predicts eps - x0",
    "flow_reversed": "x_t = sigma x0 + (1 - sigma) eps, predicts x0 - eps (Mochi)",
    "epsilon": "x_t = sqrt(alpha) x0 + sqrt(1 - alpha) eps, predicts eps; alpha is the cumulative product",
    "v_prediction": "the same process, predicts sqrt(alpha) eps - sqrt(1 - alpha) x0",
    "epsilon_sigma": "x_t = x0 + sigma eps, predicts eps",
    "v_prediction_sigma": "x_t = x0 + sigma eps, predicts v of the variance-preserving process (SVD)",
    "sample": "predicts x0 itself",
    "sample_sigma": "x_t = x0 + sigma eps, predicts x0 itself (Cosmos)",
}


#: Schedulers that clamp x0 where their `clip_sample` is set; CogVideoX' have the setting and do nothing about it.
CLAMPING = ("DDIMScheduler", "DDPMScheduler")
#: Schedulers that pull x0 in by a quantile of it where their `thresholding` is set.
THRESHOLDING = (*CLAMPING, "UniPCMultistepScheduler", "DPMSolverMultistepScheduler")


@dataclass(frozen=True)
class OneStep:
    """`x0 = sample * x_t + prediction * output`: the one-step prediction at one noise level."""

    sample: float
    prediction: float

    def __call__(self, x_t: Any, output: Any) -> Any:
        """x0 of one prediction; tensors, numpy arrays and DataArrays of any shape, both alike."""
        return self.sample * x_t + self.prediction * output


def one_step(prediction_type: str, *, sigma: float = math.nan, alpha: float = math.nan) -> OneStep:
    """The coefficients of x0 for a prediction type at a noise level.

    Args:
        prediction_type: one of `PREDICTION_TYPES`.
        sigma: noise level, for the types whose process is written with sigma.
        alpha: cumulative product of alphas at the timestep, for "epsilon" and "v_prediction".

    Raises:
        GuidanceError: unknown prediction type, or the noise level it needs was not given.

    >>> one_step("flow", sigma=0.25)
    OneStep(sample=1.0, prediction=-0.25)
    """
    if prediction_type not in PREDICTION_TYPES:
        raise GuidanceError(
            f"prediction type {prediction_type!r} is unknown.{did_you_mean(prediction_type, PREDICTION_TYPES)} "
            f"Known: {', '.join(PREDICTION_TYPES)}."
        )
    needed = alpha if prediction_type in ("epsilon", "v_prediction") else sigma
    if prediction_type != "sample" and math.isnan(needed):
        name = "alpha" if prediction_type in ("epsilon", "v_prediction") else "sigma"
        raise GuidanceError(f"prediction type {prediction_type!r} needs {name}=...")
    if prediction_type == "flow":
        return OneStep(1.0, -sigma)
    if prediction_type == "flow_reversed":
        return OneStep(1.0, 1.0 - sigma)
    if prediction_type == "epsilon":
        if alpha == 0:  # nothing but noise is left, and the noise does not tell what x0 was
            return OneStep(math.inf, -math.inf)
        return OneStep(alpha**-0.5, -(((1 - alpha) / alpha) ** 0.5))
    if prediction_type == "v_prediction":
        return OneStep(alpha**0.5, -((1 - alpha) ** 0.5))
    if prediction_type == "epsilon_sigma":
        return OneStep(1.0, -sigma)
    if prediction_type == "v_prediction_sigma":
        return OneStep(1 / (sigma**2 + 1), -sigma / (sigma**2 + 1) ** 0.5)
    return OneStep(0.0, 1.0)


def process(prediction_type: str, *, sigma: float = math.nan, alpha: float = math.nan) -> tuple[float, float]:
    """Signal and noise level (A, B) of `x_t = A x0 + B eps` at a noise level; NaN for type "sample", which leaves it open."""
    if prediction_type == "flow":
        return 1.0 - sigma, sigma
    if prediction_type == "flow_reversed":
        return sigma, 1.0 - sigma
    if prediction_type in ("epsilon", "v_prediction"):
        return alpha**0.5, (1 - alpha) ** 0.5
    if prediction_type in ("epsilon_sigma", "v_prediction_sigma", "sample_sigma"):
        return 1.0, sigma
    return math.nan, math.nan


def renoise_weight(now: tuple[float, float], after: tuple[float, float]) -> float:
    """What CFG++ multiplies its strength by on a sampler that steps with `x' = A' x0 + B' eps`.

    CFG++ takes x0 from the guided prediction `u + lambda (c - u)` and eps from the unconditional one. Both are linear in the
    prediction, so the same step follows from the single prediction `u + lambda w (c - u)` with `w = A' B / (A' B - A B')`.

    Args:
        now: (A, B) before the step.
        after: (A', B') after it.

    Returns:
        w; NaN for a step that stays at its noise level, where no single prediction does it.
    """
    (a, b), (a1, b1) = now, after
    moved = a1 * b - a * b1
    return a1 * b / moved if moved else math.nan


def noise_up(low: tuple[float, float], high: tuple[float, float]) -> tuple[float, float]:
    """Coefficients that carry a sample from a lower noise level to a higher one: `x_high = signal * x_low + noise * eps`.

    The forward process between the two: for flow, for variance-preserving and for variance-exploding models alike.

    Args:
        low, high: (A, B) of the two levels.

    Raises:
        GuidanceError: `high` is not the noisier one, so no noise leads there.
    """
    (a, b), (a1, b1) = low, high
    if not (a and a1 * b <= a * b1):
        raise GuidanceError(f"noise leads from a low level to a higher one, not from (A, B) = {low} to {high}.")
    signal = a1 / a
    return signal, math.sqrt(max(b1 * b1 - signal * signal * b * b, 0.0))


def limit_of(scheduler: str, config: Mapping[str, Any]) -> str:
    """How a scheduler limits x0 before it steps on; "" where it takes the model's own.

    Args:
        scheduler: name of its class.
        config: its configuration, such as a recording keeps in `settings["scheduler"]`.

    >>> limit_of("DDIMScheduler", {"clip_sample": True, "clip_sample_range": 1.0})
    'clip_sample=True: to [-1, 1]'
    """
    if scheduler in THRESHOLDING and config.get("thresholding"):
        return f"thresholding=True: to the {config.get('dynamic_thresholding_ratio', 0.995):g} quantile of its size"
    if scheduler in CLAMPING and config.get("clip_sample"):
        end = config.get("clip_sample_range", 1.0)
        return f"clip_sample=True: to [-{end:g}, {end:g}]"
    return ""
