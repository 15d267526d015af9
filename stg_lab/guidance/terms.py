"""The terms of a guidance: vectors, their weights, and when they act."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from stg_lab.errors import GuidanceError, did_you_mean
from stg_lab.given import Number, read, shown
from stg_lab.guidance.moment import Moment
from stg_lab.guidance.ruled import Ruled
from stg_lab.guidance.rules import Rule
from stg_lab.guidance.scales import number, schedule, window

if TYPE_CHECKING:
    from stg_lab.guidance.total import Guidance

COND, UNCOND, GUIDED = "cond", "uncond", "guided"

REFERENCES = {
    "cond": "the conditional prediction (the papers' sum; peers' convention A)",
    "uncond": "the unconditional prediction (convention B: the weak model stands in for CFG's own)",
    "cfg": "what CFG alone would give (convention C, as in the authors' Wan pipeline)",
}


class WeakModel(Protocol):
    """What guidance needs to know of a weak model; equal models compare equal."""

    @property
    def name(self) -> str: ...

    @property
    def axis(self) -> str: ...

    @property
    def prompt(self) -> str: ...

    def acts(self, step: int, steps: int) -> bool: ...


@dataclass(frozen=True)
class Term(Ruled):
    """One guidance vector with its weight and the part of the run where it acts; use `CFG`, `STG` or `Probe`.

    A term acts at step k of n when `start * n <= k < stop * n` and, where `sigma=(low, high)` is given, the step starts at a
    noise level with `low < sigma <= high`. Terms add up: `CFG(4) + STG(1, skip([5]))`.
    """

    scale: Any  # a number, or after construction a tuple with one for each step, or a callable
    start: float = field(default=0.0, kw_only=True)
    stop: float = field(default=1.0, kw_only=True)
    sigma: tuple[float, float] | None = field(default=None, kw_only=True)
    rules: tuple[Rule, ...] = field(default=(), kw_only=True)

    @property
    def weak_model(self) -> WeakModel | None:
        """What the vector points away from; None is the unconditional prediction."""
        return None

    @property
    def reference(self) -> str:
        """What the vector points to, one of `REFERENCES`."""
        return COND

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", schedule(self.scale))
        for scale in self._known_scales():
            self._check_scale(scale)
        for name in ("start", "stop"):
            object.__setattr__(self, name, read(name, getattr(self, name), Number(endless=True), GuidanceError))
        if not 0 <= self.start < self.stop <= 1:
            raise GuidanceError(
                "start and stop are shares of the steps with 0 <= start < stop <= 1, "
                f"got start={self.start}, stop={self.stop}."
            )
        if self.sigma is not None:
            object.__setattr__(self, "sigma", window(self.sigma))
        if not isinstance(self.rules, tuple) or not all(isinstance(rule, Rule) for rule in self.rules):
            raise GuidanceError(
                f"rules are put on a term by its methods, got rules={shown(self.rules)}. Type for example lab.CFG(4).apg(eta=0)."
            )

    def _known_scales(self) -> tuple[float, ...]:
        if callable(self.scale):
            return ()
        scales = self.scale if isinstance(self.scale, tuple) else (self.scale,)
        if not scales:
            raise GuidanceError("the list of scales is empty; give one for each step.")
        return scales

    def _check_scale(self, scale: float) -> None:
        if not math.isfinite(scale):
            raise GuidanceError(f"scale must be a finite number, got {scale}.")

    # ---- at a step ----

    def scale_at(self, step: int, steps: int) -> float:
        """The scale at a step, whatever form the schedule has.

        Raises:
            GuidanceError: the list of scales is not as long as the run, or the callable gave no proper scale.
        """
        if callable(self.scale):
            given = self.scale(step / steps)
            try:
                scale = float(given)
            except (TypeError, ValueError):
                raise GuidanceError(
                    f"the schedule of {self} gave {given!r} at step {step} of {steps}. It takes the share of the steps done and "
                    "gives a number, for example lambda done: 2 * (1 - done)."
                ) from None
            self._check_scale(scale)
            return scale
        if isinstance(self.scale, tuple):
            if len(self.scale) != steps:
                raise GuidanceError(
                    f"{len(self.scale)} scales were given for a run of {steps} steps; give one for each step."
                )
            return self.scale[step]
        return self.scale

    def weight(self, at: Moment) -> float:
        """w_i of the sum at a step where the term acts."""
        return self.scale_at(at.step, at.steps)

    def inside(self, at: Moment) -> bool:
        """Whether a step lies in the term's window."""
        self.check(at)
        position = at.step + 1e-9  # 0.28 * 25 is 7.000000000000001, and step 7 is meant
        if not self.start * at.steps <= position < self.stop * at.steps:
            return False
        if self.sigma is None:
            return True
        sigma = at.sigma * (1 - 1e-6)  # schedulers hold 0.1 as the float32 0.10000000149, and 0.1 is meant
        return self.sigma[0] < sigma <= self.sigma[1]

    def check(self, at: Moment) -> None:
        """Raise `GuidanceError` where the sampler does not serve this term, whether or not the term acts at this step."""
        if self.sigma is not None and math.isnan(at.sigma):
            raise GuidanceError(f"the window of {self} is in sigma, and the noise level of the step is not known.")
        for rule in self.rules:
            rule.check(at)

    def active(self, at: Moment) -> bool:
        """Whether the term changes the prediction at a step: inside its window, with a weight that is not zero."""
        acts = self.weak_model is None or self.weak_model.acts(at.step, at.steps)
        return acts and self.inside(at) and self.weight(at) != 0

    def needs_pass(self, at: Moment) -> bool:
        """Whether the term's weak model must be run at a step."""
        return self.active(at)

    def over(self, at: Moment, key: int) -> bool:
        """Whether a rule has ended the term, number `key` of its sum, for the rest of the run."""
        return any(rule.over(at, key) for rule in self.rules)

    @property
    def never(self) -> bool:
        """Whether the term is off at every step, by its scale alone."""
        return isinstance(self.scale, int | float) and self.scale == 0

    # ---- building ----

    def __add__(self, other: Term | Guidance) -> Guidance:
        return self._alone() + other

    def rescale(self, phi: float, *, per: str = "sample") -> Guidance:
        """See `Guidance.rescale`."""
        return self._alone().rescale(phi, per=per)

    def orthogonalize(self, *, loses: str = "temporal", per: str = "sample") -> Guidance:
        """See `Guidance.orthogonalize`, which needs a sum of two."""
        return self._alone().orthogonalize(loses=loses, per=per)

    def in_x0(self) -> Guidance:
        """See `Guidance.in_x0`."""
        return self._alone().in_x0()

    def restart(self, t_min: float, t_max: float, times: int = 1, *, seed: int = 0) -> Guidance:
        """See `Guidance.restart`."""
        return self._alone().restart(t_min, t_max, times, seed=seed)

    def _alone(self) -> Guidance:
        from stg_lab.guidance.total import Guidance

        return Guidance((self,))

    # ---- as text and for a file ----

    def _options(self) -> str:
        start = f", start={number(self.start)}" if self.start != 0 else ""
        stop = f", stop={number(self.stop)}" if self.stop != 1 else ""
        sigma = f", sigma=({number(self.sigma[0])}, {number(self.sigma[1])})" if self.sigma else ""
        return start + stop + sigma

    def _scale_text(self) -> str:
        if callable(self.scale):
            return getattr(self.scale, "__name__", "a function")
        if isinstance(self.scale, tuple):
            if len(set(self.scale)) == 1 < len(self.scale):
                return f"[{number(self.scale[0])}] * {len(self.scale)}"
            return "[" + ", ".join(number(s) for s in self.scale) + "]"
        return number(self.scale)

    def __str__(self) -> str:
        rules = "".join(map(str, self.rules))
        return f"{type(self).__name__}({self._scale_text()}{self._options()}){rules}"

    def resolved(self, steps: int) -> Any:
        """The same term with a scale that is plain numbers, for a run of `steps` steps."""
        if not callable(self.scale):
            self.scale_at(0, steps)  # a list of another length is told
            return self
        return replace(self, scale=tuple(self.scale_at(k, steps) for k in range(steps)))


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

    def __str__(self) -> str:
        reference = "" if self.reference == COND else f", reference={self.reference!r}"
        return f"STG({self._scale_text()}, {self.weak}{self._options()}{reference})" + "".join(map(str, self.rules))


@dataclass(frozen=True, init=False)
class Probe(STG):
    """Record a weak model without letting it act: its pass is run, its vector has no weight.

    Args:
        weak: the weak model.
        start, stop, sigma: the part of the run where it is recorded.
    """

    def __init__(
        self, weak: WeakModel, *, start: float = 0.0, stop: float = 1.0, sigma: tuple[float, float] | None = None
    ) -> None:
        for name, value in (("scale", 0.0), ("weak", weak), ("start", start), ("stop", stop), ("sigma", sigma)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "rules", ())
        object.__setattr__(self, "reference", COND)
        self.__post_init__()

    def needs_pass(self, at: Moment) -> bool:
        return self.inside(at) and self.weak.acts(at.step, at.steps)

    @property
    def never(self) -> bool:
        return False

    def _with(self, rule: Rule) -> Any:
        raise GuidanceError(f"a Probe only records, so {rule} would do nothing. Put it on lab.STG(scale, weak).")

    def __str__(self) -> str:
        return f"Probe({self.weak}{self._options()})"
