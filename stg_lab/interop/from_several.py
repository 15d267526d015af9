"""The guiders of diffusers with several scales: for bands, for stretches of the run, and LTX-2's for several passes."""

from __future__ import annotations

import math
from typing import Any

from stg_lab.errors import GuidanceError
from stg_lab.guidance import CFG, STG, Guidance, Term, number
from stg_lab.interop.as_code import typed
from stg_lab.interop.windows import Where, main_window, needed_steps, steps_of
from stg_lab.weak.skip import Skip


def read_decoupled(guider: Any, where: Where) -> Guidance:
    """`FrequencyDecoupledGuidance`: u_k + w_k (c_k - u_k) in each level of a Laplacian pyramid, `CFG(g).bands(space=[...])`.

    Raises:
        GuidanceError: what is not linear (a share of the parallel part, rescaling of a level), or a level that is off.
    """
    scales = [scale + (1 if guider.use_original_formulation else 0) for scale in guider.guidance_scales]
    if any(not math.isclose(weight, 1.0) for weight in guider.parallel_weights):
        raise GuidanceError(
            "FrequencyDecoupledGuidance with parallel_weights projects each level by itself, which is no sum of guidance vectors. "
            f"Without them: {typed(_banded(scales, {}))}."
        )
    if guider.guidance_rescale_space == "freq" and any(guider.guidance_rescale):
        raise GuidanceError(
            "FrequencyDecoupledGuidance with guidance_rescale_space='freq' rescales each level by itself, which is no sum of "
            "guidance vectors. Take guidance_rescale_space='data'."
        )
    if all(math.isclose(scale, 1.0) for scale in scales):
        return Guidance((CFG(1.0),))
    windows = set(zip(guider.guidance_start, guider.guidance_stop, strict=True))
    if len(windows) > 1 or any(math.isclose(scale, 1.0) for scale in scales):
        raise GuidanceError(
            "FrequencyDecoupledGuidance puts another level in place of one that is off (its scale says no guidance, or its window is "
            f"closed), and fails where that is the finest. For what its arguments say type {typed(_by_level(scales, guider))}."
        )
    return Guidance((_banded(scales, main_window(guider, where)),))


def _banded(scales: list[float], window: dict[str, Any]) -> Term:
    """CFG whose bands have these scales: its own is the largest."""
    largest = max(scales)
    if min(scales) == largest:
        return CFG(largest, **window)
    return CFG(largest, **window).bands(space=[(scale - 1) / (largest - 1) for scale in scales])


def _by_level(scales: list[float], guider: Any) -> Guidance:
    """A term for each level that is on, with the window of its own."""
    levels = range(len(scales))
    terms = [
        CFG(scales[k], start=guider.guidance_start[k], stop=guider.guidance_stop[k]).bands(
            space=[float(k == j) for j in levels]
        )
        for k in levels
        if not math.isclose(scales[k], 1.0)
    ]
    return Guidance(tuple(terms))


def read_mixed(guider: Any, where: Where) -> Guidance:
    """`AdaptiveProjectedMixGuidance`: CFG up to a step, APG with another scale after it, whose momentum remembers both.

    Raises:
        GuidanceError: the default form, u + g N, where N is not c - u; see `from_diffusers.read_projected`.
    """
    settings = {
        "eta": float(guider.eta),
        "norm": guider.adaptive_projected_guidance_rescale
        if guider.adaptive_projected_guidance_rescale > 0
        else math.inf,
        "momentum": guider.adaptive_projected_guidance_momentum or 0.0,
    }
    original = guider.use_original_formulation
    early, late = (scale + original for scale in (guider.guidance_scale, guider.adaptive_projected_guidance_scale))
    if math.isclose(early, 1.0):
        return Guidance((CFG(1.0),))
    steps = needed_steps(guider, where, "a step to change at")
    window, change = main_window(guider, where), guider.adaptive_projected_guidance_start_step + 1
    inside = steps_of(CFG(2, **window), steps)
    projected = [k for k in inside if k >= change] if not math.isclose(late, 1.0) else []
    if not projected:
        return Guidance((CFG(early, **window),))
    scales = [late if k in projected else early for k in range(steps)]
    rule = CFG(scales, **window).apg(
        settings["eta"], norm=settings["norm"], momentum=settings["momentum"], after=change
    )
    if settings == {"eta": 1.0, "norm": math.inf, "momentum": 0.0}:
        return Guidance((CFG(scales, **window),))
    if not original:
        raise GuidanceError(
            f"AdaptiveProjectedMixGuidance adds its changed vector to the unconditional prediction, u + {number(late)} N, unless "
            "use_original_formulation=True; the paper of APG adds it to the conditional one, c + (scale - 1) N, and the two differ "
            f"as soon as N is not c - u. For the paper's type {typed(rule)}."
        )
    return Guidance((rule,))


def read_ltx2(guider: Any, where: Where) -> Guidance:
    """`LTX2Guidance` of the video: c + (g - 1) (c - u) + s (c - p), in x0 space, which is what its denoiser hands it.

    Raises:
        GuidanceError: guidance by an isolated modality, or blocks that are not named.
    """
    if not math.isclose(guider.modality_scale, 1.0):
        raise GuidanceError(
            f"LTX2Guidance with modality_scale={number(guider.modality_scale)} weighs a pass without attention between video and "
            "audio, which is no weak model of the lab. Take modality_scale=1; the pipeline's own is recorded as it is."
        )
    window = main_window(guider, where)
    terms: list[Term] = [CFG(guider.guidance_scale, **window)]
    if not math.isclose(guider.stg_scale, 0.0):
        if not guider.spatio_temporal_guidance_blocks:
            raise GuidanceError(
                "LTX2Guidance with stg_scale names no blocks, and its denoiser then perturbs none. Say which: "
                "spatio_temporal_guidance_blocks=[28]."
            )
        weak = Skip(tuple(guider.spatio_temporal_guidance_blocks), part="attention")
        terms.append(STG(guider.stg_scale, weak, **window))
    return Guidance(tuple(terms)).in_x0()
