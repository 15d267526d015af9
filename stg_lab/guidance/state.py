"""Scales that see the state: rules whose factor follows from the predictions of the step, and from those before.

A schedule knows the time alone. These rules know the vector, both predictions and the memory of the run; each multiplies its
term's vector (`Until`, `Cap`, `Feedback`, `Seeing`), changes it (`Sliding`) or the finished prediction (`Momentum`). Samples of
a batch do not touch each other. A step in x0 space hands over one-step predictions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from stg_lab.errors import GuidanceError
from stg_lab.given import Number, read, shown
from stg_lab.guidance.moment import Moment
from stg_lab.guidance.rules import Rule
from stg_lab.guidance.vectors import inner, norm

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class View:
    """What a scale may look at; one number for each sample, as numpy arrays, where it says so.

    Attributes:
        cond, weak, vector: the predictions and `cond - weak`, arrays `(sample, ...)`.
        at: the moment: step, steps, sigma.
        memory: what the scale keeps from step to step; empty when a run begins.
    """

    cond: Any
    weak: Any
    vector: Any
    at: Moment
    memory: dict[Any, Any]

    @property
    def cosine(self) -> np.ndarray:
        """Of the angle between both predictions, `(sample,)`; 1 where one of them is zero."""
        import numpy as np

        lengths = self.norm(self.cond) * self.norm(self.weak)
        return np.where(lengths == 0, 1.0, _numbers(inner(self.cond, self.weak)) / np.where(lengths == 0, 1.0, lengths))

    @staticmethod
    def norm(array: Any) -> np.ndarray:
        """Length of each sample's array, `(sample,)`."""
        return _numbers(norm(array))

    @property
    def done(self) -> float:
        """Share of the steps done."""
        return self.at.step / self.at.steps


def _numbers(per_sample: Any) -> np.ndarray:
    import numpy as np

    return np.array([float(one) for one in per_sample.reshape(-1)])


def scaled(vector: Any, factors: Any) -> Any:
    """Each sample's vector times its factor; a lone factor is everybody's, and a factor of 1 changes no bit."""
    import numpy as np

    factors = np.broadcast_to(np.asarray(factors, float), (len(vector),)).reshape(-1, *[1] * (vector.ndim - 1))
    return vector * (vector.new_tensor(factors) if hasattr(vector, "new_tensor") else factors.astype(vector.dtype))


def _number(rule: str, name: str, value: Any, low: float, high: float) -> float:
    number = read(f"{rule}({name})", value, Number(endless=True), GuidanceError)
    if not low <= number <= high:
        raise GuidanceError(f"{rule}({name}) lies between {low:g} and {high:g}, got {shown(value)}.")
    return float(number)


@dataclass(frozen=True)
class Until(Rule):
    """Adaptive guidance (Castillo et al. 2023, arXiv 2312.12487): the term ends once both predictions agree.

    It acts up to and with the first step at which their cosine reaches the threshold, each sample by itself. When all samples of
    a call are through, weak passes are not run any more. The unconditional pass of CFG is the pipeline's own and goes on, since
    nobody but the pipeline can leave it out; what would be saved is there to be read (`analysis.agreement`).

    Args:
        cosine: threshold, at most 1.
    """

    method: ClassVar[str] = "until"

    cosine: float = 0.99

    def __post_init__(self) -> None:
        object.__setattr__(self, "cosine", _number("until", "cosine", self.cosine, -1, 1))

    def over(self, at: Moment, key: Any) -> bool:
        through = at.memory.get((key, "until"))
        return through is not None and bool(through.all())

    def on_vector(self, vector: Any, cond: Any, weak: Any, at: Moment, key: Any) -> Any:
        import numpy as np

        through = at.memory.get((key, "until"), np.zeros(len(vector), bool))
        at.memory[key, "until"] = through | (View(cond, weak, vector, at, {}).cosine >= self.cosine)
        return scaled(vector, ~through) if through.any() else vector


@dataclass(frozen=True)
class Cap(Rule):
    """The vector is shortened to at most a share of the conditional prediction's length, per sample.

    Args:
        ratio: longest vector, in lengths of `cond`.
    """

    method: ClassVar[str] = "cap"

    ratio: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "ratio", _number("cap", "ratio", self.ratio, 0, 1e6))

    def on_vector(self, vector: Any, cond: Any, weak: Any, at: Moment, key: Any) -> Any:
        import numpy as np

        length, most = View.norm(vector), self.ratio * View.norm(cond)
        return (
            scaled(vector, np.minimum(1.0, most / np.where(length == 0, 1.0, length)))
            if (length > most).any()
            else vector
        )


@dataclass(frozen=True)
class Feedback(Rule):
    """Feedback guidance, FBG (Koulischer et al. 2025, arXiv 2506.06085): the scale follows a running posterior of the condition.

    From one state to the next, `log p <- log p - temperature / (2 s^2) (|x' - m_c|^2 - |x' - m_u|^2) + offset`, with m_c, m_u, s
    the means and deviation of the backward step under either prediction; the scale is `p / (p - (1 - pi))`. The vector is
    multiplied by scale - 1, so it stands on `CFG(2)`; `CFG(2).feedback() + CFG(g)` is their hybrid. All in units where the
    sample is x0 plus noise. As in the authors' code (generate_images_FBG.py), the state that was come to decides from the step
    after it on.

    Args:
        temperature, offset: of the update; the authors set them so that the scale peaks at chosen noise levels.
        pi: prior share of the condition, below 1.
        most: largest scale.
    """

    method: ClassVar[str] = "feedback"

    temperature: float = 0.01
    offset: float = -0.005
    pi: float = 0.95
    most: float = 10.0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("temperature", 0, 1e6),
            ("offset", -1e6, 1e6),
            ("pi", 0, 0.999999),
            ("most", 1.000001, 1e6),
        ):
            object.__setattr__(self, name, _number("feedback", name, getattr(self, name), low, high))

    def on_vector(self, vector: Any, cond: Any, weak: Any, at: Moment, key: Any) -> Any:
        import numpy as np

        signal = at.signal
        if not 0 < signal < math.inf or at.x_t is None:
            if signal == 0:  # pure noise of a flow model: nothing is known yet of the condition
                return scaled(vector, self._scale(np.zeros(len(vector))) - 1)
            raise GuidanceError(f"{self} needs the signal and noise level of the step, which are not known here.")
        x, sigma = at.x_t / signal, at.level / signal
        log_p = at.memory.get((key, "feedback"), np.zeros(len(vector)))
        before = at.memory.get((key, "feedback state"))
        if before is not None:
            log_p = self._updated(log_p, before, x, sigma)
        predictions = at.to_x0({"c": cond, "u": weak})
        at.memory[key, "feedback"] = log_p
        at.memory[key, "feedback state"] = (x, sigma, predictions["c"], predictions["u"])
        return scaled(vector, self._scale(log_p) - 1)

    def _updated(self, log_p: np.ndarray, before: tuple, x: Any, sigma: float) -> np.ndarray:
        import numpy as np

        x_before, sigma_before, cond, uncond = before
        if not 0 < sigma < sigma_before:
            return log_p
        kept = sigma**2 / sigma_before**2
        variance = (sigma_before**2 - sigma**2) * kept
        errors = [x - kept * x_before - (1 - kept) * x0 for x0 in (cond, uncond)]
        apart = _numbers(inner(errors[0], errors[0])) - _numbers(inner(errors[1], errors[1]))
        least = math.log((1 - self.pi) * self.most / (self.most - 1))
        return np.clip(log_p - self.temperature / (2 * variance) * apart + self.offset, least, 3.0)

    def _scale(self, log_p: np.ndarray) -> np.ndarray:
        import numpy as np

        return np.exp(log_p) / (np.exp(log_p) - (1 - self.pi))


@dataclass(frozen=True)
class Seeing(Rule):
    """A factor of one's own: `CFG(4).seeing(lambda view: ...)` multiplies the vector by what the function makes of a `View`.

    A recording keeps the function's name, not what it does: read back, the rule cannot act.

    Args:
        factor: gives one number, or one for each sample.
    """

    method: ClassVar[str] = "seeing"

    factor: Callable[[View], Any] | str = ""

    def __post_init__(self) -> None:
        if not callable(self.factor) and not (isinstance(self.factor, str) and self.factor):
            raise GuidanceError(
                f"seeing(factor) takes a function of a view, got {shown(self.factor)}. Type for example lambda view: view.done."
            )

    def _given(self) -> dict[str, Any]:
        return {
            "factor": self.factor if isinstance(self.factor, str) else getattr(self.factor, "__name__", "a function")
        }

    def on_vector(self, vector: Any, cond: Any, weak: Any, at: Moment, key: Any) -> Any:
        import numpy as np

        if isinstance(self.factor, str):
            raise GuidanceError(f"{self} was a function, of which a recording keeps the name alone. Give it again.")
        memory = at.memory.setdefault((key, "seeing"), {})
        given = self.factor(View(cond, weak, vector, at, memory))
        try:
            factors = np.broadcast_to(np.asarray(given, float), (len(vector),))
        except (TypeError, ValueError):
            raise GuidanceError(
                f"the function of {self} gave {shown(given)}; it gives one number, or one for each sample."
            ) from None
        if not np.isfinite(factors).all():
            raise GuidanceError(f"the function of {self} gave {shown(given)} at step {at.step}, which is not finite.")
        return scaled(vector, factors)


@dataclass(frozen=True)
class Sliding(Rule):
    """Sliding mode control of the vector, SMC-CFG (Wang et al. 2026, arXiv 2603.03281); its discrete form is unverified.

    With e the vector, `s = (e - e_before) + rate * e_before` is how far it is from shrinking exponentially, and
    `e - strength * sign(s)` takes its place; the first step has no vector before it and is left as it is. Here e is the vector
    as it was predicted, not the switched one.

    Args:
        rate: lambda of the surface.
        strength: k of the switching term, in units of the prediction.
    """

    method: ClassVar[str] = "sliding"

    rate: float = 5.0
    strength: float = 0.1

    def __post_init__(self) -> None:
        for name in ("rate", "strength"):
            object.__setattr__(self, name, _number("sliding", name, getattr(self, name), 0, 1e6))

    def on_vector(self, vector: Any, cond: Any, weak: Any, at: Moment, key: Any) -> Any:
        before = at.memory.get((key, "sliding"))
        at.memory[key, "sliding"] = vector
        if before is None or not self.strength:
            return vector
        surface = vector - before + self.rate * before
        return vector - self.strength * ((surface > 0) * 1.0 - (surface < 0) * 1.0)


@dataclass(frozen=True)
class Momentum(Rule):
    """Momentum guidance, MG (Liao et al. 2026, arXiv 2602.20360): on from an average of past predictions, without a pass.

    `v + weight (v - m)`, where m is the exponential moving average of the predictions before (`m <- decay m + (1 - decay) v`,
    begun with the first). It acts on the finished prediction, whatever else is in the sum; where nothing else is, it stands on
    `CFG(1)`. The abstract and the head of the paper's Alg. 1 were at hand; when m is brought up to date is unverified.

    Args:
        weight: how far; 0 is off.
        decay: from 0, the step before alone, to below 1.
    """

    method: ClassVar[str] = "momentum"
    always: ClassVar[bool] = True

    weight: float = 0.5
    decay: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", _number("momentum", "weight", self.weight, 0, 1e6))
        object.__setattr__(self, "decay", _number("momentum", "decay", self.decay, 0, 0.999999))

    def on_guided(self, guided: Any, at: Moment) -> Any:
        before = at.memory.get((self, "momentum"))
        at.memory[self, "momentum"] = guided if before is None else self.decay * before + (1 - self.decay) * guided
        return guided if before is None or not self.weight else guided + self.weight * (guided - before)
