"""The guidance vectors of a recording, one step at a time, and which of them are the spatial and the temporal one."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from stg_lab.errors import GuidanceError, RecordingError, did_you_mean
from stg_lab.given import Text, read
from stg_lab.guidance import COND, UNCOND
from stg_lab.recording import Recording, Source, recording_of
from stg_lab.weak import parse


def away_from(recording: Recording) -> list[str]:
    """Branches that a guidance vector `cond - branch` points away from: `uncond`, and the weak models."""
    return [*([UNCOND] if UNCOND in recording.branches else []), *recording.weak]


def _named(name: str) -> str:
    return read("a guidance vector", name, Text(), GuidanceError)


def chosen_vectors(recording: Recording, names: Iterable[str], *, least: int = 2) -> list[str]:
    """The named vectors, or all where none is named.

    Raises:
        GuidanceError: no such branch, or one that no vector points away from.
        RecordingError: fewer than `least`.
    """
    known = away_from(recording)
    names = list(names)
    chosen = list(dict.fromkeys(map(_named, names))) or known
    for name in chosen:
        if name not in known:
            raise GuidanceError(
                f"no guidance vector away from {name!r} in this recording.{did_you_mean(name, known)} "
                f"It has: {', '.join(known) or 'none'}."
            )
    if len(chosen) < least:
        raise RecordingError(
            f"an angle is between two guidance vectors, and here there is {', '.join(chosen) or 'none'}. Record more, for "
            "example lab.CFG(4) + lab.Probe(lab.skip([5], part='attention', axis='spatial'))."
        )
    return chosen


def axis_of(recording: Recording, name: str) -> str:
    """ "spatial", "temporal" or "joint": what a branch's weak model was weakened along; "" where there is none."""
    if name not in recording.weak:
        return ""
    try:
        return parse(recording.weak[name]).axis
    except GuidanceError:  # written by a newer lab
        return ""


def space_and_time(recording: Source) -> tuple[str, str]:
    """The branches of the first spatial and the first temporal weak model.

    Raises:
        GuidanceError: one of the two was not recorded.
    """
    recording = recording_of(recording)
    axes = {name: axis_of(recording, name) for name in recording.weak}
    found = [next((name for name, axis in axes.items() if axis == wanted), None) for wanted in ("spatial", "temporal")]
    if found[0] is None or found[1] is None:
        raise GuidanceError(
            "this recording does not hold both a spatial and a temporal weak model. Record them with "
            "lab.STG(1, lab.skip([5], part='attention', axis='spatial')) + "
            "lab.STG(1, lab.skip([5], part='attention', axis='temporal')). "
            f"It has: {', '.join(recording.weak.values()) or 'none'}."
        )
    return found[0], found[1]


def vector_label(recording: Recording, name: str) -> str:
    """A vector in a word or two: "CFG", "spatial skip", or its branch where that would name two of them."""
    if name == UNCOND:
        return "CFG"
    axis = axis_of(recording, name)
    if axis not in ("spatial", "temporal"):
        return name
    kind = parse(recording.weak[name]).kind
    twins = [b for b in recording.weak if axis_of(recording, b) == axis and parse(recording.weak[b]).kind == kind]
    return f"{axis} {kind}" if len(twins) == 1 else name


def vectors_at(recording: Recording, names: Iterable[str], step: int) -> np.ndarray:
    """The guidance vectors `cond - branch` at one step, float32 `(vector, sample, channel, frame, y, x)`; NaN where not computed."""
    cond = recording.prediction(COND).isel(step=step).values
    others = [recording.prediction(name).isel(step=step).values for name in names]
    return np.stack([cond - other for other in others])
