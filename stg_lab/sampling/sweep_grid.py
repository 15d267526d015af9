"""Which weak models a sweep over layers has: every layer x part x axis, with the reason where there is none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from stg_lab.errors import GuidanceError
from stg_lab.families import Family
from stg_lab.guidance import Guidance, Probe
from stg_lab.sampling.checks import check_weak
from stg_lab.weak import PARTS, Weak, skip
from stg_lab.weak.base import AXES, one_of
from stg_lab.weak.layers import whole_numbers
from stg_lab.weak.skip import EDITS


@dataclass(frozen=True)
class Models:
    """The weak models of a sweep.

    Attributes:
        layers, parts, axes: coordinates.
        weak: specification of each `(layer, part, axis)`; "" where the model has none.
        why: why it has none; "" where it has one.
        of: the weak models by their place in these arrays.
    """

    layers: tuple[int, ...]
    parts: tuple[str, ...]
    axes: tuple[str, ...]
    weak: np.ndarray
    why: np.ndarray
    of: Mapping[tuple[int, int, int], Weak]


def skips(
    pipe: Any, family: Family, layers: Sequence[int] | None, parts: Sequence[str], axes: Sequence[str] | None
) -> Models:
    """The skips of layers, parts and axes, as far as the pipeline's denoisers have them.

    Args:
        layers: block numbers; None for all.
        parts: of `lab.skip`.
        axes: "joint", "spatial", "temporal"; None for "joint" everywhere, and for the attention parts also the other two where
            the family knows how its tokens lie, or has blocks for space and for time.

    Raises:
        GuidanceError: a layer out of range, an unknown part or axis, no weak model at all, or a step cache that would answer
            for skipped blocks.
    """
    denoisers = family.denoisers(pipe)
    numbers, chosen = _layers(family, denoisers, layers), _names("part", parts, PARTS)
    asked = AXES if axes is None else _names("axis", axes, AXES)
    shape = (len(numbers), len(chosen), len(asked))
    weak, why = np.full(shape, "", object), np.full(shape, "", object)
    of: dict[tuple[int, int, int], Weak] = {}
    for (i, j, k), _ in np.ndenumerate(weak):
        model, axis = skip((numbers[i],), part=chosen[j], axis=asked[k]), asked[k]
        reason = _not_by_itself(family, chosen[j], axis) if axes is None else ""
        reason = reason or _refused(model, family, denoisers)
        if reason:
            why[i, j, k] = reason
        else:
            weak[i, j, k], of[i, j, k] = str(model), model
    if not of:
        raise GuidanceError(f"no weak model of this sweep is there in {family.name} models: {why.flat[0]}")
    check_weak(Guidance((Probe(next(iter(of.values()))),)), family, denoisers)
    used = [k for k, _ in enumerate(asked) if axes is not None or (weak[:, :, k] != "").any()]
    kept = {(i, j, used.index(k)): model for (i, j, k), model in of.items()}
    return Models(numbers, chosen, tuple(asked[k] for k in used), weak[:, :, used], why[:, :, used], kept)


def _layers(family: Family, denoisers: Mapping[str, nn.Module], layers: Sequence[int] | None) -> tuple[int, ...]:
    count = min((len(family.layers(module)) for module in denoisers.values()), default=0)
    if not count:
        raise GuidanceError(
            f"the lab knows of no blocks in {family.name} models, so there are no layers to go through."
        )
    if layers is None:
        return tuple(range(count))
    numbers = whole_numbers(layers, "layers", "layers=[3, 4]")
    outside = [n for n in numbers if n >= count]
    if outside:
        raise GuidanceError(
            f"layer {', '.join(map(str, outside))} is out of range: the model has {count} blocks, 0 to {count - 1}. Type for "
            f"example layers=[{count // 2}], or leave layers out for all."
        )
    return numbers


def _names(what: str, given: Sequence[str] | str, allowed: Sequence[str]) -> tuple[str, ...]:
    if isinstance(given, bytes) or not isinstance(given, Iterable):
        one_of(what, given, allowed)
    names = (given,) if isinstance(given, str) else tuple(given)
    if not names:
        raise GuidanceError(f"name at least one {what}. Known: {', '.join(allowed)}.")
    for name in names:
        one_of(what, name, allowed)
    return tuple(dict.fromkeys(names))


def _not_by_itself(family: Family, part: str, axis: str) -> str:
    """Why a weak model along an axis is not run unless it is asked for by name; "" where it is."""
    if axis == "joint":
        return ""
    if part not in EDITS:
        return f"asked for by name alone: axes=[..., {axis!r}]"
    placed = type(family).grid is not Family.grid or family.axes != ("joint",)
    return "" if placed else f"the lab does not know how the video tokens of {family.name} pipelines lie"


def _refused(model: Weak, family: Family, denoisers: Mapping[str, nn.Module]) -> str:
    try:
        for name, module in denoisers.items():
            model.check(family, name, module)
    except GuidanceError as error:
        return str(error)
    return ""
