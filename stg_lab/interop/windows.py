"""Windows: the part of a run where a guidance acts, as diffusers counts its steps and as the lab does.

A guider with `start` and `stop` acts at the steps `int(start * n) <= k < int(stop * n)`, a term of the lab at
`start * n <= k < stop * n`. Where n times a share is no whole number the two are a step apart, so such a window can be said in
the lab's terms only for a known number of steps. The skip windows of diffusers are strict on both sides besides,
`int(start * n) < k < int(stop * n)`: what begins at a whole step begins one too late.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from stg_lab.errors import GuidanceError
from stg_lab.guidance import CFG, Moment, Term, number
from stg_lab.interop.as_code import window


@dataclass(frozen=True)
class Where:
    """What is known of the run that a guider is read for.

    Attributes:
        steps: how many steps it has, or None.
        pipe: the pipeline, or None.
    """

    steps: int | None = None
    pipe: Any = None


def steps_of(term: Term, steps: int) -> list[int]:
    """The steps inside a term's window, in a run of so many; windows in sigma are not looked at."""
    return [k for k in range(steps) if term.inside(Moment(k, steps))]


def first_step(share: float, steps: int) -> int:
    """The first step of a term that starts at a share, and the first one past a term that stops there."""
    return steps if share >= 1 else steps - len(steps_of(CFG(2, start=share), steps))


def holds_first(term: Term, count: int, steps: int | None) -> bool:
    """Whether the first so many steps of a run lie in a term's window; a window needs a known number of steps."""
    if (term.start, term.stop) == (0, 1):
        return True
    return steps is not None and steps_of(term, steps)[:count] == list(range(min(count, steps)))


def main_window(guider: Any, where: Where) -> dict[str, Any]:
    """`start` and `stop` of a term for the main window of a guider.

    Raises:
        GuidanceError: the window is empty, or how many steps the run has must be known and is not.
    """
    ends = (guider.config[name] for name in ("start", "stop"))
    start, stop = (end if isinstance(end, int | float) else end[0] for end in ends)  # one for each level, all alike
    if start == 0 and stop == 1:
        return {}
    n = needed_steps(guider, where, f"start={number(start)}, stop={number(stop)}")
    first, last = int(start * n), int(stop * n)
    if first >= last:
        raise GuidanceError(
            f"{type(guider).__name__}: start={number(start)}, stop={number(stop)} holds no step of a run of {n}, so it would "
            "never act. Take a wider window or more steps."
        )
    return {"start": _share(start, first, n), "stop": _share(stop, last, n)}


def strict_window(guider: Any, start: float, stop: float, where: Where, term: str) -> tuple[int, int]:
    """The first step of a skip window of diffusers and the first one past it, where it begins at the step that it says.

    Args:
        term: the term to type, without its closing bracket.

    Raises:
        GuidanceError: the window begins one step later than it says, it is empty, or the number of steps is not known.
    """
    name, n = type(guider).__name__, where.steps
    if n is None and start == 0:
        end = "" if stop == 1 else f", stop={number(stop)}"
        raise GuidanceError(
            f"{name} is told to skip from start=0, but diffusers never guides step 0 (its window is start < step). To guide it "
            f"type {term}{end}), to leave it out {term}, start=1/steps{end})."
        )
    n = needed_steps(guider, where, f"a skip window of {number(start)} to {number(stop)}")
    first, last, meant = int(start * n) + 1, int(stop * n), first_step(start, n)
    if first >= last:
        raise GuidanceError(
            f"{name}: the skip window of {number(start)} to {number(stop)} holds no step of a run of {n} in diffusers "
            f"({first - 1} < step < {last}), so nothing would ever be skipped. Take a wider window or more steps."
        )
    if first != meant:
        raise GuidanceError(
            f"{name}: the skip window starts at {number(start)} of {n} steps, which is step {meant}, but diffusers begins with "
            f"step {first} (its window is start < step){' and so never guides step 0' if not meant else ''}. To begin with step "
            f"{meant} type {term}{window(meant, last, n)}), for what diffusers does {term}{window(first, last, n)})."
        )
    return first, last


def main_shares(term: Term, steps: int | None, tool: str) -> dict[str, float]:
    """The other way: `start` and `stop` of a guider for the window of a term, without those at their defaults.

    Raises:
        GuidanceError: the number of steps must be known and is not, or no step lies in the window.
    """
    if (term.start, term.stop) == (0, 1):
        return {}
    first, last = whole_window(term, steps, tool)
    shares = {"start": truncated(first, steps), "stop": truncated(last, steps)}
    return {name: share for name, share in shares.items() if share != {"start": 0.0, "stop": 1.0}[name]}


def whole_window(term: Term, steps: int | None, tool: str) -> tuple[int, int]:
    """The first step of a term and the first one past it."""
    if steps is None:
        raise GuidanceError(
            f"{tool} counts the steps of a window in another way, so how many steps the run has must be known: "
            "lab.export(..., steps=24)."
        )
    inside = steps_of(term, steps)
    if not inside:
        raise GuidanceError(f"{term} acts at no step of a run of {steps}. Take a wider window or more steps.")
    return inside[0], inside[-1] + 1


def truncated(step: int, steps: int | None) -> float:
    """The smallest share for which `int(share * steps)` is the step: `29 / 100 * 100` comes out below 29."""
    assert steps is not None
    share = step / steps
    while int(share * steps) < step:
        share = math.nextafter(share, 2)
    return share


def needed_steps(guider: Any, where: Where, why: str) -> int:
    """How many steps the run has.

    Raises:
        GuidanceError: it is not known.
    """
    if where.steps is None:
        raise GuidanceError(
            f"{type(guider).__name__} with {why} acts at other steps for every number of steps (diffusers rounds them down). Say "
            "how many the run has: lab.from_guider(guider, steps=24). lab.sample takes it from its call."
        )
    return where.steps


def _share(given: float, step: int, steps: int) -> float:
    """A share that the lab reads as `step`: the given one where it does."""
    whole = step / steps
    return given if first_step(given, steps) == step and not math.isclose(given, whole) else whole
