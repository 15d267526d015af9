"""The methods that put a rule on a term: `CFG(4).apg(eta=0)`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from stg_lab.errors import GuidanceError
from stg_lab.given import Called, Number, read
from stg_lab.guidance.arithmetic import Arithmetic
from stg_lab.guidance.bands import Bands
from stg_lab.guidance.nodes import Mahiro, Norm, PerpNeg, Ramp
from stg_lab.guidance.rules import APG, BySignal, Magnitude, Part, Rule, Tangential, ZeroStar
from stg_lab.guidance.state import Cap, Feedback, Momentum, Seeing, Sliding, Until, View


class Ruled(Arithmetic):
    """Rules of terms; a term is a frozen value, so each method gives another one."""

    def apg(self, eta: float = 0.0, *, norm: float = math.inf, momentum: float = 0.0, after: int = 0) -> Any:
        """Adaptive projected guidance on this term's vector; see `APG`."""
        return self._with(APG(eta, norm, momentum, after))

    def zero_star(self, zero_steps: int = 1) -> Any:
        """CFG-Zero* on this term; see `ZeroStar`."""
        return self._with(ZeroStar(zero_steps))

    def tangential(self) -> Any:
        """Tangential damping (TCFG) on this term; see `Tangential`."""
        return self._with(Tangential())

    def magnitude(self, alpha: float = 8.0) -> Any:
        """Magnitude-aware guidance on this term; see `Magnitude`."""
        return self._with(Magnitude(alpha))

    def part(self, which: str) -> Any:
        """Only the part of this term's vector along CFG's ("along_cfg"), or what is left ("beside_cfg"); see `Part`."""
        return self._with(Part(which))

    def bands(self, space: Any = None, time: Any = None, *, cutoff: int | None = None) -> Any:
        """Each band of this term's vector, fine to coarse, times a number of its own; see `Bands`."""
        return self._with(Bands(space, time, cutoff))

    def by_signal(self, power: float = 1.0) -> Any:
        """This term's vector grows with the signal over the run; see `BySignal`."""
        return self._with(BySignal(power))

    def until(self, cosine: float = 0.99) -> Any:
        """Adaptive guidance: this term ends once its two predictions agree; see `Until`."""
        return self._with(Until(cosine))

    def cap(self, ratio: float = 1.0) -> Any:
        """This term's vector is at most so many lengths of the conditional prediction; see `Cap`."""
        return self._with(Cap(ratio))

    def feedback(
        self, temperature: float = 0.01, offset: float = -0.005, *, pi: float = 0.95, most: float = 10.0
    ) -> Any:
        """Feedback guidance on this term, which is CFG(2); see `Feedback`."""
        return self._with(Feedback(temperature, offset, pi, most))

    def seeing(self, factor: Callable[[View], Any]) -> Any:
        """This term's vector times what a function makes of the state; see `Seeing` and `View`."""
        return self._with(Seeing(read("seeing(factor)", factor, Called("a view of the step"), GuidanceError)))

    def sliding(self, rate: float = 5.0, strength: float = 0.1) -> Any:
        """Sliding mode control (SMC-CFG) on this term; see `Sliding`."""
        return self._with(Sliding(rate, strength))

    def momentum(self, weight: float = 0.5, decay: float = 0.5) -> Any:
        """Momentum guidance on the sum; see `Momentum`."""
        return self._with(Momentum(weight, decay))

    def perp_neg(self, strength: float = 1.0) -> Any:
        """Perp-Neg, on the vector from the empty caption; see `PerpNeg`."""
        weight = self._one_scale("perp_neg")
        if not weight:
            raise GuidanceError(
                "perp_neg stands on a term whose scale is not 0, the CFG scale less 1: lab.STG(3, lab.empty()).perp_neg(1)."
            )
        read("perp_neg(strength)", strength, Number(), GuidanceError)
        return self._with(PerpNeg(strength * (weight + 1) / weight))

    def norm(self) -> Any:
        """CFGNorm on the sum; see `Norm`."""
        return self._with(Norm())

    def mahiro(self) -> Any:
        """Mahiro on the sum of which this is the CFG; see `Mahiro`."""
        return self._with(Mahiro(self._one_scale("mahiro")))

    def ramp(self, first: float = 0.0, shape: str = "linear") -> Any:
        """This term's vector times a number that changes over the frames; see `Ramp`."""
        return self._with(Ramp(first, shape))

    def _one_scale(self, rule: str) -> float:
        scale = self.scale  # type: ignore[attr-defined]
        if not isinstance(scale, int | float):
            raise GuidanceError(f"{rule} is for a term with one scale for all steps, got {self}.")
        return scale

    def _with(self, rule: Rule) -> Any:
        return replace(self, rules=(*self.rules, rule))  # type: ignore[type-var, attr-defined]
