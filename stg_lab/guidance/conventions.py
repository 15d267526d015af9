"""What other tools call skip guidance: three different sums, by name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from stg_lab.errors import GuidanceError
from stg_lab.given import Number, read, shown
from stg_lab.guidance.guidance import Guidance
from stg_lab.guidance.scales import number
from stg_lab.guidance.terms import CFG, STG

CONVENTIONS = {
    "A": "weak pass with the caption, u + w (c - u) + s (c - p): the paper, diffusers, SD3.5, ComfyUI's SkipLayerGuidanceDiT",
    "B": "weak pass in place of the unconditional one, p + w (c - p) with p under the negative prompt: the SLG nodes for Wan",
    "C": "weak pass with the negative prompt against CFG's result, g + s (g - p): the authors' Wan pipeline",
}


def convention(
    name: str,
    weak: Any,
    *,
    cfg: float,
    scale: float | None = None,
    start: float = 0.0,
    stop: float = 1.0,
    sigma: tuple[float, float] | None = None,
) -> Guidance:
    """A skip guidance in the convention of another tool.

    Args:
        name: "A", "B" or "C", see `CONVENTIONS`.
        weak: the weak model, without a prompt of its own: the convention says which prompt its pass carries.
        cfg: CFG scale w, above 1 for B and C, which need the pipeline's unconditional call.
        scale: scale s of A and C; B has none, its strength is tied to w.
        start, stop, sigma: window of the weak pass, as of `STG`; CFG acts at all steps.

    Returns:
        A sum of `CFG` and `STG`. B is CFG plus (w - 1) times the vector from the weak unconditional prediction to the
        unconditional one.

    Raises:
        GuidanceError: unknown convention, a scale for B or none for A and C, no CFG for B and C, or a weak model whose
            prompt is set or cannot be.
    """
    if not isinstance(name, str) or name not in CONVENTIONS:
        raise GuidanceError(
            f"convention {shown(name)} is unknown. Known: " + "; ".join(f"{k}: {v}" for k, v in CONVENTIONS.items())
        )
    if (scale is None) != (name == "B"):
        raise GuidanceError(
            "convention B has no scale of its own, its strength is cfg - 1; leave scale out."
            if name == "B"
            else f"convention {name} needs scale=..., the weight of its vector."
        )
    window: dict[str, Any] = {"start": start, "stop": stop, "sigma": sigma}
    STG(1, weak, **window)  # tells what is no weak model, and no window
    cfg = read("cfg", cfg, Number(), GuidanceError)
    scale = None if scale is None else read("scale", scale, Number(), GuidanceError)
    if getattr(weak, "prompt", "caption") != "caption":
        raise GuidanceError(
            f"convention {name} itself says which prompt the weak pass carries; leave prompt= out of {weak}."
        )
    if name == "A":
        return CFG(cfg) + STG(scale, weak, **window)
    if cfg <= 1:
        raise GuidanceError(f"convention {name} needs CFG above 1, got cfg={number(cfg)}.")
    try:
        weak = replace(weak, prompt="negative")
    except TypeError:
        raise GuidanceError(
            f"convention {name} gives its pass the negative prompt, which {weak} cannot be given."
        ) from None
    if name == "B":
        return CFG(cfg) + STG(cfg - 1, weak, reference="uncond", **window)
    return CFG(cfg) + STG(scale, weak, reference="cfg", **window)
