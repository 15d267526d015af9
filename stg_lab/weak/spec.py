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
from stg_lab.weak.layers import format_layers, parse_layers

if TYPE_CHECKING:
    from stg_lab.weak.base import Weak

#: Every kind of weak model, filled as their classes are defined.
KINDS: dict[str, type[Weak]] = {}


def register(cls: type[Weak]) -> None:
    """Make a class with a `kind` known to `parse`."""
    if cls.__dict__.get("kind"):
        KINDS[cls.kind] = cls


def own_values(weak: Weak, *, changed: bool = False) -> list[tuple[str, Any]]:
    """Fields and their values, in order; `changed` leaves out those at their default."""
    values = [(f, getattr(weak, f.name)) for f in fields(weak) if f.compare]
    return [(f.name, value) for f, value in values if not changed or value != _default(f)]


def write(weak: Weak) -> str:
    """A weak model's specification."""
    changed = dict(own_values(weak, changed=True))
    head = ":".join([weak.kind, *(_encode(getattr(weak, name)) for name in weak.positional)])
    axis = f"@{weak.axis}" if "axis" in changed else ""
    options = [f":{n}={_encode(value)}" for n, value in changed.items() if n not in (*weak.positional, "axis")]
    return head + axis + "".join(options)


def parse(text: str) -> Weak:
    """Read a weak model's specification back: `parse(str(weak)) == weak`.

    Raises:
        GuidanceError: the text is no specification; the message shows one.

    >>> str(parse("skip:attention:3-5"))
    'skip:attention:3-5'
    """
    kind, _, rest = text.strip().partition(":")
    if kind not in KINDS:
        raise GuidanceError(
            f"{text!r} names no weak model.{did_you_mean(kind, KINDS)} Kinds: {', '.join(sorted(KINDS))}. "
            "Type for example skip:block:5."
        )
    cls = KINDS[kind]
    if "from_text" in cls.__dict__:
        return cls.from_text(rest)  # type: ignore[attr-defined]
    own = {f.name: f for f in fields(cls)}
    given: dict[str, Any] = {}
    segments = rest.split(":") if rest else []
    if len(segments) < len(cls.positional) or not all(segments):
        raise GuidanceError(f"{text!r} lacks its {' and '.join(cls.positional)}. Type for example {_example(cls)}.")
    last = len(cls.positional) - 1
    for k, segment in enumerate(segments):
        if k <= last:
            if k == last and "axis" in own:
                segment, at, axis = segment.partition("@")
                given |= {"axis": axis} if at else {}
            given[cls.positional[k]] = _decode(own[cls.positional[k]], segment)
            continue
        name, equals, value = segment.partition("=")
        if name not in own or not equals:
            raise GuidanceError(
                f"{text!r}: {segment!r} is no option of {kind}.{did_you_mean(name, own)} "
                f"Options: {', '.join(n for n in own if n not in cls.positional)}. Type for example {_example(cls)}."
            )
        given[name] = _decode(own[name], value)
    return cls(**given)


def _example(cls: type[Weak]) -> str:
    return {"skip": "skip:block:5"}.get(cls.kind, f"{cls.kind}:5")


def _default(f: Field) -> Any:
    return None if f.default is MISSING else f.default


def _encode(value: Any) -> str:
    if isinstance(value, tuple):
        return format_layers(value)
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    return quote(str(value), safe="/.,-_+ ~")


def _decode(f: Field, text: str) -> Any:
    readers: dict[str, Callable[[str], Any]] = {
        "tuple[int, ...]": parse_layers,
        "tuple[int, ...] | None": parse_layers,
        "int": int,
        "float": float,
        "str": unquote,
        "bool": {"True": True, "False": False}.__getitem__,
    }
    try:
        return readers[str(f.type)](text)
    except GuidanceError:
        raise
    except (ValueError, KeyError):
        raise GuidanceError(f"{f.name}={text} is no {f.type}.") from None
