"""The lab's own file for a guidance, JSON that people can read, and `from_json`, which reads it and other tools' files."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from stg_lab.errors import GuidanceError, did_you_mean
from stg_lab.given import Number, Refused, Whole, place, read, shown
from stg_lab.guidance import RULES, Guidance
from stg_lab.guidance.guidance import TERMS
from stg_lab.interop.comfyui_graph import is_workflow
from stg_lab.interop.from_comfyui import Known, from_comfyui
from stg_lab.interop.from_words import WORDS, from_wan2gp, from_words, is_wan2gp
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


def from_json(
    source: str | Path,
    *,
    cfg: float | None = None,
    steps: int | None = None,
    shift: float | None = None,
    node: str | int | None = None,
    pipe: Any = None,
) -> Guidance:
    """Read a guidance: of the lab's own file, of a ComfyUI workflow, of Wan2GP's settings, or of a line of words.

    Args:
        source: the text itself, or the path of a file that holds it: what `lab.export(guidance, "json")` wrote; a workflow as
            ComfyUI's page saves it, or in its API form; a settings file of Wan2GP; or words such as
            "blocks 9,10 start 0.1 end 0.9".
        cfg: CFG scale, for words that do not say it.
        steps: how many steps the run has, for windows that count them, where the file does not say it.
        shift: the model's flow shift, for ComfyUI's windows in percent; else that of its `ModelSamplingSD3` node.
        node: number of the sampler or guider in a workflow that has several.
        pipe: the pipeline, for nodes that name blocks of two kinds.

    Returns:
        The sum. Of the lab's own file it is equal to the one that was written (with scales that were functions as numbers). What a
        workflow or a settings file has beside its guidance is told in a warning.

    Raises:
        GuidanceError: no such file, nothing that the lab reads, or a guidance that it cannot say in full: the error lists
            everything that stands in the way.
    """
    cfg = None if cfg is None else read("cfg", cfg, Number(), GuidanceError)
    shift = None if shift is None else read("shift", shift, Number(0, above=True), GuidanceError)
    steps = None if steps is None else read("steps", steps, Whole(1), GuidanceError)
    if isinstance(source, str) and WORDS.match(source):
        return from_words(source, cfg)
    try:
        values = json.loads(_text(source))
    except (json.JSONDecodeError, RecursionError) as error:
        raise GuidanceError(
            f"this is no JSON: {error}, in {shown(source)}. lab.export(guidance, 'json') writes what lab.from_json reads."
        ) from None
    values = _inside(values)
    if is_workflow(values) or is_wan2gp(values):
        return _foreign(values, steps=steps, shift=shift, node=node, pipe=pipe)
    return _own(values)


def _inside(values: Any) -> Any:
    """The workflow in what ComfyUI's API is sent, or in what its pictures carry."""
    for name in ("prompt", "workflow"):
        if isinstance(values, dict) and is_workflow(values.get(name)):
            return values[name]
    return values


def _foreign(values: Any, *, steps: int | None, shift: float | None, node: Any, pipe: Any) -> Guidance:
    """A guidance of another tool, with a warning about what is left."""
    known = Known(shift=shift, steps=steps, pipe=pipe)
    try:
        if is_workflow(values):
            total = from_comfyui(values, known, None if node is None else str(node))
        else:
            total = from_wan2gp(values, steps, known.left)
    except GuidanceError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise GuidanceError(
            f"this workflow or settings file is not as the lab knows them ({type(error).__name__}: {error})."
        ) from None
    if known.left:
        warnings.warn(
            f"read as {total}. Not carried over, since it is no guidance: {', '.join(known.left)}.", stacklevel=3
        )
    return total


def _own(values: Any) -> Guidance:
    """The lab's own file."""
    if not isinstance(values, dict) or "stg_lab" not in values or not isinstance(values.get("guidance"), dict):
        raise GuidanceError(
            'this JSON holds no guidance of the lab, which is {"stg_lab": 1, "guidance": {...}}, no workflow of ComfyUI and no settings '
            "of Wan2GP. lab.export(guidance, 'json') writes one."
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
