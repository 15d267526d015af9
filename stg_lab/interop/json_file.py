"""The lab's own file for a guidance: JSON that people can read and `from_json` reads back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stg_lab.errors import GuidanceError, did_you_mean
from stg_lab.given import Refused, place, shown
from stg_lab.guidance import RULES, Guidance
from stg_lab.guidance.total import TERMS
from stg_lab.weak import parse

VERSION = 1


def json_settings(guidance: Guidance, *, steps: int | None = None) -> dict[str, Any]:
    """The guidance as plain values, with its text for people.

    Args:
        steps: how many steps the run has; turns scales that are functions into numbers.

    Raises:
        GuidanceError: a scale is a function and steps are not given.
    """
    resolved = guidance if steps is None else guidance.resolved(steps)
    return {"stg_lab": VERSION, "guidance": resolved.to_dict(), "text": str(resolved)}


def json_text(guidance: Guidance, *, steps: int | None = None) -> str:
    """The same as a file."""
    return json.dumps(json_settings(guidance, steps=steps), indent=2, allow_nan=False) + "\n"


def from_json(source: str | Path) -> Guidance:
    """Read a guidance that `lab.export(guidance, "json")` wrote.

    Args:
        source: the text itself, or the path of a file that holds it.

    Returns:
        The sum, equal to the one that was written (with scales that were functions as numbers).

    Raises:
        GuidanceError: no such file, no JSON, no guidance of the lab, written by a newer version, or with a term, rule or weak
            model that this version does not have.
    """
    try:
        values = json.loads(_text(source))
    except (json.JSONDecodeError, RecursionError) as error:
        raise GuidanceError(
            f"this is no JSON: {error}, in {shown(source)}. lab.export(guidance, 'json') writes what lab.from_json reads."
        ) from None
    if not isinstance(values, dict) or "stg_lab" not in values or not isinstance(values.get("guidance"), dict):
        raise GuidanceError(
            'this JSON holds no guidance of the lab, which is {"stg_lab": 1, "guidance": {...}}. '
            "lab.export(guidance, 'json') writes one."
        )
    version = values["stg_lab"]
    if not isinstance(version, int) or isinstance(version, bool) or not 1 <= version <= VERSION:
        raise GuidanceError(
            f"this guidance was written in format {version!r}; this stg_lab reads format 1 to {VERSION}. Update stg_lab, or type "
            f"the sum: {values.get('text', 'it is not given as text')}."
        )
    try:
        _check_kinds(values["guidance"])
        return Guidance.from_dict(values["guidance"], parse)
    except GuidanceError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise GuidanceError(
            f"this guidance is damaged ({type(error).__name__}: {error}). As text it says: {values.get('text', 'nothing')}."
        ) from None


def _text(source: str | Path) -> str:
    if isinstance(source, str) and source.lstrip().startswith(("{", "[", '"')):
        return source
    try:
        return place(source).read_text(encoding="utf-8")
    except (OSError, ValueError, Refused) as error:
        raise GuidanceError(f"{shown(source)} is neither JSON nor a file that can be read ({error}).") from None


def _check_kinds(values: dict[str, Any]) -> None:
    """Names that are looked up: of terms and of their rules; weak models say it themselves."""
    for term in values["terms"]:
        for what, name, known in [("term", term["method"], TERMS)] + [
            ("rule", rule["rule"], RULES) for rule in term.get("rules", ())
        ]:
            if name not in known:
                raise GuidanceError(
                    f"{what} {name!r} is unknown.{did_you_mean(str(name), known)} Known: {', '.join(known)}."
                )
