"""Scores of a weak model at one state: numbers about its guidance vector and its one-step prediction.

Pure functions of numpy arrays `(sample, channel, frame, y, x)`; each gives one float64 for each sample. `c` is the conditional
prediction, `u` the unconditional one, `p` the weak model's, and `g = c - p` its guidance vector.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from stg_lab.guidance import vectors

Decode = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Score:
    """What a score is: its name in words, definition, unit and range."""

    long_name: str
    definition: str
    units: str
    range: str

    def attrs(self) -> dict[str, str]:
        """As attributes of a variable."""
        return {
            "long_name": self.long_name,
            "definition": self.definition,
            "units": self.units,
            "valid_range": self.range,
        }


_SPACE = "1 - energy of the mean over y and x / energy, where energy is the sum of squares of g"
_TIME = "1 - energy of the mean over frames / energy, where energy is the sum of squares of g"
#: Every score of a sweep, in order.
SCORES = {
    "rms": Score("RMS of the guidance vector", "sqrt(mean(g^2)), g = c - p", "prediction", "0 and above"),
    "l2": Score("norm of the guidance vector", "sqrt(sum(g^2)), g = c - p", "prediction", "0 and above"),
    "ratio": Score("length relative to CFG's vector", "|c - p| / |c - u|; NaN without u", "1", "0 and above"),
    "cosine_cfg": Score("cosine to CFG's vector", "<c - p, c - u> / (|c - p| |c - u|); NaN without u", "1", "-1 to 1"),
    "cosine_cond": Score("cosine to the conditional prediction", "<c - p, c> / (|c - p| |c|)", "1", "-1 to 1"),
    "x0_distance": Score("change of the one-step prediction", "|x0(p) - x0(c)| / |x0(c)|", "1", "0 and above"),
    "spatial_energy": Score("share of g that varies over space", _SPACE, "1", "0 to 1"),
    "temporal_energy": Score("share of g that varies over time", _TIME, "1", "0 to 1"),
    "sharpness_lost": Score(
        "sharpness that the weak model loses",
        "1 - S(x0(p)) / S(x0(c)), where S is the mean squared difference of neighbours along y plus that along x",
        "1",
        "1 and below; negative where the weak model is sharper",
    ),
}


def scores(
    cond: np.ndarray,
    weak: np.ndarray,
    uncond: np.ndarray | None,
    x0_cond: np.ndarray,
    x0_weak: np.ndarray,
    decode: Decode | None = None,
) -> dict[str, np.ndarray]:
    """All of `SCORES` for one weak model.

    Args:
        cond, weak, uncond: predictions `(sample, channel, frame, y, x)`; no `uncond` where the run has no CFG.
        x0_cond, x0_weak: the one-step predictions that follow from `cond` and `weak`.
        decode: latents to video `(sample, frame, height, width, 3)`, for sharpness; None measures it on the latents.

    Returns:
        One float64 array `(sample,)` for each score. What has no value (a cosine to a vector of length zero) is NaN.
    """
    vector = np.asarray(cond, np.float64) - weak
    cfg = np.full_like(vector, np.nan) if uncond is None else np.asarray(cond, np.float64) - uncond
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "rms": rms(vector),
            "l2": norm(vector),
            "ratio": norm(vector) / norm(cfg),
            "cosine_cfg": cosine(vector, cfg),
            "cosine_cond": cosine(vector, cond),
            "x0_distance": distance(x0_weak, x0_cond),
            "spatial_energy": varying(vector, axes=(3, 4)),
            "temporal_energy": varying(vector, axes=(2,)),
            "sharpness_lost": 1 - sharpness(x0_weak, decode) / sharpness(x0_cond, decode),
        }


def inner(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Inner product of each sample, in double precision."""
    return vectors.inner(np.asarray(a, np.float64), b).reshape(len(a))


def norm(x: np.ndarray) -> np.ndarray:
    """Euclidean norm of each sample."""
    return inner(x, x) ** 0.5


def rms(x: np.ndarray) -> np.ndarray:
    """Root mean square of each sample: the norm, over the square root of the number of values."""
    return norm(x) / np.prod(x.shape[1:]) ** 0.5


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine of the angle between two vectors, of each sample; NaN where one of them is zero."""
    return np.clip(inner(a, b) / (norm(a) * norm(b)), -1, 1)


def distance(x: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """`|x - reference| / |reference|` of each sample."""
    return norm(np.asarray(x, np.float64) - reference) / norm(reference)


def varying(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Share of a sample's energy that is not constant along `axes`: 0 for what is, 1 for what has mean 0 along them.

    By Parseval it is the share of all frequencies along these axes but the zeroth.
    """
    x = np.asarray(x, np.float64)
    mean = x.mean(axes, keepdims=True)
    # The energy of what is left, rather than a difference of energies: then what is constant gives 0, without rounding.
    return inner(x - mean, x - mean) / inner(x, x)


def sharpness(x0: np.ndarray, decode: Decode | None = None) -> np.ndarray:
    """Mean squared spatial gradient of each sample: of the decoded frames, or of the latents without `decode`."""
    x = np.moveaxis(x0, 1, -1) if decode is None else decode(x0)  # (sample, frame, y, x, channel)
    x = np.asarray(x, np.float64)
    down, right = np.diff(x, axis=2), np.diff(x, axis=3)
    return sum((d * d).reshape(len(x), -1).mean(1) for d in (down, right) if d.size) + np.zeros(len(x))
