"""Guidance as one sum: the conditional prediction plus weighted guidance vectors.

    guided = cond + sum_i  w_i * D_i          D_i = cond - weak_i

Classifier-free guidance is the vector to the unconditional prediction with w = scale - 1 (Ho and Salimans 2022, in
diffusers' convention); Spatiotemporal Skip Guidance is the vector to the same model with layers skipped, w = scale
(Hyung et al. 2025, eq. 13 and 20). Everything here is plain arithmetic on arrays whose first dimension is the sample;
torch tensors and numpy arrays are treated alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from stg_lab.errors import GuidanceError

COND, UNCOND, GUIDED = "cond", "uncond", "guided"


def number(value: float) -> str:
    """A number as one types it: exact, and without a needless `.0`."""
    return str(int(value)) if value == int(value) else repr(value)


class WeakModel(Protocol):
    """What guidance needs to know of a weak model: its name, and that equal models compare equal."""

    @property
    def name(self) -> str: ...


@dataclass(frozen=True)
class Term:
    """One guidance vector with its weight and the share of the steps where it acts; use `CFG` or `STG`.

    A term acts at step k of n when `start * n <= k < stop * n`. Terms add up: `CFG(4) + STG(1, skip([5]))`.
    """

    scale: float
    start: float = field(default=0.0, kw_only=True)
    stop: float = field(default=1.0, kw_only=True)

    @property
    def weak_model(self) -> WeakModel | None:
        """What the vector points away from; None is the unconditional prediction."""
        return None

    def __post_init__(self) -> None:
        if not math.isfinite(self.scale):
            raise GuidanceError(f"scale must be a finite number, got {self.scale}.")
        if not 0 <= self.start < self.stop <= 1:
            raise GuidanceError(
                "start and stop are shares of the steps with 0 <= start < stop <= 1, "
                f"got start={self.start}, stop={self.stop}."
            )

    @property
    def weight(self) -> float:
        """w_i of the sum."""
        return self.scale

    def active(self, step: int, steps: int) -> bool:
        """Whether the term acts at step `step` (from 0) of `steps`."""
        position = step + 1e-9  # 0.28 * 25 is 7.000000000000001, and step 7 is meant
        return self.start * steps <= position < self.stop * steps

    def __add__(self, other: Term | Guidance) -> Guidance:
        return Guidance((self,)) + other

    def rescale(self, phi: float) -> Guidance:
        """See `Guidance.rescale`."""
        return Guidance((self,)).rescale(phi)

    def _window(self) -> str:
        start = f", start={number(self.start)}" if self.start != 0 else ""
        return start + (f", stop={number(self.stop)}" if self.stop != 1 else "")


@dataclass(frozen=True)
class CFG(Term):
    """Classifier-free guidance in diffusers' convention: `u + scale (c - u)`; 1 means off.

    Args:
        scale: at least 1, the pipeline's own `guidance_scale`.
        start, stop: shares of the steps between which it acts; outside, the scale is 1.

    Raises:
        GuidanceError: scale below 1, or no proper window.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale < 1:
            raise GuidanceError(
                f"CFG({self.scale}) is below 1, where diffusers pipelines do not compute the unconditional prediction. "
                "Use CFG(1.0) for no guidance, or leave the term out."
            )

    @property
    def weight(self) -> float:
        return self.scale - 1

    def __str__(self) -> str:
        return f"CFG({number(self.scale)}{self._window()})"


@dataclass(frozen=True)
class STG(Term):
    """Spatiotemporal Skip Guidance (Hyung et al. 2025, eq. 13): `+ scale (c - weak)`.

    Args:
        scale: weight of the vector; 0 records the weak model without letting it act.
        weak: the weak model, for example `lab.skip([5])`.
        start, stop: shares of the steps between which it acts; outside, the weak pass is not run at all.

    Raises:
        GuidanceError: `weak` is not a weak model, the scale is not finite, or no proper window.
    """

    weak: WeakModel

    def __post_init__(self) -> None:
        super().__post_init__()
        if not hasattr(self.weak, "name"):
            raise GuidanceError(f"STG(scale, weak) needs a weak model such as lab.skip([5]), got {self.weak!r}.")

    @property
    def weak_model(self) -> WeakModel:
        return self.weak

    def __str__(self) -> str:
        return f"STG({number(self.scale)}, {self.weak}{self._window()})"


@dataclass(frozen=True)
class Guidance:
    """A sum of terms, optionally rescaled. Immutable; build it by adding terms."""

    terms: tuple[Term, ...] = ()
    phi: float = 0.0  # strength of the rescaling

    def __add__(self, other: Term | Guidance) -> Guidance:
        if isinstance(other, Term):
            return replace(self, terms=(*self.terms, other))
        if isinstance(other, Guidance):
            if other.phi and self.phi and other.phi != self.phi:
                raise GuidanceError(
                    f"two sums with different rescaling ({self.phi:g} and {other.phi:g}) cannot be added."
                )
            return Guidance(self.terms + other.terms, self.phi or other.phi)
        return NotImplemented

    def rescale(self, phi: float) -> Guidance:
        """Pull the guided prediction's standard deviation back to the conditional one's (paper, Alg. 4; Lin et al. 2023).

        Args:
            phi: 0 is off, 1 is full. The deviation is taken per sample, so samples of a batch do not touch each other.
        """
        if not 0 <= phi <= 1:
            raise GuidanceError(f"rescale(phi) takes 0 (off) to 1 (full), got {phi}.")
        return replace(self, phi=float(phi))

    @property
    def weak(self) -> dict[str, WeakModel]:
        """The weak models by branch name. A name is the model's own, or its full specification where two would clash."""
        models = list(dict.fromkeys(t.weak_model for t in self.terms if t.weak_model is not None))
        names = [m.name for m in models]
        return {(m.name if names.count(m.name) == 1 else str(m)): m for m in models}

    def branch(self, term: Term) -> str:
        """Name of the branch that a term points away from."""
        if term.weak_model is None:
            return UNCOND
        return next(name for name, model in self.weak.items() if model == term.weak_model)

    def needed(self, step: int, steps: int) -> dict[str, WeakModel]:
        """The weak models to run at a step: those of active terms, also at scale 0 (to record them)."""
        active = {self.branch(t) for t in self.terms if t.weak_model is not None and t.active(step, steps)}
        return {name: model for name, model in self.weak.items() if name in active}

    @property
    def has_cfg(self) -> bool:
        return any(t.weak_model is None for t in self.terms)

    def cfg_scale(self, step: int | None = None, steps: int = 1) -> float:
        """CFG scale in diffusers' convention at a step; without a step, the scale where all terms act."""
        acting = [t for t in self.terms if t.weak_model is None and (step is None or t.active(step, steps))]
        return 1.0 + sum(t.weight for t in acting) if len(acting) != 1 else acting[0].scale

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a file; `Guidance.from_dict` reads them back."""
        terms = [
            {"method": type(t).__name__, "scale": t.scale, "start": t.start, "stop": t.stop}
            | ({} if t.weak_model is None else {"weak": str(t.weak_model)})
            for t in self.terms
        ]
        return {"terms": terms, "rescale": self.phi}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], parse: Callable[[str], WeakModel]) -> Guidance:
        """Read `to_dict` back; `parse` turns a weak model's specification into the model."""
        terms: list[Term] = []
        for value in values["terms"]:
            window = {"start": value["start"], "stop": value["stop"]}
            weak = value.get("weak")
            terms.append(CFG(value["scale"], **window) if weak is None else STG(value["scale"], parse(weak), **window))
        return cls(tuple(terms), values["rescale"])

    def __str__(self) -> str:
        total = " + ".join(map(str, self.terms)) or "cond"
        return f"({total}).rescale({number(self.phi)})" if self.phi else total


def as_guidance(guidance: Guidance | Term | None) -> Guidance:
    """A single term or a sum as a sum; None is the empty sum.

    Raises:
        GuidanceError: anything else.
    """
    if guidance is None:
        return Guidance()
    if isinstance(guidance, Term):
        return Guidance((guidance,))
    if isinstance(guidance, Guidance):
        return guidance
    raise GuidanceError(f"guidance must be a sum such as lab.CFG(4) + lab.STG(1, lab.skip([5])), got {guidance!r}.")


def combine_cfg(cond: Any, uncond: Any, scale: float) -> Any:
    """`u + scale (c - u)`, written as diffusers writes it so that the bits agree; scale 1 returns `cond` itself."""
    return cond if scale == 1 else uncond + scale * (cond - uncond)


def combine(
    guidance: Guidance, predictions: Mapping[str, Any], *, step: int, steps: int, cfg_scale: float | None = None
) -> Any:
    """The guided prediction of one step (DESIGN's one equation; paper eq. 13, 20).

    Args:
        guidance: the sum.
        predictions: arrays `(sample, ...)` by branch name: `cond`, `uncond` where CFG acts, and every weak branch that acts.
        step, steps: where in the run, for terms with a window.
        cfg_scale: the CFG scale in force at this step, where it is not the sum's own.

    Returns:
        An array like `predictions["cond"]`, of the same dtype. Terms of weight 0 are left out, not added as zeros, so "off"
        is exactly off.

    Raises:
        GuidanceError: a branch that acts at this step is missing.
    """
    cond = predictions[COND]
    scale = guidance.cfg_scale(step, steps) if cfg_scale is None else cfg_scale
    guided = cond if scale == 1 else combine_cfg(cond, _branch(predictions, UNCOND), scale)
    for term in guidance.terms:
        if term.weak_model is not None and term.weight != 0 and term.active(step, steps):
            guided = guided + term.weight * (cond - _branch(predictions, guidance.branch(term)))
    if guidance.phi and guided is not cond:
        guided = guided * (guidance.phi * (_std(cond) / _std(guided)) + (1 - guidance.phi))
    return guided


def _branch(predictions: Mapping[str, Any], name: str) -> Any:
    if name not in predictions:
        raise GuidanceError(f"guidance needs the branch {name!r}, but only {', '.join(predictions)} are there.")
    return predictions[name]


def _std(x: Any) -> Any:
    """Standard deviation of each sample, shaped to broadcast against x."""
    flat = x.reshape(x.shape[0], -1)
    centred = flat - flat.mean(1)[:, None]
    return ((centred * centred).mean(1) ** 0.5).reshape(-1, *[1] * (x.ndim - 1))
