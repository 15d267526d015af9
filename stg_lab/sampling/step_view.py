"""One step of a running call, for whoever looks on: a live view, a test of one's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from stg_lab.errors import GuidanceError, did_you_mean
from stg_lab.families.noise import NoiseLevel
from stg_lab.guidance import COND


@dataclass(frozen=True)
class Seen:
    """What is recorded of one step, as soon as it is done.

    Attributes:
        step: of the run, from 0.
        steps: how many steps the run has.
        restart: round of Restart; 0 is the pipeline's own way down.
        level: the noise level at which the step started.
        x_t, predictions: functions that wait for the arrays `(sample, channel, frame, y, x)`, float32; predictions by branch,
            those that were computed at this step.
        unknown: branches whose predictions do not tell what x0 is; it is NaN.
        guidance_scale: the pipeline's own CFG scale; 1 without CFG.
        edited: whether somebody changed the latents between the step before and this one.
    """

    step: int
    steps: int
    restart: int
    level: NoiseLevel
    x_t: Callable[[], np.ndarray]
    predictions: Mapping[str, Callable[[], np.ndarray]]
    unknown: tuple[str, ...] = ()
    guidance_scale: float = 1.0
    edited: bool = False

    def x0(self, branch: str = COND) -> np.ndarray:
        """The one-step prediction of a branch, `(sample, channel, frame, y, x)`, float32, in latents.

        Raises:
            GuidanceError: the branch was not computed at this step.
        """
        if branch not in self.predictions:
            raise GuidanceError(
                f"no branch {branch!r} at step {self.step}.{did_you_mean(branch, self.predictions)} "
                f"There are: {', '.join(self.predictions)}."
            )
        with np.errstate(invalid="ignore"):
            x0 = self.level.one_step(self.x_t(), self.predictions[branch]())
        return np.full_like(x0, np.nan) if branch in self.unknown else x0
