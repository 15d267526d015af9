"""Lists of layers (or heads) as values and as text."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Iterable
from typing import Any

from stg_lab.errors import GuidanceError


def whole_numbers(given: Any, what: str = "layers", example: str = "lab.skip([5])") -> tuple[int, ...]:
    """One number or several as a sorted tuple without repeats; numpy's are welcome.

    Raises:
        GuidanceError: none at all, a negative or fractional one, or something else.
    """
    several = list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [given]
    if not several:
        raise GuidanceError(f"{what} is an empty list; give at least one. Type for example {example}.")
    try:
        numbers = [operator.index(n) for n in several if not isinstance(n, bool)]
    except TypeError:
        numbers = []
    if len(numbers) != len(several) or min(numbers) < 0:
        raise GuidanceError(f"{what} are whole numbers from 0, got {given!r}. Type for example {example}.")
    return tuple(sorted(set(numbers)))


def whole_number(given: Any, what: str, low: int, example: str) -> int:
    """One whole number, numpy's too.

    Raises:
        GuidanceError: a number below `low`, a fractional one, or something else.
    """
    if not isinstance(given, bool):
        with contextlib.suppress(TypeError):
            if (number := operator.index(given)) >= low:
                return number
    raise GuidanceError(f"{what} is a whole number from {low}, got {given!r}. Type for example {example}.")


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
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise GuidanceError(f"{text!r} is not a list of layers. Type for example 5 or 3-5,8.")
        layers += range(int(first), int(last if dash else first) + 1)
    return tuple(layers)
