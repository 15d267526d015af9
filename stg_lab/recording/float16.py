"""What float16 recordings keep of a prediction, so that neither it nor x0 loses digits.

x0 is `a * x_t + b * prediction`. At the noisy end of an epsilon model a and b are in the hundreds, and a rounded prediction would
give an x0 that is off by hundreds of roundings. There x0 itself is kept, and the prediction follows from it and from the x_t that
is kept: what their roundings do to it is divided by b, and x0 made from the two is the one that was kept.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stg_lab.x0 import OneStep

#: Rounding of float16 to nearest, relative: what x0 and predictions are off by, in units of the larger of the two and of
#: what x_t adds to them.
ROUNDING = 2.0**-11


def keeps_x0(step: OneStep) -> bool:
    """Whether x0 is kept in place of the predictions of a step: where it would multiply their rounding."""
    return 1 < abs(step.prediction) < math.inf and math.isfinite(step.sample)


def kept(step: OneStep, x_t: np.ndarray, prediction: Any) -> Any:
    """What is kept of a prediction, float32; still to be rounded."""
    if not keeps_x0(step):
        return prediction
    return np.float32(step.sample) * x_t + np.float32(step.prediction) * np.asarray(prediction, np.float32)


def predicted(a: Any, b: Any, x0_kept: Any, x_t: Any, numbers: Any) -> Any:
    """The predictions, float32, from what was kept of them.

    Args:
        a, b, x0_kept: of each step: the coefficients of x0, and whether `keeps_x0`. DataArrays along `step`, as all that follows.
        x_t: the latents before each step.
        numbers: what `kept` gave, rounded.
    """
    numbers = numbers.astype(np.float32)
    a, b = a.where(x0_kept, 0.0).astype(np.float32), b.where(x0_kept, 1.0).astype(np.float32)
    return ((numbers - a * x_t.astype(np.float32)) / b).where(x0_kept, numbers)
