"""What ComfyUI's nodes do to guidance, in their words: Perp-Neg, CFGNorm, Mahiro, and scales over frames.

Their arithmetic is on x0 ("denoised") and takes a batch as one picture; here every sample is by itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from stg_lab.errors import GuidanceError
from stg_lab.given import Number, read, shown
from stg_lab.guidance.moment import Moment
from stg_lab.guidance.rules import Rule
from stg_lab.guidance.vectors import inner, orthogonal

SHAPES = ("linear", "triangle")


@dataclass(frozen=True)
class PerpNeg(Rule):
    """Perp-Neg (Armandpour et al. 2023, arXiv 2304.04968): of the negative prompt, only what is orthogonal to the caption.

    Stands on the vector from the empty caption, `STG(g - 1, empty()).perp_neg(n)`, in a call with a negative prompt. With e, c, u
    the predictions of the empty caption, the caption and the negative prompt the sum is `e + g ((c - e) - n perp)`, where perp is
    (u - e) without its part along (c - e): the arithmetic of ComfyUI's `PerpNegGuider`.

    Args:
        strength: n times g / (g - 1); the term's method computes it.
    """

    method: ClassVar[str] = "perp_neg"
    needs_uncond: ClassVar[bool] = True

    strength: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "strength", read("perp_neg", self.strength, Number(endless=True), GuidanceError))
        if not math.isfinite(self.strength):
            raise GuidanceError(f"perp_neg(strength) takes a finite number, got {shown(self.strength)}.")

    def on_part(self, vector: Any, cfg: Any) -> Any:
        return vector - self.strength * orthogonal(vector - cfg, vector)


@dataclass(frozen=True)
class Norm(Rule):
    """CFGNorm: where the guided x0 is longer than the conditional one, over the channels of a place, it is brought down to it.

    As ComfyUI's node, which multiplies by a strength besides; its 1 is meant here. It acts on the whole sum.
    """

    method: ClassVar[str] = "norm"

    def on_vector(self, vector: Any, cond: Any, weak: Any, at: Moment, key: Any) -> Any:
        at.memory[self, "cond"] = at.to_x0({"": cond})[""]
        return vector

    def on_guided(self, guided: Any, at: Moment) -> Any:
        cond, x0 = at.memory[self, "cond"], at.to_x0({"": guided})[""]
        channel = next(d for d in range(1, x0.ndim) if d not in (at.frame, *at.space)) if at.space else x0.ndim - 1
        lengths = [(one * one).sum(axis=channel, keepdims=True) ** 0.5 for one in (cond, x0)]
        ratio = lengths[0] / (lengths[1] + 1e-8)
        return at.from_x0(x0 * (ratio * (ratio < 1) + 1.0 * (ratio >= 1)))


@dataclass(frozen=True)
class Mahiro(Rule):
    """Mahiro: CFG's x0 mixed with the scaled conditional one, by how alike the negative direction and their mean are.

    With g the scale, m = (g c + cfg) / 2 and r(x) the signed square root, s = 2 (1 + mean cosine of r(g u) and r(m) over the
    channels) and the result is `(s cfg + (4 - s) g c) / 4`: ComfyUI's node, whose mean is over its batch and here over a sample.

    Args:
        scale: g; the term's method takes it from the term.
    """

    method: ClassVar[str] = "mahiro"

    scale: float = 4.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", read("mahiro", self.scale, Number(), GuidanceError))

    def on_vector(self, vector: Any, cond: Any, weak: Any, at: Moment, key: Any) -> Any:
        at.memory[self, "both"] = at.to_x0({"c": cond, "u": weak})
        return vector

    def on_guided(self, guided: Any, at: Moment) -> Any:
        both, cfg = at.memory[self, "both"], at.to_x0({"": guided})[""]
        leap, against = self.scale * both["c"], self.scale * both["u"]
        channel = next(d for d in range(1, cfg.ndim) if d not in (at.frame, *at.space)) if at.space else cfg.ndim - 1
        alike = 2 * (_cosine(_root(against), _root((leap + cfg) / 2), channel) + 1)
        return at.from_x0((alike * cfg + (4 - alike) * leap) / 4)


def _root(x: Any) -> Any:
    return abs(x) ** 0.5 * ((x > 0) * 1.0 - (x < 0) * 1.0)


def _cosine(a: Any, b: Any, channel: int) -> Any:
    """Mean over a sample's places of the cosine over channels, shaped to broadcast."""
    lengths = [(one * one).sum(axis=channel, keepdims=True) ** 0.5 for one in (a, b)]
    product = (lengths[0] + (lengths[0] < 1e-8) * 1e-8) * (lengths[1] + (lengths[1] < 1e-8) * 1e-8)
    cosine = (a * b).sum(axis=channel, keepdims=True) / product
    return inner(cosine, cosine * 0 + 1) / math.prod(cosine.shape[1:])


@dataclass(frozen=True)
class Ramp(Rule):
    """The vector times a number that changes over the frames: `VideoLinearCFGGuidance` and `VideoTriangleCFGGuidance`.

    Linear goes from `first` at the first frame to 1 at the last; a triangle from `first` up to 1 in the middle and back. A
    factor is (scale of the frame - 1) / (scale of the term - 1), so that `CFG(g).ramp(0)` begins with no guidance.

    Args:
        first: factor of the first frame.
        shape: "linear" or "triangle".
    """

    method: ClassVar[str] = "ramp"
    linear: ClassVar[bool] = True

    first: float = 0.0
    shape: str = "linear"

    def __post_init__(self) -> None:
        object.__setattr__(self, "first", read("ramp(first)", self.first, Number(), GuidanceError))
        if self.shape not in SHAPES:
            raise GuidanceError(f"ramp(shape) takes 'linear' or 'triangle', got {shown(self.shape)}.")

    def check(self, at: Moment) -> None:
        if not at.space or at.frame in at.space:
            raise GuidanceError(f"{self}: the lab knows of no frames in what this pipeline steps with. Leave it out.")

    def on_vector(self, vector: Any, cond: Any, weak: Any, at: Moment, key: Any) -> Any:
        import numpy as np

        place = np.linspace(0, 1, vector.shape[at.frame])
        rise = place if self.shape == "linear" else 2 * abs(place - np.floor(place + 0.5))
        shape = [1] * vector.ndim
        shape[at.frame] = len(place)
        factors = (self.first + rise * (1 - self.first)).reshape(shape)
        return vector * (vector.new_tensor(factors) if hasattr(vector, "new_tensor") else factors)
