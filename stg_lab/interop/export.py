"""`export`: settings found in the lab, in another tool's own convention."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from stg_lab.errors import GuidanceError, did_you_mean
from stg_lab.given import Kind, Number, Whole, read, shown
from stg_lab.guidance import Guidance, Term, as_guidance
from stg_lab.interop.comfyui import comfyui_settings, comfyui_text
from stg_lab.interop.json_file import json_settings, json_text
from stg_lab.interop.ltx import ltx_settings, ltx_text
from stg_lab.interop.steps import falling
from stg_lab.interop.to_diffusers import guider_settings, to_guider

#: Name -> (what `export` returns, what `settings` returns, which of the arguments below it takes).
FORMATS: dict[str, tuple[Callable[..., Any], Callable[..., dict[str, Any]], tuple[str, ...]]] = {
    "diffusers": (to_guider, guider_settings, ("steps", "pipe")),
    "ltx": (ltx_text, ltx_settings, ("sigmas",)),
    "comfyui": (comfyui_text, comfyui_settings, ("sigmas", "shift")),
    "json": (json_text, json_settings, ("steps",)),
}


def export(
    guidance: Guidance | Term,
    to: str,
    *,
    steps: int | None = None,
    sigmas: Sequence[float] | None = None,
    shift: float | None = None,
    pipe: Any = None,
) -> Any:
    """A guidance in another tool's own convention, or as a file of the lab's own.

    Args:
        guidance: a sum or a term. What never changes the prediction (a `Probe`, CFG(1), scales of 0) is left out.
        to: "diffusers" (a guider for modular pipelines), "ltx" (lines for LTX-Video's YAML), "comfyui" (nodes in API format) or
            "json" (for `lab.from_json`).
        steps: how many steps the run will have: "diffusers" needs it where a term has a window, "json" where a scale is a
            function.
        sigmas: noise level at which each step starts, "ltx" and "comfyui" need it where anything changes on the way. What they
            get is right for these steps; other schedules fall on other sides of its bounds.
        shift: the model's flow shift, for "comfyui".
        pipe: the pipeline, for "diffusers" to name its lists of blocks.

    Returns:
        A guider object for "diffusers", else text. `stg_lab.interop.settings` returns the same as plain values.

    Raises:
        GuidanceError: the tool cannot say it: the error says why. Nothing is approximated.

    Source: see `to_diffusers`, `ltx` and `comfyui` in this room.
    """
    return _written(0, guidance, to, steps=steps, sigmas=sigmas, shift=shift, pipe=pipe)


def settings(
    guidance: Guidance | Term,
    to: str,
    *,
    steps: int | None = None,
    sigmas: Sequence[float] | None = None,
    shift: float | None = None,
    pipe: Any = None,
) -> dict[str, Any]:
    """`export` as plain values: dictionaries, lists, numbers and text; for "diffusers" the guider's class and arguments."""
    return _written(1, guidance, to, steps=steps, sigmas=sigmas, shift=shift, pipe=pipe)


def _written(which: int, guidance: Guidance | Term, to: str, **given: Any) -> Any:
    if not isinstance(to, str) or to not in FORMATS:
        raise GuidanceError(f"to={shown(to)} is unknown.{did_you_mean(to, FORMATS)} Known: {', '.join(FORMATS)}.")
    if guidance is None:
        raise GuidanceError(f"guidance is a sum or a term, got None. Type for example lab.export(lab.CFG(4), {to!r}).")
    kinds: dict[str, Kind] = {"steps": Whole(1), "shift": Number()}
    for name, kind in kinds.items():
        if given[name] is not None:
            given[name] = read(name, given[name], kind, GuidanceError)
    if given["sigmas"] is not None:
        given["sigmas"] = falling(given["sigmas"])
    *writers, takes = FORMATS[to]
    return writers[which](as_guidance(guidance), **{name: given[name] for name in takes})  # type: ignore[operator]
