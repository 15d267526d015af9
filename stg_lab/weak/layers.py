"""Lists of layers (or heads) as values and as text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from stg_lab.errors import GuidanceError
from stg_lab.given import Refused, Several, Whole, read, shown

#: More layers, or heads, than any model has.
MOST = 10_000


def whole_numbers(given: Any, what: str = "layers", example: str = "lab.skip([5])") -> tuple[int, ...]:
    """One number or several as a sorted tuple without repeats; numpy's are welcome.

    Raises:
        GuidanceError: none at all, a negative or fractional one, or something else.
    """
    if isinstance(given, Iterable) and not isinstance(given, str | bytes):
        given = list(given)
        if not given:
            raise GuidanceError(f"{what} is an empty list; give at least one. Type for example {example}.")
    try:
        numbers = Several(Whole(0, MOST)).read(given)
    except Refused:
        raise GuidanceError(
            f"{what} are whole numbers from 0, at most {MOST}, got {shown(given)}. Type for example {example}."
        ) from None
    return tuple(sorted({numbers} if isinstance(numbers, int) else set(numbers)))


def whole_number(given: Any, what: str, low: int, example: str) -> int:
    """One whole number, numpy's too.

    Raises:
        GuidanceError: a number below `low`, a fractional one, or something else.
    """
    return read(what, given, Whole(low), GuidanceError, example)


def format_layers(layers: Iterable[int]) -> str:
    """Layers as a short text: runs of three and more are written with a dash.

    >>> format_layers([0, 1, 3, 4, 5])
    '0,1,3-5'
    """
    runs: list[list[int]] = []
    for layer in sorted(layers):
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ",".join(f"{r[0]}-{r[-1]}" if len(r) > 2 else ",".join(map(str, r)) for r in runs)


def parse_layers(text: str) -> tuple[int, ...]:
    """Read `format_layers` back.

    Raises:
        GuidanceError: the text is not a list of layers.
    """
    layers: list[int] = []
    for piece in text.split(","):
        first, dash, last = piece.strip().partition("-")
        ends = (first, last) if dash else (first, first)
        if not all(end.isdecimal() and len(end) < 6 and int(end) <= MOST for end in ends) or int(ends[1]) < int(first):
            raise GuidanceError(f"{shown(text)} is not a list of layers. Type for example 5 or 3-5,8.")
        layers += range(int(first), int(ends[1]) + 1)
    return tuple(layers)
