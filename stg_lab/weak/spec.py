"""Weak models as text: `skip:block:5`, `skip:attention:3-5@temporal`, `blur:5:sigma=2:prompt=negative`.

A specification is the kind, its positional fields, `@axis` where it is not joint, and every other field that is not at its
default as `name=value`, all joined by colons.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from stg_lab.errors import GuidanceError, did_you_mean
from stg_lab.given import Text, shown
from stg_lab.given import read as read_typed
from stg_lab.weak.layers import format_layers, parse_layers

if TYPE_CHECKING:
    from stg_lab.weak.base import Weak

#: Every kind of weak model, filled as their classes are defined.
KINDS: dict[str, type[Weak]] = {}


def register(cls: type[Weak]) -> None:
    """Make a class with a `kind` known to `parse`."""
    if cls.__dict__.get("kind"):
        KINDS[cls.kind] = cls


def own_fields(cls: Any) -> dict[str, Field]:
    """The fields that say what a weak model is, by name and in order."""
    return {f.name: f for f in fields(cls) if f.compare}


def changed(weak: Weak) -> dict[str, Any]:
    """Values that are not at their default, by field."""
    values = {name: (f, getattr(weak, name)) for name, f in own_fields(weak).items()}
    return {name: value for name, (f, value) in values.items() if value != _default(f)}


def write(weak: Weak) -> str:
    """A weak model's specification."""
    new = changed(weak)
    head = ":".join([weak.kind, *(_encode(getattr(weak, name)) for name in weak.positional)])
    axis = f"@{weak.axis}" if "axis" in new else ""
    options = [f":{name}={_encode(value)}" for name, value in new.items() if name not in (*weak.positional, "axis")]
    return head + axis + "".join(options)


def typed(weak: Weak) -> str:
    """What to type for a weak model: `lab.skip([5], part='attention')`."""
    new = changed(weak)
    shown = {name: repr(list(v) if isinstance(v, tuple) else v) for name, v in new.items()}
    unnamed = [shown.pop(name) for name, f in own_fields(weak).items() if name in shown and not f.kw_only]
    return f"lab.{weak.kind}({', '.join([*unnamed, *(f'{name}={text}' for name, text in shown.items())])})"


def parse(text: str) -> Weak:
    """Read a weak model's specification back: `parse(str(weak)) == weak`.

    Raises:
        GuidanceError: the text is no specification; the message shows one.

    >>> str(parse("skip:attention:3-5"))
    'skip:attention:3-5'
    """
    text = read_typed("a specification", text, Text(empty=True), GuidanceError, "weak.parse('skip:block:5')")
    kind, _, rest = text.strip().partition(":")
    if kind not in KINDS:
        raise GuidanceError(
            f"{shown(text)} names no weak model.{did_you_mean(kind, KINDS)} Kinds: {', '.join(sorted(KINDS))}. "
            "Type for example skip:block:5."
        )
    cls = KINDS[kind]
    try:
        return cls.from_text(rest)
    except GuidanceError as error:
        raise GuidanceError(f"{shown(text)}: {error} As text: {cls.example_text or f'{kind}:5'}.") from None


def read(cls: type[Weak], text: str) -> dict[str, Any]:
    """The arguments for a class from the part of a specification that follows its kind."""
    own = own_fields(cls)
    segments = text.split(":")
    count = len(cls.positional)
    if len(segments) < count or not all(segments):
        raise GuidanceError(f"the {' and '.join(cls.positional)} must be there, and nothing may be empty.")
    given: dict[str, str] = dict(zip(cls.positional, segments, strict=False))
    if "axis" in own:
        last = cls.positional[-1]
        given[last], at, axis = given[last].partition("@")
        given |= {"axis": axis} if at else {}
    for segment in segments[count:]:
        name, equals, value = segment.partition("=")
        if name not in own or not equals or name in given:
            why = "is said twice." if equals and name in given else f"is no option.{did_you_mean(name, own)}"
            raise GuidanceError(f"{segment!r} {why} Options: {', '.join(n for n in own if n not in cls.positional)}.")
        given[name] = value
    return {name: _decode(own[name], value) for name, value in given.items()}


def _default(f: Field) -> Any:
    return None if f.default is MISSING else f.default


def _encode(value: Any) -> str:
    if isinstance(value, tuple):
        return format_layers(value)
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    return quote(str(value), safe="/.,-_+~")


def _decode(f: Field, text: str) -> Any:
    readers: dict[str, Callable[[str], Any]] = {
        "tuple[int, ...]": parse_layers,
        "tuple[int, ...] | None": parse_layers,
        "int": int,
        "float": float,
        "str": unquote,
        "bool": {"True": True, "False": False}.__getitem__,
    }
    kind = f.type.__name__ if isinstance(f.type, type) else str(f.type)  # a name, under postponed annotations
    try:
        return readers[kind](text)
    except GuidanceError:
        raise
    except (ValueError, KeyError):
        raise GuidanceError(f"{f.name}={text} cannot be read as {kind}.") from None
