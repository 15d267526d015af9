"""The guiders of diffusers that weaken layers: SLG, PAG, SEG and its AutoGuidance."""

from __future__ import annotations

import math
from typing import Any

from stg_lab.errors import GuidanceError
from stg_lab.guidance import CFG, STG, Guidance, convention, number
from stg_lab.interop.as_code import typed
from stg_lab.interop.layers import skipped
from stg_lab.interop.windows import Where, steps_of, strict_window
from stg_lab.weak.blur import Blur


def read_skipping(guider: Any, cfg: CFG, where: Where) -> Guidance:
    """`SkipLayerGuidance` and `PerturbedAttentionGuidance`: u + g (c - u) + s (c - p) where both act.

    Raises:
        GuidanceError: CFG is off where layers are skipped, or the skip window is not what it says (`windows.strict_window`).
    """
    scale = guider.skip_layer_guidance_scale
    if scale == 0:
        return Guidance((cfg,))
    weak, name = skipped(guider.skip_layer_config, where), type(guider).__name__
    start, stop = guider.skip_layer_guidance_start, guider.skip_layer_guidance_stop
    term = f"lab.STG({number(scale)}, {weak!r}"
    if cfg.never:
        raise GuidanceError(
            f"{name} with CFG off (guidance_scale={number(guider.guidance_scale)}) skips nothing in diffusers: its second pass gets "
            f"the negative prompt and no hook, so it is plain CFG. For skip guidance alone type {term})."
        )
    first, last = strict_window(guider, start, stop, where, f"{typed(cfg)} + {term}")
    assert where.steps is not None
    outside = sorted(set(range(first, last)) - set(steps_of(cfg, where.steps)))
    if outside:
        raise GuidanceError(
            f"{name}: at step {', '.join(map(str, outside))} its window for CFG is closed and the one for skipping open. There "
            "diffusers skips nothing: the second pass gets the negative prompt and no hook. Make the skip window the narrower one, "
            f"or type {typed(cfg + STG(scale, weak, start=first / where.steps, stop=last / where.steps))}."
        )
    return cfg + STG(scale, weak, start=first / where.steps, stop=last / where.steps)


def read_auto(guider: Any, cfg: CFG, where: Where) -> Guidance:
    """`AutoGuidance`: p + g (c - p), where the weak pass p carries the negative prompt (peers' convention B)."""
    if cfg.never:
        return Guidance((cfg,))
    weak = skipped(guider.auto_guidance_config, where)
    total = convention("B", weak, cfg=cfg.scale)
    window = {"start": cfg.start, "stop": cfg.stop}
    return cfg + STG(total.terms[1].scale, total.terms[1].weak_model, reference="uncond", **window)  # type: ignore[arg-type]


def read_smoothed(guider: Any, cfg: CFG) -> Guidance:
    """`SmoothedEnergyGuidance`.

    Raises:
        GuidanceError: always where it should act, since in diffusers it does not.
    """
    scale, sigma = guider.seg_guidance_scale, guider.seg_blur_sigma
    if scale == 0:
        return Guidance((cfg,))
    layers: set[int] = set()
    for config in guider.seg_guidance_config:
        layers.update([config.indices] if isinstance(config.indices, int) else config.indices)
    blurred = Blur(tuple(layers), sigma=math.inf if sigma > guider.seg_blur_threshold_inf else sigma)
    start, stop = guider.seg_guidance_start, guider.seg_guidance_stop
    term = STG(scale, blurred, **({"start": start, "stop": stop} if start < stop else {}))
    total = Guidance((cfg, term)).rescale(guider.guidance_rescale)
    raise GuidanceError(
        "SmoothedEnergyGuidance never acts in diffusers: its blur is not installed on any pass (and where it were, a finite sigma "
        f"would take the mean and an infinite one a Gaussian). For what its arguments say type {typed(total)}."
    )
