"""What to type so that a pipeline does the CFG that a guidance asks for: only what was not typed already."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from stg_lab.families import Family
from stg_lab.families.caller_frame import running
from stg_lab.guidance import Guidance, number


def to_scale(scale: float, pipe: Any, family: Family, call: Mapping[str, Any] | None = None) -> str:
    """How the pipeline comes to work with a CFG scale.

    Args:
        call: arguments of the call; None for the one that is running.
    """
    if not _has(scale, pipe, family, call):
        return family.how_to_scale(number(scale))
    return _to_negative(pipe, family, call)


def to_uncond(guidance: Guidance, pipe: Any, family: Family, call: Mapping[str, Any] | None = None) -> str:
    """How the pipeline comes to compute the unconditional prediction; see `to_scale`."""
    asked = guidance.cfg_scale() if guidance.has_cfg else _said(pipe, family.scale_argument, call)
    set_already = isinstance(asked, int | float) and asked > 1 and _has(float(asked), pipe, family, call)
    return _to_negative(pipe, family, call) if set_already else family.how_to_uncond()


def _has(scale: float, pipe: Any, family: Family, call: Mapping[str, Any] | None) -> bool:
    """Whether the call was given this scale."""
    said = _said(pipe, family.scale_argument, call)
    return isinstance(said, int | float) and family.asked_scale({family.scale_argument: said}) == scale


def _to_negative(pipe: Any, family: Family, call: Mapping[str, Any] | None) -> str:
    taken = inspect.signature(pipe.__call__).parameters
    negative = [n for n in taken if n == "negative_prompt" or (n.startswith("negative") and n.endswith("embeds"))]
    name = family.scale_argument
    if negative and all(_said(pipe, n, call) is None for n in negative):
        return f"It has the {name}, and needs a negative prompt beside it: negative_prompt='' will do."
    return f"It has the {name}, so this pipeline computes none at all: its model may be distilled. Leave CFG out of the sum."


def _said(pipe: Any, name: str, call: Mapping[str, Any] | None) -> Any:
    if not name:
        return None
    return running(pipe, name).get(name) if call is None else call.get(name)
