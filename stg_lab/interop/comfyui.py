"""Settings for ComfyUI, as a fragment of a workflow in its API format.

| sum | nodes |
|---|---|
| CFG alone | `CFGGuider` (core) |
| blocks skipped | one `SkipLayerGuidanceDiT` (core) a term, then `CFGGuider` |
| attention skipped, LTX models | `LTXVApplySTG` and `STGGuider`, or `STGGuiderAdvanced` where anything changes on the way (ComfyUI-LTXVideo) |

All of them add up x0, and rescale x0 by one deviation of the whole batch: `.in_x0().rescale(phi, per="batch")` here. Sums without
rescaling are the same in x0. What a node does not know is left open: connect `model`, `positive` and `negative`.

A node takes numbers as they are from a file; the fields of the web page may round them to their own steps (0.1 for cfg).

Source: comfy_extras/nodes_slg.py and comfy/model_sampling.py of Comfy-Org/ComfyUI, stg.py of Lightricks/ComfyUI-LTXVideo at aceeae9.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from stg_lab.errors import GuidanceError
from stg_lab.guidance import STG, Guidance, Moment, number
from stg_lab.interop.expressible import Parted, cannot, layer_skips, parted, plain
from stg_lab.interop.steps import Stretch, always, between, bounds, noise_levels, unrolled

TOOL = "ComfyUI"
Nodes = dict[str, dict[str, Any]]


def comfyui_settings(guidance: Guidance, *, sigmas: Sequence[float] | None = None, shift: float | None = None) -> Nodes:
    """The nodes as plain values, by number; links are `[number, output]`.

    Args:
        guidance: CFG, with skips of blocks or of attention.
        sigmas: noise level at which each step of ComfyUI's sampler starts; needed where anything changes on the way.
        shift: the flow shift of the model (`ModelSamplingSD3`), needed for block skips with a window: the node's percents are
            turned into noise levels with it. `exp(shift)` for models with `ModelSamplingFlux`.

    Raises:
        GuidanceError: it cannot be said.
    """
    parts = parted(guidance, TOOL)
    guidance = replace(guidance, terms=parts.terms)
    for term in parts.terms:
        plain(term, TOOL)
    if guidance.phi and (guidance.space, guidance.per) != ("x0", "batch"):
        raise cannot(
            TOOL, guidance, "it rescales x0, by one deviation of the whole batch. Type "
            f".in_x0().rescale({number(guidance.phi)}, per='batch')."
        )  # fmt: skip
    skipped = {skip.part for t in parts.skips for skip in layer_skips(t.weak, TOOL)}
    if len(skipped) > 1:
        raise cannot(TOOL, guidance, "no node skips both blocks and attention.")
    if skipped == {"attention"}:
        return _attention(guidance, unrolled(guidance, parts, TOOL, sigmas))
    return _blocks(guidance, parts, sigmas, shift)


def comfyui_text(guidance: Guidance, *, sigmas: Sequence[float] | None = None, shift: float | None = None) -> str:
    """The nodes as JSON."""
    return json.dumps(comfyui_settings(guidance, sigmas=sigmas, shift=shift), indent=2) + "\n"


# ---- the core nodes ----


def _blocks(guidance: Guidance, parts: Parted, sigmas: Sequence[float] | None, shift: float | None) -> Nodes:
    cfg = _only_scale(guidance, parts, sigmas)
    whole = all(always(t) for t in parts.skips)
    if guidance.phi and (len(parts.skips) != 1 or (cfg != 1 and not whole)):
        raise cannot(
            TOOL,
            guidance,
            "SkipLayerGuidanceDiT rescales where it skips, and one node by itself. Keep one skip, at all steps.",
        )
    nodes: Nodes = {}
    for term in parts.skips:
        node: dict[str, Any] = {"double_layers": "", "single_layers": ""}
        node |= _skip_inputs(term, sigmas, shift) | {"rescaling_scale": guidance.phi}
        before = {"model": [str(len(nodes)), 0]} if nodes else {}
        nodes[str(len(nodes) + 1)] = {"class_type": "SkipLayerGuidanceDiT", "inputs": before | node}
    before = {"model": [str(len(nodes)), 0]} if nodes else {}
    nodes[str(len(nodes) + 1)] = {"class_type": "CFGGuider", "inputs": before | {"cfg": _field("cfg", cfg, 100)}}
    return nodes


def _only_scale(guidance: Guidance, parts: Parted, sigmas: Sequence[float] | None) -> float:
    """The CFG scale, which the core node has for all steps."""
    changing = next((t for t in parts.cfg if not always(t)), None)
    levels = [1.0] if changing is None else noise_levels(sigmas, TOOL, changing)
    scales = {guidance.cfg_scale(Moment(k, len(levels), sigma)) for k, sigma in enumerate(levels)}
    if len(scales) > 1:
        raise cannot(
            TOOL, changing, "the core CFGGuider has one scale for all steps. Make CFG the same at all of them."
        )
    return scales.pop()


def _skip_inputs(term: STG, sigmas: Sequence[float] | None, shift: float | None) -> dict[str, Any]:
    """Layers, scale and window of one term."""
    if always(term):
        at, first, last = Moment(0, 1), 0, 1
        levels: tuple[float, ...] = (1.0,)
    else:
        levels = noise_levels(sigmas, TOOL, term)
        moments = [Moment(k, len(levels), sigma) for k, sigma in enumerate(levels)]
        acting = [m for m in moments if term.active(m)]
        if not acting:
            raise GuidanceError(f"{term} acts at no step of these sigmas. Take a wider window or more steps.")
        at, first, last = acting[0], acting[0].step, acting[-1].step + 1
        if len(acting) != last - first or len({term.weight(m) for m in acting}) > 1:
            raise cannot(
                TOOL, term, "SkipLayerGuidanceDiT has one scale and one stretch of steps. Make a term for each."
            )
    models = layer_skips(term.weak, TOOL)
    if len(models) > 1:
        raise cannot(TOOL, term, "SkipLayerGuidanceDiT skips the same layers at all steps. Make a term for each.")
    return {
        "double_layers": ", ".join(map(str, models[0].layers)),
        "scale": _field("scale", term.weight(at), 10),
        "start_percent": 0.0 if first == 0 else _percent(levels[first], levels[first - 1], shift),
        "end_percent": 1.0 if last == len(levels) else _percent(levels[last], levels[last - 1], shift),
    }


def _percent(low: float, high: float, shift: float | None) -> float:
    """A percent whose noise level lies between two steps: percent p is the level of time 1 - p after the flow shift."""
    if shift is None:
        raise GuidanceError(
            "SkipLayerGuidanceDiT takes its window in percent of the time before the model's flow shift. Say the shift: "
            "lab.export(..., shift=3.0)."
        )
    if not shift > 0:
        raise GuidanceError(f"shift is a number above 0, got {shift}; 1 for a model without one.")
    if high > 1:
        raise cannot(
            TOOL, f"a window from sigma={high:g}", "percents are known here for flow models, whose noise ends at 1."
        )
    below, above = (1 - s / (shift - (shift - 1) * s) for s in (high, low))
    return between(below, above)


# ---- ComfyUI-LTXVideo ----


def _attention(guidance: Guidance, stretches: list[Stretch]) -> Nodes:
    if len(stretches) > 1:
        return _advanced(guidance, stretches)
    setting = stretches[0].setting
    if not setting.layers:  # terms that cancel out
        return {"1": {"class_type": "CFGGuider", "inputs": {"cfg": _field("cfg", setting.cfg, 100)}}}
    layers = ", ".join(map(str, setting.layers))
    return {
        "1": {"class_type": "LTXVApplySTG", "inputs": {"block_indices": layers}},
        "2": {
            "class_type": "STGGuider",
            "inputs": {
                "model": ["1", 0],
                "cfg": _field("cfg", setting.cfg, 100),
                "stg": _field("stg", setting.scale, 100),
                "rescale": guidance.phi,
            },
        },
    }


def _advanced(guidance: Guidance, stretches: list[Stretch]) -> Nodes:
    """`STGGuiderAdvanced`: a step takes the entry of the lowest listed sigma that is not below its own."""
    settings = [s.setting for s in stretches]
    tops = [stretches[0].sigmas[0] * 1.001, *bounds(stretches)]
    inputs = {
        "skip_steps_sigma_threshold": 100.0,  # no step is left out
        "cfg_star_rescale": False,
        "sigmas": _list(tops),
        "cfg_values": _list(s.cfg for s in settings),
        "stg_scale_values": _list(s.scale for s in settings),
        "stg_rescale_values": _list(guidance.phi for _ in settings),
        "stg_layers_indices": ", ".join(str(list(s.layers)) for s in settings),
        "apply_apg": False,
    }
    return {"1": {"class_type": "STGGuiderAdvanced", "inputs": inputs}}


def _list(values: Any) -> str:
    return ", ".join(number(v) for v in values)


def _field(name: str, value: float, highest: float) -> float:
    if not 0 <= value <= highest:
        raise cannot(TOOL, f"{name}={number(value)}", f"the node's field goes from 0 to {highest}.")
    return value
