"""The terms of a guidance: `CFG`, `CFGpp`, `STG`, and `Probe`, which only records."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

from stg_lab.errors import GuidanceError, did_you_mean
from stg_lab.given import shown
from stg_lab.guidance.moment import Moment
from stg_lab.guidance.rules import Rule
from stg_lab.guidance.scales import number
from stg_lab.guidance.term import COND, GUIDED, REFERENCES, UNCOND, Term, WeakModel

__all__ = ["CFG", "COND", "GUIDED", "REFERENCES", "STG", "UNCOND", "CFGpp", "Probe", "Term", "WeakModel", "Weightless"]


@dataclass(frozen=True)
class CFG(Term):
    """Classifier-free guidance in diffusers' convention: `u + scale (c - u)`; 1 means off.

    Args:
        scale: at least 1, the pipeline's own `guidance_scale`. A list with one scale for each step, or a function of the
            share of the steps done (0 at the first), makes it a schedule.
        start, stop: shares of the steps between which it acts; outside, the scale is 1.
        sigma: (low, high), acts where low < sigma <= high: the guidance interval of Kynkaanniemi et al. 2024.

    Two of them add up as all terms do, by their weights g - 1: `CFG(4) + CFG(3)` is `CFG(6)` where both act.

    In pipelines whose frames have scales of their own (SVD) it is the last frame's, as in their call; where it acts, the
    others rise to it from the call's `min_guidance_scale`, whatever its rules and schedule.

    Raises:
        GuidanceError: scale below 1, or no proper window.
    """

    #: Whether frames may have scales of their own.
    by_frame: ClassVar[bool] = True

    def _check_scale(self, scale: float) -> None:
        super()._check_scale(scale)
        if scale < 1:
            raise GuidanceError(
                f"CFG({number(scale)}) is below 1, where diffusers pipelines do not compute the unconditional prediction. "
                "Use CFG(1.0) for no guidance, or leave the term out."
            )

    def weight(self, at: Moment) -> float:
        return self.scale_at(at.step, at.steps) - 1

    @property
    def never(self) -> bool:
        return isinstance(self.scale, int | float) and self.scale == 1

    @property
    def plain(self) -> bool:
        """Whether this is just what the pipeline does itself with its `guidance_scale`."""
        return not self.rules or self.never


@dataclass(frozen=True)
class CFGpp(CFG):
    """CFG++ (Chung et al. 2024, arXiv 2406.08070): x0 from the guided prediction, the noise from the unconditional one.

    On a sampler whose step is `x' = A' x0 + B' eps` this is CFG with another scale at every step,
    `strength * A' B / (A' B - A B')`, where A, B are the signal and noise levels before and A', B' after the step.
    Those are Euler's and, at eta=0, DDIM's. Samplers that take another kind of step (multistep, stochastic, x0 clipped) are
    refused.

    Args:
        scale: lambda, 0 to 1, or a schedule as in `CFG`; 0 is the unconditional sampler, 1 the strongest that interpolates.
        start, stop, sigma: the part of the run where it acts, as in `CFG`; outside, the prediction is the conditional one.

    It is the same for all frames, also in pipelines whose CFG scale is not.
    """

    by_frame: ClassVar[bool] = False

    def _check_scale(self, scale: float) -> None:
        if not 0 <= scale <= 1:
            raise GuidanceError(f"CFGpp(strength) takes 0 to 1, got {number(scale)}.")

    def check(self, at: Moment) -> None:
        super().check(at)
        if at.next_weight is None:
            raise GuidanceError(
                "CFG++ needs a sampler that steps from one noise level to the next with x0 and noise alone, such as "
                "FlowMatchEulerDiscreteScheduler, or DDIMScheduler that does not clip x0; this one does not, or the noise levels of "
                "the step are not known."
            )

    def weight(self, at: Moment) -> float:
        self.check(at)
        assert at.next_weight is not None
        if math.isnan(at.next_weight):
            raise GuidanceError(
                f"CFG++ has no noise to take away: step {at.step} ends at the noise level it starts at. Give the "
                f"scheduler final_sigmas_type='zero', or end {self} before that step: stop={at.step}/{at.steps}."
            )
        return self.scale_at(at.step, at.steps) * at.next_weight - 1

    @property
    def never(self) -> bool:
        return False

    @property
    def plain(self) -> bool:
        return False


@dataclass(frozen=True)
class STG(Term):
    """Spatiotemporal Skip Guidance (Hyung et al. 2025, eq. 13): `+ scale (c - weak)`.

    The same term is Autoguidance, PAG, SEG, TPG or S2-Guidance: what differs is the weak model.

    Args:
        scale: weight of the vector, or a schedule as in `CFG`. At 0 the weak pass is not run; `Probe` records without acting.
        weak: the weak model, for example `lab.skip([5])`.
        start, stop, sigma: the part of the run where it acts, as in `CFG`; outside, the weak pass is not run.
        reference: what the vector points to: "cond", "uncond" or "cfg" (see `REFERENCES` and `lab.convention`).

    Raises:
        GuidanceError: `weak` is not a weak model, the scale is not finite, or no proper window.
    """

    weak: WeakModel
    reference: str = field(default=COND, kw_only=True)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not hasattr(self.weak, "name"):
            kind = type(self).__name__
            example = f"{kind}(weak)" if kind == "Probe" else f"{kind}(scale, weak)"
            raise GuidanceError(f"{example} needs a weak model such as lab.skip([5]), got {shown(self.weak)}.")
        if not isinstance(self.reference, str) or self.reference not in REFERENCES:
            raise GuidanceError(
                f"reference {shown(self.reference)} is unknown.{did_you_mean(self.reference, REFERENCES)} "
                f"Known: {', '.join(REFERENCES)}."
            )

    @property
    def weak_model(self) -> WeakModel:
        return self.weak

    def check(self, at: Moment) -> None:
        super().check(at)
        if getattr(self.weak, "flow_only", False) and not at.flow:
            raise GuidanceError(
                f"{self.weak} is for flow models, whose steps are straight lines; this pipeline's scheduler is none of theirs, or the "
                "noise levels of the step are not known."
            )

    def __str__(self) -> str:
        reference = "" if self.reference == COND else f", reference={self.reference!r}"
        return f"STG({self._scale_text()}, {self.weak}{self._options()}{reference})" + "".join(map(str, self.rules))


@dataclass(frozen=True, init=False)
class Weightless(STG):
    """Base of the terms that have a model and a window, and no vector in the sum: `Probe`, `Edit`."""

    def __init__(
        self, weak: WeakModel, *, start: float = 0.0, stop: float = 1.0, sigma: tuple[float, float] | None = None
    ) -> None:
        for name, value in (("scale", 0.0), ("weak", weak), ("start", start), ("stop", stop), ("sigma", sigma)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "rules", ())
        object.__setattr__(self, "reference", COND)
        self.__post_init__()

    def there(self, at: Moment) -> bool:
        """Whether it has something to do at a step."""
        return self.inside(at) and self.weak.acts(at.step, at.steps)

    def __str__(self) -> str:
        return f"{type(self).__name__}({self.weak}{self._options()})"


@dataclass(frozen=True, init=False)
class Probe(Weightless):
    """Record a weak model without letting it act: its pass is run, its vector has no weight.

    Args:
        weak: the weak model.
        start, stop, sigma: the part of the run where it is recorded.
    """

    def needs_pass(self, at: Moment) -> bool:
        return self.there(at)

    @property
    def never(self) -> bool:
        return False

    def _with(self, rule: Rule) -> Any:
        raise GuidanceError(f"a Probe only records, so {rule} would do nothing. Put it on lab.STG(scale, weak).")
