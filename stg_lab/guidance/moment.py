"""Where in a run a guidance is asked for its prediction."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from stg_lab.errors import GuidanceError
from stg_lab.guidance.vectors import FRAME
from stg_lab.x0 import OneStep


@dataclass(frozen=True)
class Moment:
    """One step of a run.

    Attributes:
        step: which step, from 0.
        steps: how many steps the run has.
        sigma: noise level at which the step starts, B or B / A, falling over the run; NaN where it is not known.
        signal, level: signal and noise level (A, B) of `x_t = A x0 + B eps`; NaN where they are not known.
        after: noise level (B) at which the step ends; NaN where it is not known.
        next_weight: how strongly CFG++ weighs its vector at this step (`x0.renoise_weight`); None where the sampler does
            not allow it.
        one_step: coefficients of x0, for guidance in x0 space.
        x_t: the latents before the step, for guidance in x0 space.
        frame: which dimension of the predictions counts the frames.
        space: which ones are y and x; empty where tokens are packed. Pictures have no frames: then `frame` is among them.
        given: how many first frames were given to the pipeline and are not stepped; what is predicted there is thrown away.
        by_frame: where frames have CFG scales of their own (SVD): those of a call with some scale, shaped to multiply
            predictions.
        memory: what methods with a momentum carry from step to step; a new run brings a new one.
    """

    step: int
    steps: int
    sigma: float = math.nan
    next_weight: float | None = None
    one_step: OneStep | None = None
    x_t: Any = None
    memory: dict[Any, Any] = field(default_factory=dict, compare=False)
    frame: int = FRAME
    space: tuple[int, ...] = (FRAME + 1, FRAME + 2)
    given: int = 0
    by_frame: Callable[[float], Any] | None = field(default=None, compare=False)
    signal: float = math.nan
    level: float = math.nan
    after: float = math.nan

    @property
    def flow(self) -> bool:
        """Whether the step is one of a flow model, whose signal and noise add up to one."""
        return abs(self.signal + self.level - 1) < 1e-6

    @property
    def stepped(self) -> tuple[slice, ...]:
        """Index of what the step moves, in arrays like the predictions."""
        return (slice(None),) * self.frame + (slice(self.given, None),)

    def to_x0(self, predictions: Mapping[str, Any]) -> dict[str, Any]:
        """The one-step predictions of every branch."""
        step, x_t = self._x0()
        return {name: step(x_t, prediction) for name, prediction in predictions.items()}

    def from_x0(self, x0: Any) -> Any:
        """The prediction whose one-step prediction is `x0`."""
        step, x_t = self._x0()
        return (x0 - step.sample * x_t) / step.prediction

    def _x0(self) -> tuple[OneStep, Any]:
        if self.one_step is None or self.x_t is None:
            raise GuidanceError("guidance in x0 space needs the step's x_t and its coefficients of x0.")
        if self.one_step.prediction == 0 or not math.isfinite(self.one_step.prediction):
            level = "no noise" if self.one_step.prediction == 0 else "no signal"
            raise GuidanceError(f"step {self.step} starts with {level}, where x0 does not say what the prediction is.")
        return self.one_step, self.x_t
