"""ComfyUI workflows as nodes with named inputs, from the form that its web page saves and from the form of its API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stg_lab.errors import GuidanceError

#: Names of a node's widgets in the order in which the web page saves their values; those that are not read are there for the
#: order. `*` is the field that the page puts behind a seed.
WIDGETS: dict[str, tuple[str, ...]] = {
    "KSampler": ("seed", "*", "steps", "cfg", "sampler_name", "scheduler", "denoise"),
    "KSamplerAdvanced": (
        "add_noise", "noise_seed", "*", "steps", "cfg", "sampler_name", "scheduler", "start_at_step", "end_at_step",
        "return_with_leftover_noise",
    ),
    "SamplerCustom": ("add_noise", "noise_seed", "*", "cfg"),
    "CFGGuider": ("cfg",),
    "BasicScheduler": ("scheduler", "steps", "denoise"),
    "ModelSamplingSD3": ("shift",),
    "SkipLayerGuidanceDiT": (
        "double_layers", "single_layers", "scale", "start_percent", "end_percent", "rescaling_scale"
    ),
    "SkipLayerGuidanceDiTSimple": ("double_layers", "single_layers", "start_percent", "end_percent"),
    "SkipLayerGuidanceSD3": ("layers", "scale", "start_percent", "end_percent"),
    "PerturbedAttentionGuidance": ("scale",),
    "LTXVSpatioTemporalGuidance": ("scale", "blocks", "start_percent", "end_percent"),
    "SkipLayerGuidanceWanVideo": ("blocks", "start_percent", "end_percent"),
    "WanVideoSLG": ("blocks", "start_percent", "end_percent"),
    "WanVideoSampler": ("steps", "cfg", "shift"),
    "LTXVApplySTG": ("block_indices",),
    "STGGuider": ("cfg", "stg", "rescale"),
    "STGGuiderAdvanced": (
        "skip_steps_sigma_threshold", "cfg_star_rescale", "sigmas", "cfg_values", "stg_scale_values", "stg_rescale_values",
        "stg_layers_indices", "apply_apg",
    ),
    "PrimitiveInt": ("value",),
    "PrimitiveFloat": ("value",),
    "PrimitiveString": ("value",),
    "PrimitiveNode": ("value",),
}  # fmt: skip
OFF, BYPASSED = 2, 4  # a node's `mode`


@dataclass
class Node:
    """One node: values of its widgets, and from which node each of its other inputs comes."""

    number: str
    kind: str
    values: dict[str, Any] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    bypassed: bool = False
    known: bool = True  # whether the names of its widgets are known

    def __str__(self) -> str:
        return f"{self.number} {self.kind}"


Nodes = dict[str, Node]


def is_workflow(values: Any) -> bool:
    """Whether these are the values of a workflow, in either form."""
    if not isinstance(values, Mapping):
        return False
    if isinstance(values.get("nodes"), list):
        return True
    return bool(values) and all(isinstance(v, Mapping) and "class_type" in v for v in values.values())


def nodes_of(values: Mapping[str, Any]) -> Nodes:
    """The nodes of a workflow by number.

    Raises:
        GuidanceError: it has subgraphs, whose nodes only the API form has.
    """
    if not isinstance(values.get("nodes"), list):
        return {str(number): _from_api(str(number), node) for number, node in values.items()}
    if (values.get("definitions") or {}).get("subgraphs"):
        raise GuidanceError(
            "this workflow has subgraphs. Save it in the API form (Export (API) in ComfyUI's menu), which has all nodes side by side."
        )
    origins = _origins(values.get("links") or [])
    made = (_from_page(node, origins) for node in values["nodes"] if node.get("mode") != OFF)
    return {node.number: node for node in made}


def _from_api(number: str, node: Mapping[str, Any]) -> Node:
    inputs = node.get("inputs") or {}
    links = {name: str(v[0]) for name, v in inputs.items() if _is_link(v)}
    return Node(number, str(node["class_type"]), {n: v for n, v in inputs.items() if n not in links}, links)


def _is_link(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str | int) and isinstance(value[1], int)


def _origins(links: list[Any]) -> dict[Any, str]:
    """Number of a link -> number of the node that it comes from."""
    return {
        (link["id"] if isinstance(link, Mapping) else link[0]): str(
            link["origin_id"] if isinstance(link, Mapping) else link[1]
        )
        for link in links
    }


def _from_page(node: Mapping[str, Any], origins: Mapping[Any, str]) -> Node:
    kind, given = str(node.get("type")), node.get("widgets_values") or []
    names = WIDGETS.get(kind)
    values = dict(given) if isinstance(given, Mapping) else dict(zip(names or (), given, strict=False))
    links = {
        str(i.get("name") or i.get("type") or ""): origins[i["link"]]
        for i in node.get("inputs") or []
        if i.get("link") in origins
    }
    values = {name: value for name, value in values.items() if name not in links and name != "*"}
    known = names is not None or isinstance(given, Mapping)
    return Node(str(node["id"]), kind, values, links, node.get("mode") == BYPASSED, known)


def value_of(nodes: Nodes, node: Node, name: str, default: Any = None) -> Any:
    """The value of a widget, or of the primitive that is connected in its place.

    Raises:
        GuidanceError: something else is connected there.
    """
    if name not in node.links:
        return node.values.get(name, default)
    origin = nodes.get(node.links[name])
    if origin is not None and origin.kind.startswith("Primitive") and origin.values:
        return next(iter(origin.values.values()))
    raise GuidanceError(
        f"node {node}: {name} comes from node {origin or node.links[name]}, which the lab does not follow. Type its value in."
    )


def upstream(nodes: Nodes, node: Node, name: str = "model") -> list[Node]:
    """The nodes that a node's model has come through, the nearest first; those that are bypassed and reroutes are left out."""
    found: list[Node] = []
    seen = {node.number}
    link = node.links.get(name)
    while link is not None and link in nodes and link not in seen:
        seen.add(link)
        at = nodes[link]
        through = at.bypassed or at.kind == "Reroute"
        if not through:
            found.append(at)
        link = at.links.get("model") or (next(iter(at.links.values()), None) if through else None)
    return found
