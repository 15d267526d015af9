"""Arguments as they were typed: read by their kind, or refused in one line that says what was given and what is allowed.

A name means the same wherever the lab takes it (`ARGUMENTS`), so a public function needs one line: `@takes()`. What means
something else in one function is said there: `@takes(step=Several(Whole()))`. A default passes as it is.
"""

from __future__ import annotations

import functools
import inspect
import math
import operator
import os
import re
import reprlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, ParamSpec, Protocol, TypeVar

from stg_lab.errors import CallError, LabError, did_you_mean

P = ParamSpec("P")
R = TypeVar("R")

LARGEST = 2**63 - 1  # what files keep of a whole number
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 100
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = 8
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # pathlib makes one slash of two


def shown(value: Any) -> str:
    """What was typed, in one short line."""
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and shape:
        return f"{type(value).__name__} of shape {tuple(shape)}"
    try:
        return " ".join(_SHORT.repr(value).split())
    except Exception:  # whatever somebody's own __repr__ raises
        return f"a {type(value).__name__}"


class Refused(Exception):
    """A value that is not of a kind; says what the kind allows, and after that what else helps."""


class Kind(Protocol):
    """What a value may be: reads it, or raises `Refused`."""

    def read(self, value: Any) -> Any: ...


@dataclass(frozen=True)
class Whole:
    """A whole number; numpy's and torch's are welcome, True and False are none."""

    low: int = 0
    high: int = LARGEST
    words: str = "a whole number"

    def read(self, value: Any) -> int:
        try:
            number = None if isinstance(value, bool) or getattr(value, "ndim", 0) != 0 else operator.index(value)
        except (TypeError, ValueError):
            number = None
        if number is None or number < self.low:
            raise Refused(self.words if self.low == -LARGEST else f"{self.words} from {self.low}")
        if number > self.high:
            raise Refused(f"{self.words} from {self.low} to {self.high}")
        return number


@dataclass(frozen=True)
class Number:
    """A finite number, or an infinite one where it may be `endless`; of `above`, the low end itself is not allowed."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    endless: bool = False
    words: str = "number"

    def read(self, value: Any) -> float:
        number = real(value)
        if number is not None and (math.isfinite(number) or (self.endless and not math.isnan(number))):
            enough = self.low < number if self.above else self.low <= number
            if enough and number <= self.high:
                return number
        low = f" {'above' if self.above else 'from'} {self.low:g}" if math.isfinite(self.low) else ""
        raise Refused(
            f"a {'' if self.endless else 'finite '}{self.words}{low}{f' to {self.high:g}' if math.isfinite(self.high) else ''}"
        )


def real(value: Any) -> float | None:
    """A number of Python, numpy or torch as Python's own, which does not change the precision of the arrays that it
    multiplies: an int as it is, another as a float. None where it is no real number; True and False are none."""
    plain = value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value
    if not isinstance(plain, Real) or isinstance(plain, bool):
        return None
    try:
        return plain if type(plain) is int and float(plain) == plain else float(plain)
    except OverflowError:
        return math.inf


@dataclass(frozen=True)
class Flag:
    """True or False."""

    def read(self, value: Any) -> bool:
        if isinstance(value, bool) or (type(value).__module__ == "numpy" and type(value).__name__ in ("bool", "bool_")):
            return bool(value)
        raise Refused("True or False")


@dataclass(frozen=True)
class Text:
    """A text; of some words alone, where these are named."""

    words: tuple[str, ...] = ()
    empty: bool = False  # whether it may be

    def read(self, value: Any) -> str:
        if isinstance(value, str) and (value in self.words if self.words else value or self.empty):
            return str(value)
        hint = did_you_mean(value, self.words)
        text = "text" if self.empty else "text, not empty"
        raise Refused(f"one of {', '.join(map(repr, self.words))}" if self.words else text, hint)


@dataclass(frozen=True)
class Place:
    """A file or folder of this machine; `~` is the user's home."""

    def read(self, value: Any) -> Path:
        return place(value)


@dataclass(frozen=True)
class Record:
    """What `record=` takes: True, False, or a place."""

    def read(self, value: Any) -> bool | Path:
        if value is None:
            return False
        try:
            return Flag().read(value)
        except Refused:
            pass
        try:
            return place(value)
        except Refused as error:
            raise Refused(f"True, False, or {error.args[0]}", *error.args[1:]) from None


@dataclass(frozen=True)
class Several:
    """One value of a kind, or a list of them that is not empty."""

    kind: Kind
    lone: bool = True
    example: str = ""

    def read(self, value: Any) -> Any:
        many = (
            isinstance(value, Iterable)
            and not isinstance(value, str | bytes | Mapping)
            and getattr(value, "ndim", 1) != 0
        )
        if not many and self.lone:
            return self.kind.read(value)
        try:
            read = [self.kind.read(one) for one in value] if many else []
        except Refused as error:
            raise Refused(f"{f'{error.args[0]}, or ' * self.lone}a list, each {error.args[0]}") from None
        if not read:
            raise Refused("a list that is not empty" if many else "a list")
        return read


@dataclass(frozen=True)
class Called:
    """A function."""

    takes: str = ""

    def read(self, value: Any) -> Any:
        if callable(value):
            return value
        raise Refused(f"a function{f' of {self.takes}' * bool(self.takes)}")


@dataclass(frozen=True)
class Of:
    """An object of some class."""

    kind: Any  # a class, or a union of some
    words: str

    def read(self, value: Any) -> Any:
        if isinstance(value, self.kind):
            return value
        raise Refused(self.words)


@dataclass(frozen=True)
class Having:
    """An object that is told by what it has, where naming its class would import too much."""

    names: tuple[str, ...]
    words: str

    def read(self, value: Any) -> Any:
        if all(hasattr(value, name) for name in self.names):
            return value
        raise Refused(self.words)


@dataclass(frozen=True)
class Named:
    """A dict of values of a kind by their names."""

    kind: Kind

    def read(self, value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise Refused("a dict")
        try:
            return {name: self.kind.read(one) for name, one in value.items()}
        except Refused as error:
            raise Refused(f"a dict, each {error.args[0]}") from None


def place(value: Any) -> Path:
    """A path as it was typed, with `~` for the user's home.

    Raises:
        Refused: no path, an empty one, or a URL.
    """
    allowed = "the path of a file or folder on this machine"
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str) or not value or "\0" in value:
        raise Refused(allowed)
    if _URL.match(value):
        raise Refused(allowed, " Files elsewhere are not reached; copy them by other means.")
    try:
        return Path(value).expanduser()
    except RuntimeError:  # ~somebody who is not known here
        raise Refused(allowed, " There is no such user.") from None


#: A number that whoever knows how many there are holds against them.
INDEX = Whole(-LARGEST)
#: What an argument of this name is, wherever the lab takes it.
ARGUMENTS: dict[str, Kind] = {
    "seed": Whole(words="one whole number"),
    "step": INDEX,
    "sample": INDEX,
    "record": Record(),
    "record_dtype": Text(),
    "on_step": Called("the step that is done"),
    "settings": Of(Mapping, "a dict of plain values"),
    "path": Place(),
    "out": Place(),
    "stem": Place(),
    "file": Place(),
    "fps": Number(0, 1000, above=True, words="number of frames a second"),
    "height": Whole(10, 20_000),
    "cut": Number(0, above=True),
    "title": Text(),
    "frames": Whole(1, 1000),
    "columns": Whole(1, 1000),
    "dpi": Number(0, 10_000, above=True),
    "resamples": Whole(1, 10_000_000),
    "k": Whole(1),
    **dict.fromkeys(("overwrite", "progress", "replace", "judge", "paired", "unit", "cosine", "relative"), Flag()),
}


def read(what: str, value: Any, kind: Kind, error: type[LabError] = CallError, example: str = "") -> Any:
    """A value of a kind.

    Raises:
        LabError: the `error`; it is not of the kind.
    """
    try:
        return kind.read(value)
    except Refused as refused:
        allowed, *more = refused.args
        hint = f" Type for example {example}." if example else ""
        raise error(f"{what} is {allowed}, got {shown(value)}.{''.join(more)}{hint}") from None


def _example(name: str, default: Any, kind: Kind) -> str:
    """What may be typed: the default, where it is a plain value, the kind's own example, or the first whole number."""
    if isinstance(default, int | float | str) and default != "":
        return f"{name}={default!r}"
    if example := getattr(kind, "example", ""):
        return f"{name}={example}"
    return f"{name}={kind.low}" if isinstance(kind, Whole) else ""


def takes(error: type[LabError] = CallError, **kinds: Kind | None) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A function whose arguments are read by `ARGUMENTS` before it runs; `kinds` says what differs, None leaves one alone."""

    def wrap(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        wanted = {name: kinds.get(name, ARGUMENTS.get(name)) for name in signature.parameters}

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            bound = signature.bind(*args, **kwargs)
            for name, value in bound.arguments.items():
                kind = wanted[name]
                default = signature.parameters[name].default
                if kind is not None and value is not default:
                    bound.arguments[name] = read(name, value, kind, error, _example(name, default, kind))
            return function(*bound.args, **bound.kwargs)

        return call

    return wrap
