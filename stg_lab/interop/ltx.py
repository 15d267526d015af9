"""Settings for Lightricks/LTX-Video's own pipeline, as they stand in its `configs/*.yaml`.

It computes `u + g (c - u) + s (c - p)` on the velocity and then, where s acts, multiplies by
`r * std(c) / std(v) + (1 - r)` of each sample. Its r is our phi, but r = 1.0 is its word for "off", so that phi = 1 has no
setting. Lists are read by noise level: a step at t takes the first entry whose `guidance_timesteps` is at most t.

Source: ltx_video/pipelines/pipeline_ltx_video.py and models/transformers/attention.py at 5260738. Its mask of skipped layers
marks the wrong rows when a batch holds several samples, so the settings are for one sample at a time.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from stg_lab.guidance import Guidance, ZeroStar, number
from stg_lab.interop.expressible import Parted, cannot, layer_skips, parted, plain
from stg_lab.interop.steps import Stretch, bounds, unrolled

TOOL = "LTX-Video"
MODES = {"attention": "attention_values", "block": "transformer_block"}


def ltx_settings(guidance: Guidance, *, sigmas: Sequence[float] | None = None) -> dict[str, Any]:
    """The settings as plain values.

    Args:
        guidance: CFG, which may carry `.zero_star(0)`, and skips of blocks or of attention, one weak model a step.
        sigmas: noise level (LTX's timestep, 1 to 0) at which each step starts; needed where anything changes on the way.

    Raises:
        GuidanceError: it cannot be said.
    """
    parts, star = _star(parted(guidance, TOOL))
    guidance = replace(guidance, terms=parts.terms)
    for term in parts.terms:
        plain(term, TOOL)
    _check_sum(guidance)
    stretches = unrolled(guidance, parts, TOOL, sigmas)
    _check_stretches(guidance, stretches)
    if max(stretches[0].sigmas, default=1.0) > 1:
        raise cannot(TOOL, guidance, f"its timesteps go from 1 to 0, got sigmas from {number(stretches[0].sigmas[0])}.")
    parts_used = {skip.part for t in parts.skips for skip in layer_skips(t.weak, TOOL)}
    if len(parts_used) > 1:
        raise cannot(TOOL, guidance, "stg_mode is one for the whole run: blocks or attention.")
    settings: dict[str, Any] = {
        "guidance_scale": [s.setting.cfg for s in stretches],
        "stg_scale": [s.setting.scale for s in stretches],
        "rescaling_scale": guidance.phi or 1.0,
        "skip_block_list": [list(s.setting.layers) for s in stretches],
    }
    if len(stretches) == 1:
        settings = {name: v[0] if isinstance(v, list) else v for name, v in settings.items()}
    else:
        settings["guidance_timesteps"] = [*bounds(stretches), 0.0]  # an entry is for the steps from its bound up
    return {**settings, "cfg_star_rescale": star, "stg_mode": MODES[next(iter(parts_used), "attention")]}


def ltx_text(guidance: Guidance, *, sigmas: Sequence[float] | None = None) -> str:
    """The settings as lines for a YAML file. Its values are JSON, which YAML reads alike."""
    lines = [f"{name}: {_yaml(value)}" for name, value in ltx_settings(guidance, sigmas=sigmas).items()]
    return "\n".join([f"# {guidance}", *lines, ""])


def _star(parts: Parted) -> tuple[Parted, bool]:
    """CFG without CFG-Zero*'s scale, and whether it had it: LTX has one switch for it, without its first still steps."""
    star = (ZeroStar(0),)
    if parts.cfg and all(t.rules == star for t in parts.cfg) and len(parts.cfg) == 1:
        return Parted((replace(parts.cfg[0], rules=()),), parts.skips), True
    return parts, False


def _check_sum(guidance: Guidance) -> None:
    if guidance.space != "native" and guidance.phi:
        raise cannot(TOOL, guidance, "it rescales the velocity, not x0. Leave in_x0() out.")
    if guidance.phi == 1:
        raise cannot(
            TOOL, guidance, "its rescaling_scale 1.0 means off, so full rescaling has no setting. 0.99 is near."
        )
    if guidance.phi and guidance.per != "sample":
        raise cannot(TOOL, guidance, "it rescales each sample by itself. Type .rescale(phi).")


def _check_stretches(guidance: Guidance, stretches: list[Stretch]) -> None:
    for setting in (s.setting for s in stretches):
        if setting.scale < 0:
            raise cannot(TOOL, guidance, "it takes an stg_scale below 0 for off.")
        if guidance.phi and setting.cfg > 1 and not setting.scale:
            raise cannot(TOOL, guidance, "it rescales only the steps at which STG acts. Let STG act wherever CFG does.")


def _yaml(value: Any) -> str:
    """JSON, with small numbers as YAML 1.1 reads them: it takes `1e-05` for text, `1.0e-05` for a number."""
    if isinstance(value, list):
        return f"[{', '.join(map(_yaml, value))}]"
    text = json.dumps(cast(Any, value))
    if isinstance(value, float) and "e" in text and "." not in text:
        return text.replace("e", ".0e")
    return text
