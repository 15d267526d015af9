"""A sum unrolled: what CFG and the skipped layers are at each step, for tools that take lists."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import cast

from stg_lab.errors import GuidanceError
from stg_lab.given import Number, Refused, Several, shown
from stg_lab.guidance import Guidance, Moment, Term
from stg_lab.interop.expressible import Parted, cannot, layer_skips, model_at
from stg_lab.weak import Weak
from stg_lab.weak.per_step import PerStep


@dataclass(frozen=True)
class Setting:
    """One step: the CFG scale, the scale of the skip guidance and the layers it skips; 1, 0 and none are off."""

    cfg: float
    scale: float = 0.0
    layers: tuple[int, ...] = ()


@dataclass(frozen=True)
class Stretch:
    """Steps on end with one setting, and their noise levels from high to low."""

    setting: Setting
    sigmas: tuple[float, ...]


def always(term: Term) -> bool:
    """Whether a term is the same at every step of any run."""
    changing = callable(term.scale) or isinstance(term.scale, tuple) or isinstance(term.weak_model, PerStep)
    return not changing and (term.start, term.stop, term.sigma) == (0, 1, None)


def noise_levels(sigmas: Sequence[float] | None, tool: str, why: object) -> tuple[float, ...]:
    """The noise level at which each step starts, checked.

    Raises:
        GuidanceError: they are not given, or not falling numbers above 0.
    """
    if sigmas is None:
        raise GuidanceError(
            f"{tool} chooses its settings by noise level, so the level at which each step of the run starts must be known for "
            f"{why}: lab.export(..., sigmas=[1.0, 0.98, ...]), for example recording.ds.sigma.values."
        )
    return falling(sigmas)


def falling(sigmas: Sequence[float]) -> tuple[float, ...]:
    """Noise levels that fall and lie above 0.

    Raises:
        GuidanceError: they do not.
    """
    try:
        levels = tuple(Several(Number(endless=True), lone=False).read(sigmas))
    except Refused:
        levels = ()
    if (
        not levels
        or not all(a > b for a, b in zip(levels, (*levels[1:], 0.0), strict=True))
        or not math.isfinite(levels[0])
    ):
        raise GuidanceError(
            f"sigmas are the noise levels at which the steps start, falling and above 0, got {shown(list(levels) or sigmas)}. Leave out the last "
            "one if it is 0: no step starts there."
        )
    return levels


def between(low: float, high: float) -> float:
    """A short number between two.

    >>> between(0.8, 0.9), between(0.1234, 0.1235)
    (0.85, 0.12345)
    """
    middle = (low + high) / 2
    return next((short for d in range(2, 16) if low < (short := round(middle, d)) < high), middle)


def bounds(stretches: list[Stretch]) -> list[float]:
    """A noise level between each stretch and the next."""
    return [between(low.sigmas[0], high.sigmas[-1]) for high, low in pairwise(stretches)]


def unrolled(guidance: Guidance, parts: Parted, tool: str, sigmas: Sequence[float] | None) -> list[Stretch]:
    """The settings of a run, step by step, steps on end with equal ones together.

    Args:
        parts: of the sum; its CFG terms without rules.
        sigmas: noise level at which each step starts; may be None for a sum that is the same at every step.

    Raises:
        GuidanceError: sigmas are needed, or two weak models act at one step.
    """
    for term in parts.skips:
        layer_skips(term.weak, tool)
    changing = next((t for t in parts.terms if not always(t)), None)
    if changing is None:
        return [Stretch(_setting(guidance, parts, Moment(0, 1), tool), ())]
    levels = noise_levels(sigmas, tool, changing)
    moments = [Moment(k, len(levels), sigma) for k, sigma in enumerate(levels)]
    settings = [(_setting(guidance, parts, at, tool), at.sigma) for at in moments]
    return [Stretch(key, tuple(s for _, s in run)) for key, run in groupby(settings, key=lambda pair: pair[0])]


def _setting(guidance: Guidance, parts: Parted, at: Moment, tool: str) -> Setting:
    cfg = guidance.cfg_scale(at)
    acting = [t for t in parts.skips if t.active(at)]
    models = {model_at(cast(Weak, t.weak), at.step) for t in acting}
    if len(models) > 1:
        raise cannot(
            tool,
            " + ".join(map(str, acting)),
            "it makes one weak pass in a step. Put the layers into one term, or take turns.",
        )
    model = next(iter(models), None)
    scale = sum(t.weight(at) for t in acting)
    return Setting(cfg, scale, model.layers) if model is not None and scale else Setting(cfg)
