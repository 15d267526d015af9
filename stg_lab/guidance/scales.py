"""Scales and other numbers as users give them: read, checked, and written as one types them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from numbers import Real
from typing import Any

from stg_lab.errors import GuidanceError

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
    if not (value >= least and float(value).is_integer()):
        raise GuidanceError(f"{what} takes {least}, {least + 1}, {least + 2}, ..., got {value}.")
    return int(value)


def schedule(value: Any) -> Any:
    """A scale as plain values: a number, a tuple with one for each step, or the callable as it is.

    Numbers of numpy and torch become Python's, which do not change the precision of the arrays that they multiply.

    Raises:
        GuidanceError: neither a number nor numbers nor a callable.
    """
    if callable(value):
        return value
    try:
        if isinstance(value, Real) or getattr(value, "ndim", None) == 0:
            return value if type(value) is int else float(value)
        if isinstance(value, str):
            raise TypeError
        return tuple(float(v) for v in value)
    except (TypeError, ValueError):
        raise GuidanceError(
            f"a scale is a number, a list with one for each step, or a function of the share of the steps done, got {value!r}."
        ) from None
