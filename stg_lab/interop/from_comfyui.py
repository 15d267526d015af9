"""ComfyUI workflows as sums of the lab.

| node | as a sum |
|---|---|
| `KSampler`, `CFGGuider` and their like | `CFG(cfg)` |
| `SkipLayerGuidanceDiT`, `SkipLayerGuidanceSD3` (core) | `STG(scale, skip(layers))`, convention A |
| `SkipLayerGuidanceDiTSimple` (core), `SkipLayerGuidanceWanVideo` (KJNodes), `WanVideoSLG` (WanVideoWrapper) | convention B: the unconditional pass is the weak one |
| `LTXVSpatioTemporalGuidance` (core), `LTXVApplySTG` with `STGGuider` or `STGGuiderAdvanced` (ComfyUI-LTXVideo) | `STG(scale, skip(layers, part="attention"))` |
| `PerturbedAttentionGuidance` (core) | attention of the U-Net's middle, which of video models AnimateDiff has |

Percents of the core nodes are of the time before the flow shift, so they are noise levels here; those of KJNodes and of
WanVideoWrapper count steps, and both ends belong to the window.

Source: as for `comfyui`; model_optimization_nodes.py of kijai/ComfyUI-KJNodes, nodes.py of kijai/ComfyUI-WanVideoWrapper.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stg_lab.errors import GuidanceError
from stg_lab.guidance import CFG, STG, Guidance, convention, number
from stg_lab.interop.comfyui_graph import Node, Nodes, nodes_of, upstream, value_of
from stg_lab.weak.skip import Skip

#: Nodes at which the guidance of a workflow ends, with where their CFG scale is.
ENDS = (
    "KSampler",
    "KSamplerAdvanced",
    "SamplerCustom",
    "CFGGuider",
    "STGGuider",
    "STGGuiderAdvanced",
    "WanVideoSampler",
)
#: Nodes on a model's way that change the guidance in a way that is no sum of the lab's, or that the lab does not read.
OTHER_GUIDANCE = re.compile(r"guidance|guider|cfg|slg|stg|pag|nag|apg|zerostar|mahiro|perturbed", re.I)


@dataclass
class Known:
    """What is known of the run beside the workflow, and what has been found in it.

    Attributes:
        shift: the model's flow shift.
        steps: of the run.
        pipe: the pipeline, to count its blocks.
        problems: what changes the guidance and cannot be said.
        left: what else the model has gone through.
    """

    shift: float | None = None
    steps: int | None = None
    pipe: Any = None
    problems: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def by_time(self, node: Node, start: float, end: float) -> dict[str, Any]:
        """The window between two percents of the time before the flow shift."""
        if start <= 0 and end >= 1:
            return {}
        if self.shift is None:
            self.problems.append(
                f"node {node} acts from {start:.3g} to {end:.3g} of the time before the model's flow shift. Say the shift: "
                "lab.from_json(..., shift=3.0)"
            )
            return {}
        low, high = (_sigma(percent, self.shift) for percent in (end, start))
        return {"sigma": (low, high)}

    def by_steps(self, node: Node, start: float, end: float) -> dict[str, Any]:
        """The window between two shares of the steps, both ends in it."""
        if start <= 0 and end >= 1:
            return {}
        if self.steps is None:
            self.problems.append(
                f"node {node} acts from {start:.3g} to {end:.3g} of the steps, both ends in it. Say how many there are: "
                "lab.from_json(..., steps=30)"
            )
            return {}
        first, last = math.ceil(start * self.steps - 1e-9), math.floor(end * self.steps + 1e-9)
        return {"start": first / self.steps, "stop": min((last + 1) / self.steps, 1.0)}


def _sigma(percent: float, shift: float) -> float:
    """The noise level at a percent, of ComfyUI's flow models."""
    if percent <= 0:
        return 1.0
    time = 1 - percent
    return 0.0 if percent >= 1 else shift * time / (1 + (shift - 1) * time)


def from_comfyui(values: Mapping[str, Any], known: Known, end: str | None = None) -> Guidance:
    """The guidance of a workflow.

    Args:
        values: the workflow, in either form.
        known: filled with what was found.
        end: number of the sampler or guider, where there are several.

    Raises:
        GuidanceError: no guidance, several, or one that cannot be said; all reasons at once.
    """
    nodes = nodes_of(values)
    last = _end(nodes, end)
    way = upstream(nodes, last)
    known.steps = known.steps or _steps(nodes, last)
    for node in way:
        if node.kind == "ModelSamplingSD3" and known.shift is None:
            known.shift = float(value_of(nodes, node, "shift"))
    total = _READ_ENDS.get(last.kind, _plain_end)(nodes, last, way, known)
    if known.problems:
        raise GuidanceError("this workflow's guidance cannot be said in full: " + "; ".join(known.problems) + ".")
    return total


def _end(nodes: Nodes, wanted: str | None) -> Node:
    ends = [n for n in nodes.values() if n.kind in ENDS and not n.bypassed]
    fed = {origin for n in nodes.values() for origin in n.links.values()}
    guiders = [n for n in ends if "Guider" in n.kind and (n.number in fed or len(ends) == 1)]
    ends = [n for n in ends if n in guiders or "Guider" not in n.kind] or ends
    if wanted is not None:
        ends = [n for n in ends if n.number == str(wanted)]
    if len(ends) == 1:
        return ends[0]
    if not ends:
        raise GuidanceError(
            f"this workflow has no sampler or guider that the lab reads{f' with number {wanted}' if wanted else ''}. It reads: "
            f"{', '.join(ENDS)}."
        )
    raise GuidanceError(
        f"this workflow samples in several places: {', '.join(map(str, ends))}. Say which: lab.from_json(..., node={ends[0].number})."
    )


def _steps(nodes: Nodes, last: Node) -> int | None:
    counts = [n for n in nodes.values() if n.kind == "BasicScheduler" and not n.bypassed]
    given = last if "steps" in last.values or "steps" in last.links else counts[0] if len(counts) == 1 else None
    return None if given is None else int(value_of(nodes, given, "steps"))


def _plain_end(nodes: Nodes, last: Node, way: list[Node], known: Known) -> Guidance:
    """A sampler or guider with a CFG scale, behind any nodes that skip."""
    cfg = float(value_of(nodes, last, "cfg", 1.0))
    total, rescales = Guidance((CFG(cfg),)) if cfg != 1 else Guidance(), []
    args = last.links.get("slg_args")
    for node in [*([nodes[args]] if args in nodes else []), *way]:
        if node.kind in (
            "SkipLayerGuidanceDiT",
            "SkipLayerGuidanceSD3",
            "LTXVSpatioTemporalGuidance",
            "PerturbedAttentionGuidance",
        ):
            term = _added(nodes, node, known)
            total = total + term if term is not None else total
            phi = float(value_of(nodes, node, "rescaling_scale", 0.0))
            rescales += [phi] * bool(phi)
            if phi and cfg != 1 and term is not None and term.sigma is not None:
                known.problems.append(f"node {node} rescales where it skips alone, and the lab at all steps")
        elif node.kind in ("SkipLayerGuidanceDiTSimple", "SkipLayerGuidanceWanVideo", "WanVideoSLG"):
            total = total + _in_place(nodes, node, cfg, known)
        else:
            _pass(node, known)
    if len(rescales) > 1:
        known.problems.append("several nodes rescale, one after the other")
    return total.in_x0().rescale(rescales[0], per="batch") if len(rescales) == 1 else total


def _added(nodes: Nodes, node: Node, known: Known) -> STG | None:
    """Convention A: a vector of its own."""
    scale = float(value_of(nodes, node, "scale", 3.0))
    if node.kind == "PerturbedAttentionGuidance":
        return _middle(node, scale, known)
    window = known.by_time(node, *(float(value_of(nodes, node, f"{w}_percent", d)) for w, d in (("start", 0.0), ("end", 1.0))))  # fmt: skip
    if node.kind == "LTXVSpatioTemporalGuidance":
        layers = _numbers(value_of(nodes, node, "blocks", ""))
        return STG(scale, Skip(layers, part="attention"), **window) if layers else None
    if node.kind == "SkipLayerGuidanceSD3":
        layers = _numbers(value_of(nodes, node, "layers", ""))
    else:
        layers = _layers(nodes, node, known)
    return STG(scale, Skip(layers), **window) if layers and scale > 0 else None


def _middle(node: Node, scale: float, known: Known) -> STG | None:
    unet = getattr(known.pipe, "unet", None)
    if unet is None or not hasattr(unet, "mid_block"):
        known.problems.append(
            f"node {node} changes the attention in the middle of a U-Net; of video models AnimateDiff has one. Say the pipeline: "
            "lab.from_json(..., pipe=pipe)"
        )
        return None
    from stg_lab.families import family_of

    inside = {id(module) for module in unet.mid_block.modules()}
    layers = [k for k, layer in enumerate(family_of(known.pipe).layers(unet)) if id(layer.get("spatial")) in inside]
    return STG(scale, Skip(tuple(layers), part="attention", axis="spatial"))


def _in_place(nodes: Nodes, node: Node, cfg: float, known: Known) -> Guidance:
    """Convention B: the unconditional pass is the weak one. CFG is in the sum already."""
    core = node.kind == "SkipLayerGuidanceDiTSimple"
    layers = _layers(nodes, node, known) if core else _numbers(value_of(nodes, node, "blocks", ""))
    start, end = (float(value_of(nodes, node, f"{w}_percent", d)) for w, d in (("start", 0.0), ("end", 1.0)))
    window = known.by_time(node, start, end) if core else known.by_steps(node, start, end)
    if not layers:
        return Guidance()
    if cfg <= 1:
        known.left.append(f"{node}, which does nothing without CFG")
        return Guidance()
    return Guidance(convention("B", Skip(layers), cfg=cfg, **window).terms[1:])


def _layers(nodes: Nodes, node: Node, known: Known) -> tuple[int, ...]:
    """Double blocks, and single blocks behind them."""
    double, single = (_numbers(value_of(nodes, node, f"{which}_layers", "")) for which in ("double", "single"))
    if not single:
        return double
    if known.pipe is None:
        known.problems.append(
            f"node {node} names single blocks {', '.join(map(str, single))}, which the lab counts behind the double ones; models without "
            "them (Wan) leave them alone. Say the pipeline, lab.from_json(..., pipe=pipe), or empty single_layers"
        )
        return double
    denoiser = next(m for n in ("transformer", "unet") if (m := getattr(known.pipe, n, None)) is not None)
    if not hasattr(denoiser, "single_transformer_blocks"):
        known.left.append(f"single_layers of {node}, since {type(denoiser).__name__} has no single blocks")
        return double
    return (*double, *(len(denoiser.transformer_blocks) + k for k in single))


def _pass(node: Node, known: Known) -> None:
    """A node that the model has gone through."""
    if node.kind.startswith(("ModelSampling", "Reroute")) or "oader" in node.kind:
        known.left += [str(node)] * ("ora" in node.kind)  # LoRA
    elif OTHER_GUIDANCE.search(node.kind):
        known.problems.append(f"node {node} is a guidance that the lab does not read")
    else:
        known.left.append(str(node))


# ---- ComfyUI-LTXVideo ----


def _stg_guider(nodes: Nodes, last: Node, way: list[Node], known: Known) -> Guidance:
    cfg, stg, phi = (float(value_of(nodes, last, n, d)) for n, d in (("cfg", 1.0), ("stg", 1.0), ("rescale", 0.7)))
    layers: tuple[int, ...] = ()
    for node in way:
        if node.kind == "LTXVApplySTG":
            layers = layers or _numbers(value_of(nodes, node, "block_indices", ""))
        else:
            _pass(node, known)
    total = Guidance((CFG(cfg),)) if cfg != 1 else Guidance()
    if stg and not layers:
        known.problems.append(f"node {last} has no LTXVApplySTG before it that names blocks")
    elif stg:
        total = total + STG(stg, Skip(layers, part="attention"))
    return total.in_x0().rescale(phi, per="batch") if phi else total


def _stg_advanced(nodes: Nodes, last: Node, way: list[Node], known: Known) -> Guidance:
    """A step takes the entry of the lowest listed sigma that is not below its own, and above all of them the last entry."""
    for node in way:
        if node.kind != "LTXVApplySTG":
            _pass(node, known)
    lists = {n: _list(value_of(nodes, last, n, "")) for n in ("sigmas", "cfg_values", "stg_scale_values", "stg_rescale_values")}  # fmt: skip
    layers = [
        _numbers(each) for each in re.findall(r"\[[^\]]*\]", str(value_of(nodes, last, "stg_layers_indices", "")))
    ]
    if len({len(layers), *map(len, lists.values())}) != 1 or not layers:
        known.problems.append(f"node {last} has lists of different lengths")
        return Guidance()
    _check_advanced(nodes, last, lists, known)
    order = sorted(range(len(layers)), key=lambda k: -lists["sigmas"][k])
    edges = [lists["sigmas"][k] for k in order]
    windows = [(k, low, high) for k, low, high in zip(order, [*edges[1:], 0.0], edges, strict=True)]
    if edges[0] < 1:
        windows.insert(0, (len(layers) - 1, edges[0], math.inf))
    whole = len({(lists["cfg_values"][k], lists["stg_scale_values"][k], layers[k]) for k, *_ in windows}) == 1
    total = Guidance()
    for k, low, high in windows[:1] if whole else windows:
        window: dict[str, Any] = {} if whole else {"sigma": (low, high)}
        cfg, stg = lists["cfg_values"][k], lists["stg_scale_values"][k]
        total = total + CFG(cfg, **window) if cfg != 1 else total
        total = total + STG(stg, Skip(layers[k], part="attention"), **window) if stg and layers[k] else total
    phi = lists["stg_rescale_values"][0]
    return total.in_x0().rescale(phi, per="batch") if phi else total


def _check_advanced(nodes: Nodes, last: Node, lists: Mapping[str, list[float]], known: Known) -> None:
    if len(set(lists["stg_rescale_values"])) > 1:
        known.problems.append(f"node {last} rescales by another amount at other steps")
    for name in ("cfg_star_rescale", "apply_apg"):
        if value_of(nodes, last, name, False):
            known.problems.append(f"node {last} has {name} on")
    threshold = float(value_of(nodes, last, "skip_steps_sigma_threshold", math.inf))
    if threshold < 1:
        known.problems.append(f"node {last} leaves out the steps above sigma={number(threshold)} (skip_steps_sigma_threshold)")  # fmt: skip


_READ_ENDS = {"STGGuider": _stg_guider, "STGGuiderAdvanced": _stg_advanced}


def _numbers(text: Any) -> tuple[int, ...]:
    """Layers from a list or from text with numbers in it."""
    found = text if isinstance(text, list | tuple) else re.findall(r"\d+", str(text))
    return tuple(sorted({int(each) for each in found}))


def _list(text: Any) -> list[float]:
    return [float(each) for each in re.findall(r"-?\d+(?:\.\d*)?(?:e-?\d+)?", str(text))]
