"""What a method does to one term of the sum, beyond weighing its vector.

A rule acts at one of three places: on the weak prediction before the vector is taken, on the vector, or on the finished
prediction. Rules are frozen values, so they print, compare and go into a file; `term.apg(eta=0)` puts one on a term.
Adding a rule is one class here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from stg_lab.errors import GuidanceError
from stg_lab.given import Number, read, shown
from stg_lab.guidance.moment import Moment
from stg_lab.guidance.scales import count
from stg_lab.guidance.vectors import along_first_direction, clip_norm, norm, orthogonal, parallel

RULES: dict[str, type[Rule]] = {}


@dataclass(frozen=True)
class Rule:
    """Base: does nothing at any of the three places.

    Attributes:
        method: the term's method that puts it there, which is also its name in a file.
    """

    method: ClassVar[str] = ""
    needs_uncond: ClassVar[bool] = False  # whether it asks for CFG's vector, `on_part`
    linear: ClassVar[bool] = False  # whether it is a linear map of the vector, the same at x0 as at the prediction

    def __init_subclass__(cls) -> None:
        RULES[cls.method] = cls

    always: ClassVar[bool] = False  # whether it changes the guided prediction though its term is off

    def check(self, at: Moment) -> None:
        """Raise `GuidanceError` where the run cannot serve this rule."""

    def over(self, at: Moment, key: Any) -> bool:
        """Whether the term has nothing more to do in this run; `key` as in `on_vector`."""
        return False

    def on_weak(self, weak: Any, cond: Any) -> Any:
        """Another weak prediction in place of `weak`."""
        return weak

    def on_vector(self, vector: Any, cond: Any, weak: Any, at: Moment, key: Any) -> Any:
        """Another vector in place of `cond - weak`; `key` tells terms apart in `at.memory`."""
        return vector

    def on_part(self, vector: Any, cfg: Any) -> Any:
        """Another vector, given CFG's, `cond - uncond`; asked where `needs_uncond` is True."""
        return vector

    def on_guided(self, guided: Any, at: Moment) -> Any:
        """Another guided prediction, in the model's own space."""
        return guided

    def _given(self) -> dict[str, Any]:
        """What is not at its default; that alone is written, so that no infinity gets into a file."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a file."""
        return {"rule": self.method, **self._given()}

    def __str__(self) -> str:
        return f".{self.method}({', '.join(f'{name}={value!r}' for name, value in self._given().items())})"


def rule_from_dict(values: dict[str, Any]) -> Rule:
    """Read `Rule.to_dict` back."""
    rest = dict(values)
    return RULES[rest.pop("rule")](**rest)


@dataclass(frozen=True)
class APG(Rule):
    """Adaptive projected guidance (Sadat et al. 2024, arXiv 2410.02416): momentum, bounded norm, less of the parallel part.

    In this order: `m <- vector + momentum * m`, shortened to at most `norm`, then split along the conditional prediction into
    parallel and orthogonal; `orthogonal + eta * parallel` remains. The formula is that of diffusers' guider, which cites the
    paper's Alg. 1; it is unverified against the paper's own text. The paper applies it to x0: add `.in_x0()` to the sum.

    Args:
        eta: share of the parallel part that is kept; 1 keeps all.
        norm: longest vector, per sample; infinity for no bound.
        momentum: weight of the vectors before; negative pushes away from where the steps before pulled.
        after: how many first steps leave the vector as it is; the momentum remembers them.
    """

    method: ClassVar[str] = "apg"

    eta: float = 0.0
    norm: float = math.inf
    momentum: float = 0.0
    after: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "after", count("apg(after)", self.after, 0))
        for name in ("eta", "norm", "momentum"):
            object.__setattr__(self, name, read(name, getattr(self, name), Number(endless=True), GuidanceError))
        if not self.norm > 0 or not math.isfinite(self.eta) or not -1 < self.momentum < 1:
            raise GuidanceError(
                f"apg takes a finite eta, norm > 0 and -1 < momentum < 1, got eta={self.eta}, norm={self.norm}, "
                f"momentum={self.momentum}."
            )

    def on_vector(self, vector: Any, cond: Any, weak: Any, at: Moment, key: Any) -> Any:
        moved = vector
        if self.momentum:
            before = at.memory.get((key, "apg"))
            moved = vector if before is None else vector + self.momentum * before
            at.memory[key, "apg"] = moved
        if at.step < self.after:
            return vector
        if math.isfinite(self.norm):
            moved = clip_norm(moved, self.norm)
        if self.eta == 1:
            return moved
        return orthogonal(moved, cond) + self.eta * parallel(moved, cond)


@dataclass(frozen=True)
class ZeroStar(Rule):
    """CFG-Zero* (Fan et al. 2025, arXiv 2503.18886): the weak prediction is scaled to fit, and the first steps stand still.

    The weak prediction u becomes `s* u`, with `s* = <c, u> / ||u||^2` per sample, its least-squares fit to c.

    Args:
        zero_steps: how many first steps predict zero, as far as the term's window holds them. For flow models, where zero means
            standing still.
    """

    method: ClassVar[str] = "zero_star"

    zero_steps: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "zero_steps", count("zero_star(zero_steps)", self.zero_steps, 0))

    def on_weak(self, weak: Any, cond: Any) -> Any:
        return parallel(cond, weak)

    def on_guided(self, guided: Any, at: Moment) -> Any:
        return guided * 0 if at.step < self.zero_steps else guided


@dataclass(frozen=True)
class Tangential(Rule):
    """Tangential damping, TCFG (Kwon et al. 2025, arXiv 2503.18137): of the weak prediction only its part along the first
    singular direction of both predictions is kept."""

    method: ClassVar[str] = "tangential"

    def on_weak(self, weak: Any, cond: Any) -> Any:
        return along_first_direction(weak, cond)


@dataclass(frozen=True)
class Magnitude(Rule):
    """Magnitude-aware guidance, MaMBO-G: the vector is damped where it is long beside the weak prediction.

    The vector is multiplied by `exp(-alpha * ||c - u|| / ||u||)`, per sample; beside u = 0 every vector is too long.

    Args:
        alpha: strength; 0 is off.
    """

    method: ClassVar[str] = "magnitude"

    alpha: float = 8.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpha", read("alpha", self.alpha, Number(endless=True), GuidanceError))
        if not 0 <= self.alpha < math.inf:
            raise GuidanceError(f"magnitude(alpha) takes a finite number from 0, got {self.alpha}.")

    def on_vector(self, vector: Any, cond: Any, weak: Any, at: Moment, key: Any) -> Any:
        if not self.alpha:
            return vector
        length = norm(weak)
        ratio = norm(cond - weak) / (length + (length == 0))
        return vector * (math.e ** (-self.alpha * ratio) * (length != 0))


@dataclass(frozen=True)
class Part(Rule):
    """Only the part of the vector along CFG's, or only what is left beside it; the two add up to the vector.

    A way to ask which of the two does what a weak model is used for. CFG itself need not act: `lab.CFG([1] * steps)` has the
    unconditional prediction computed and leaves it out of the sum.

    Args:
        which: "along_cfg" or "beside_cfg".
    """

    method: ClassVar[str] = "part"
    needs_uncond: ClassVar[bool] = True

    which: str = "along_cfg"

    def __post_init__(self) -> None:
        if self.which not in ("along_cfg", "beside_cfg"):
            raise GuidanceError(f"part(which) takes 'along_cfg' or 'beside_cfg', got {shown(self.which)}.")

    def on_part(self, vector: Any, cfg: Any) -> Any:
        return (parallel if self.which == "along_cfg" else orthogonal)(vector, cfg)

    def _given(self) -> dict[str, Any]:
        return {"which": self.which}


@dataclass(frozen=True)
class BySignal(Rule):
    """The vector times the signal level to a power, `(1 - t)^power` of a flow model: weak at the noisy end, whole at the clean one.

    Args:
        power: 0 for the vector as it is.
    """

    method: ClassVar[str] = "by_signal"
    linear: ClassVar[bool] = True

    power: float = 1.0

    def __post_init__(self) -> None:
        power = read("by_signal(power)", self.power, Number(), GuidanceError)
        if power < 0:
            raise GuidanceError(f"by_signal takes a power from 0, got {shown(self.power)}.")
        object.__setattr__(self, "power", float(power))

    def check(self, at: Moment) -> None:
        if math.isnan(at.signal):
            raise GuidanceError(f"{self} needs the signal level of the step, which is not known here.")

    def on_vector(self, vector: Any, cond: Any, weak: Any, at: Moment, key: Any) -> Any:
        return at.signal**self.power * vector if self.power else vector
