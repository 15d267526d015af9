"""Weak models as text: `skip:block:5`, `skip:attention:3-5@temporal`."""

from __future__ import annotations

from stg_lab.errors import GuidanceError, did_you_mean
from stg_lab.weak.base import Weak
from stg_lab.weak.skip import parse_layers, skip

KINDS = ("skip",)


def parse(text: str) -> Weak:
    """Read a weak model's specification back: `parse(str(weak)) == weak`.

    Raises:
        GuidanceError: the text is no specification; the message shows one.

    >>> parse("skip:attention:3-5")
    Skip(layers=(3, 4, 5), part='attention', axis='joint')
    """
    kind, _, rest = text.strip().partition(":")
    if kind not in KINDS:
        raise GuidanceError(f"{text!r} names no weak model.{did_you_mean(kind, KINDS)} Type for example skip:block:5.")
    part, colon, rest = rest.partition(":")
    if not colon:
        raise GuidanceError(f"{text!r} lacks its layers. Type for example skip:block:5 or skip:attention:3-5.")
    layers, _, axis = rest.partition("@")
    return skip(parse_layers(layers), part=part, axis=axis or "joint")
