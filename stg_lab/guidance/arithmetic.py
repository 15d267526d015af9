"""What can be written with terms and sums: `+` alone, and what to type instead of the rest."""

from __future__ import annotations

from typing import Any, NoReturn

from stg_lab.errors import NoTermError
from stg_lab.given import shown


class Arithmetic:
    """Operators of terms and sums, beside their own `+`."""

    def __radd__(self, other: Any) -> Any:
        """`0 + term` is the term, so that `sum([...])` adds terms up."""
        if is_zero(other):
            return self + other  # type: ignore[operator]
        raise not_a_term(other)

    def __mul__(self, other: Any) -> NoReturn:
        raise NoTermError(
            f"a scale stands inside its term, so {self} cannot be multiplied or divided. Type for example lab.STG(2, weak), or for a weight "
            "that changes a schedule: lab.STG(lambda done: 2 * (1 - done), weak)."
        )

    __rmul__ = __mul__
    __truediv__ = __mul__

    def __sub__(self, other: Any) -> NoReturn:
        raise NoTermError(
            "terms are added up, never subtracted. For a vector that points the other way type a negative scale: "
            "lab.CFG(4) + lab.STG(-1, weak)."
        )

    __rsub__ = __sub__

    def __neg__(self) -> NoReturn:
        self.__sub__(self)


def is_zero(value: Any) -> bool:
    """What `sum` begins with."""
    return isinstance(value, int | float) and value == 0


def not_a_term(value: Any) -> NoTermError:
    """The error for what cannot be added to a sum."""
    if hasattr(value, "name") and hasattr(value, "acts"):
        return NoTermError(
            f"{value} is a weak model, and terms are what is added up. Type lab.STG(1, {value!r}), or lab.Probe({value!r}) to "
            "record it alone."
        )
    return NoTermError(
        f"{shown(value)} is no term. Add up lab.CFG(scale), lab.STG(scale, weak) and lab.Probe(weak), for example "
        "lab.CFG(4) + lab.STG(1, lab.skip([5]))."
    )
