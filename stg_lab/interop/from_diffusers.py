"""diffusers' guiders as sums of the lab (facts checked against diffusers 0.42.1).

A guider is accepted where what it does in diffusers is what its arguments say. Where the two differ it is refused, with what it
would do and what to type instead:

| guider | as a sum |
|---|---|
| `ClassifierFreeGuidance` | `CFG(g)`; with `use_original_formulation` `CFG(g + 1)`, as everywhere below |
| `ClassifierFreeZeroStarGuidance` | `CFG(g).zero_star(k)` |
| `TangentialClassifierFreeGuidance` | `CFG(g).tangential()` |
| `MagnitudeAwareGuidance` | `CFG(g).magnitude(alpha)`; in diffusers it fails on latents with frames, it takes a matrix norm |
| `AdaptiveProjectedGuidance` | original form `CFG(g + 1).apg(eta, norm, momentum)`; the default form only where nothing is projected |
| `AdaptiveProjectedMixGuidance` | original form `CFG([g, ..., s, ...]).apg(..., after=k)` |
| `FrequencyDecoupledGuidance` | `CFG(g).bands(space=[...])`, where it is linear; in diffusers it takes pictures alone, of sides that halve |
| `SkipLayerGuidance`, `PerturbedAttentionGuidance` | `CFG(g) + STG(s, skip(layers))` |
| `AutoGuidance` | `convention("B", skip(layers), cfg=g)`: its weak pass has the negative prompt |
| `LTX2Guidance` | `(CFG(g) + STG(s, skip(blocks, part="attention"))).in_x0()` |
| `SmoothedEnergyGuidance` | refused, it never acts; the error says the sum |

`guidance_rescale` is `.rescale(phi)`, per sample as there.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

from stg_lab.errors import GuidanceError
from stg_lab.given import shown
from stg_lab.guidance import CFG, Guidance, number
from stg_lab.guidance import as_guidance as own_guidance
from stg_lab.interop.as_code import typed
from stg_lab.interop.from_several import read_decoupled, read_ltx2, read_mixed
from stg_lab.interop.from_skipping import read_auto, read_skipping, read_smoothed
from stg_lab.interop.windows import Where, holds_first, main_window
from stg_lab.weak.layers import whole_number


def as_guidance(guidance: Any, pipe: Any = None, call: Mapping[str, Any] | None = None) -> Guidance:
    """A term, a sum, None or a guider of diffusers as a sum.

    Args:
        guidance: any of these.
        pipe: the pipeline that it is for, if known.
        call: the arguments that the pipeline will be called with, if known: they say how many steps the run has.

    Raises:
        GuidanceError: something else, or a guider that `from_guider` refuses.
    """
    if not is_guider(guidance):
        return own_guidance(guidance)
    return from_guider(guidance, steps=None if call is None else steps_of_call(pipe, call), pipe=pipe)


def is_guider(value: Any) -> bool:
    """Whether a value is a guider of diffusers, told without importing diffusers."""
    return any(c.__name__ == "BaseGuidance" and c.__module__.startswith("diffusers.") for c in type(value).__mro__)


def steps_of_call(pipe: Any, call: Mapping[str, Any]) -> int | None:
    """How many steps a call will make; None where that cannot be told before it."""
    for name in ("timesteps", "sigmas"):
        if call.get(name) is not None:
            return len(call[name])
    steps = call.get("num_inference_steps")
    if pipe is not None:
        if getattr(pipe.scheduler, "order", 1) != 1:
            return None  # it takes several model calls for a step, and counts each
        parameter = inspect.signature(pipe.__call__).parameters.get("num_inference_steps")
        steps = parameter.default if steps is None and parameter is not None else steps
    return steps if isinstance(steps, int) else None


def from_guider(guider: Any, *, steps: int | None = None, pipe: Any = None) -> Guidance:
    """A guider of diffusers as a sum of the lab that gives the same prediction at every step.

    Args:
        guider: a guider object, for example `diffusers.SkipLayerGuidance(...)`.
        steps: how many steps the run will have. Needed for windows, whose bounds diffusers rounds down to whole steps; the sum
            is then for runs of that many. `lab.sample` gives it by itself.
        pipe: the pipeline, for guiders that name a list of blocks (`fqn`); see `layers.blocks_of`.

    Returns:
        The sum. It prints as what to type.

    Raises:
        GuidanceError: no guider, one that the lab has no sum for, one that diffusers does not carry out as its arguments say, or
            one for which steps or pipe must be known.

    Source: diffusers/guiders/*.py and hooks/layer_skip.py, version 0.42.1.
    """
    name = type(guider).__name__
    if not is_guider(guider):
        raise GuidanceError(
            f"from_guider takes a guider of diffusers such as SkipLayerGuidance(...), got {shown(guider)}."
        )
    if isinstance(own := getattr(guider, "guidance", None), Guidance):  # of lab.guider
        return own
    if name not in READERS or not type(guider).__module__.startswith("diffusers."):
        raise GuidanceError(
            f"{name} is none of diffusers' own classes. Guiders that the lab takes: {', '.join(READERS)}."
        )
    if steps is not None:
        steps = whole_number(steps, "steps", 1, "lab.from_guider(guider, steps=24)")
    if not guider.get_state()["enabled"]:
        return Guidance((CFG(1.0),))
    total = READERS[name](guider, Where(steps, pipe))
    phi = guider.guidance_rescale
    phi = phi[0] if isinstance(phi, list | tuple) else phi  # one for each level; rescaling of the whole takes the first
    return total.rescale(phi) if phi else total


def cfg_of(guider: Any, where: Where) -> CFG:
    """The CFG term of a guider: its scale in diffusers' convention, in its window.

    Raises:
        GuidanceError: a scale below that of no guidance.
    """
    original = guider.use_original_formulation
    if math.isclose(guider.guidance_scale, 0.0 if original else 1.0):
        return CFG(1.0)
    return CFG(guider.guidance_scale + (1 if original else 0), **main_window(guider, where))


def read_cfg(guider: Any, where: Where) -> Guidance:
    """`ClassifierFreeGuidance`: u + g (c - u), or c + g (c - u) in the original form."""
    return Guidance((cfg_of(guider, where),))


def read_zero_star(guider: Any, where: Where) -> Guidance:
    """`ClassifierFreeZeroStarGuidance`, whose first steps predict zero whatever its window and its scale are."""
    cfg, zeros = cfg_of(guider, where), guider.zero_init_steps
    term = cfg.zero_star(zeros)
    if zeros and (cfg.never or not holds_first(cfg, zeros, where.steps)):
        raise GuidanceError(
            f"ClassifierFreeZeroStarGuidance predicts zero in its first {zeros} steps whatever its scale and its window are; in the "
            f"lab a term acts in its window alone. Take zero_init_steps=0, or a scale and a window that act in these steps."
        )
    if guider.guidance_rescale and zeros:
        raise GuidanceError(
            "ClassifierFreeZeroStarGuidance with guidance_rescale: diffusers divides by the deviation of the zeros of its first "
            "steps, and the sample becomes NaN. For rescaling after them type "
            f"{typed(Guidance((term,)).rescale(guider.guidance_rescale))}."
        )
    return Guidance((term,))


def read_tangential(guider: Any, where: Where) -> Guidance:
    """`TangentialClassifierFreeGuidance`."""
    return Guidance((cfg_of(guider, where).tangential(),))


def read_magnitude(guider: Any, where: Where) -> Guidance:
    """`MagnitudeAwareGuidance`."""
    return Guidance((cfg_of(guider, where).magnitude(guider.alpha),))


def read_projected(guider: Any, where: Where) -> Guidance:
    """`AdaptiveProjectedGuidance`: c + g N in the original form, N the changed vector; the default form is u + g N."""
    cfg, norm = cfg_of(guider, where), guider.adaptive_projected_guidance_rescale
    settings = {
        "eta": float(guider.eta),
        "norm": norm if norm > 0 else math.inf,
        "momentum": guider.adaptive_projected_guidance_momentum or 0.0,
    }
    if settings == {"eta": 1.0, "norm": math.inf, "momentum": 0.0}:
        return Guidance((cfg,))  # the vector is as it was, so both forms are plain CFG
    changed = cfg.apg(settings["eta"], norm=settings["norm"], momentum=settings["momentum"])
    if guider.adaptive_projected_guidance_norm_dim is not None:
        raise GuidanceError(
            "AdaptiveProjectedGuidance with adaptive_projected_guidance_norm_dim projects over other dimensions than all of a "
            f"sample's. The lab has those alone: {typed(changed)}."
        )
    if not guider.use_original_formulation and not cfg.never:
        raise GuidanceError(
            f"AdaptiveProjectedGuidance adds its changed vector to the unconditional prediction, u + {number(guider.guidance_scale)} N"
            ", unless use_original_formulation=True; the paper adds it to the conditional one, c + (scale - 1) N, and the two "
            f"differ as soon as N is not c - u. For the paper's type {typed(changed)}."
        )
    return Guidance((changed,))


READERS: dict[str, Callable[[Any, Where], Guidance]] = {
    "ClassifierFreeGuidance": read_cfg,
    "ClassifierFreeZeroStarGuidance": read_zero_star,
    "TangentialClassifierFreeGuidance": read_tangential,
    "MagnitudeAwareGuidance": read_magnitude,
    "AdaptiveProjectedGuidance": read_projected,
    "AdaptiveProjectedMixGuidance": read_mixed,
    "FrequencyDecoupledGuidance": read_decoupled,
    "LTX2Guidance": read_ltx2,
    "SkipLayerGuidance": lambda guider, where: read_skipping(guider, cfg_of(guider, where), where),
    "PerturbedAttentionGuidance": lambda guider, where: read_skipping(guider, cfg_of(guider, where), where),
    "SmoothedEnergyGuidance": lambda guider, where: read_smoothed(guider, cfg_of(guider, where)),
    "AutoGuidance": lambda guider, where: read_auto(guider, cfg_of(guider, where), where),
}
