"""Scales and other numbers as users give them: read, checked, and written as one types them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from stg_lab.errors import GuidanceError
from stg_lab.given import real, shown

#: The most of what is counted in a sum.
MOST = 1_000_000
#: A scale that may change from step to step: one number, one for each step, or a function of the share of the steps done.
Schedule = float | Iterable[float] | Callable[[float], float]


def number(value: float) -> str:
    """A number as one types it: exact, and without a needless `.0`."""
    return str(int(value)) if math.isfinite(value) and value == int(value) else repr(float(value))


def count(what: str, value: Any, least: int) -> int:
    """A whole number from `least` up.

    Raises:
        GuidanceError: it is not one.
    """
    number = real(value)
    if number is None or not (least <= number <= MOST and float(number).is_integer()):
        most = f" {MOST}," if number is not None and number > MOST else ""
        raise GuidanceError(f"{what} takes {least}, {least + 1}, {least + 2}, ...,{most} got {shown(value)}.")
    return int(number)


def window(value: Any) -> tuple[float, float]:
    """Two noise levels, (low, high); the high one may be infinite.

    Raises:
        GuidanceError: something else.
    """
    try:
        ends = [] if isinstance(value, str | bytes) else [real(one) for one in value]
    except TypeError:
        ends = []
    low, high = ends if len(ends) == 2 else (None, None)
    if low is None or high is None or not 0 <= low < high:
        raise GuidanceError(
            f"sigma=(low, high) needs 0 <= low < high, got {shown(value)}. Type for example sigma=(0.2, 5)."
        )
    return float(low), float(high)


def schedule(value: Any) -> Any:
    """A scale as plain values: a number, a tuple with one for each step, or the callable as it is.

    Numbers of numpy and torch become Python's, which do not change the precision of the arrays that they multiply.

    Raises:
        GuidanceError: neither a number nor numbers nor a callable.
    """
    if callable(value):
        return value
    lone = float(value) if isinstance(value, bool) else real(value)
    if lone is not None:
        return lone
    try:
        several = None if isinstance(value, str | bytes) else [real(v) for v in value]
    except TypeError:
        several = None
    if several is None or any(v is None for v in several):
        raise GuidanceError(
            "a scale is a number, a list with one for each step, or a function of the share of the steps done, got "
            f"{shown(value)}."
        )
    return tuple(float(v) for v in several)  # type: ignore[arg-type]
