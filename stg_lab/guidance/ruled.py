"""The methods that put a rule on a term: `CFG(4).apg(eta=0)`."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from stg_lab.guidance.arithmetic import Arithmetic
from stg_lab.guidance.bands import Bands
from stg_lab.guidance.rules import APG, Magnitude, Part, Rule, Tangential, ZeroStar


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

    def _with(self, rule: Rule) -> Any:
        return replace(self, rules=(*self.rules, rule))  # type: ignore[type-var, attr-defined]
