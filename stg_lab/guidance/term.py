"""What every term of a guidance is: a vector, its weight, and when it acts."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from stg_lab.errors import GuidanceError
from stg_lab.given import Number, read, shown
from stg_lab.guidance.moment import Moment
from stg_lab.guidance.ruled import Ruled
from stg_lab.guidance.rules import Rule
from stg_lab.guidance.scales import number, schedule, window

if TYPE_CHECKING:
    from stg_lab.guidance.guidance import Guidance

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
        from stg_lab.guidance.guidance import Guidance

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
