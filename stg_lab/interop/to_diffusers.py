"""Sums as guiders of diffusers, such that `from_guider` reads them back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from stg_lab.errors import GuidanceError
from stg_lab.guidance import APG, CFG, STG, Guidance, Magnitude, Tangential, ZeroStar, number
from stg_lab.interop.as_code import typed
from stg_lab.interop.expressible import Parted, cannot, parted, plain, plain_skip
from stg_lab.interop.layers import configured
from stg_lab.interop.windows import holds_first, main_shares, steps_of, truncated, whole_window
from stg_lab.weak.skip import Skip

TOOL = "diffusers"


def to_guider(guidance: Guidance, *, steps: int | None = None, pipe: Any = None) -> Any:
    """A guider object for diffusers' modular pipelines; see `guider_settings`."""
    from diffusers import guiders

    settings = guider_settings(guidance, steps=steps, pipe=pipe)
    return getattr(guiders, settings["class"])(**settings["arguments"])


def guider_settings(guidance: Guidance, *, steps: int | None = None, pipe: Any = None) -> dict[str, Any]:
    """The class and the arguments of the guider that gives the same prediction at every step.

    Args:
        guidance: CFG, with at most one rule; or CFG and one `STG` that skips blocks or attention.
        steps: how many steps the run will have; needed where a term has a window. The guider is then for that many.
        pipe: the pipeline, to name its lists of blocks; without it they are left to diffusers ("auto"), which is right for models
            with one list.

    Returns:
        `{"class": "SkipLayerGuidance", "arguments": {...}}`, plain values. diffusers can skip attention only in models whose
        processors it has registered: of those of the lab, Latte.

    Raises:
        GuidanceError: no guider says it.
    """
    parts = parted(guidance, TOOL)
    _check_sum(guidance, parts)
    cfg = parts.cfg[0] if parts.cfg else CFG(1.0)
    if parts.skips:
        settings = _skipping(guidance, cfg, parts.skips[0], steps, pipe)
    elif cfg.rules:
        settings = _with_rule(cfg, steps)
    else:
        settings = {"class": "ClassifierFreeGuidance", "arguments": _main(cfg, steps)}
    if guidance.phi:
        if any(isinstance(rule, ZeroStar) and rule.zero_steps for rule in cfg.rules):
            raise cannot(
                TOOL, guidance, "it rescales the zeros of CFG-Zero*'s first steps too, which gives NaN. Leave one out."
            )
        settings["arguments"]["guidance_rescale"] = guidance.phi
    return settings


def _check_sum(guidance: Guidance, parts: Parted) -> None:
    if guidance.space != "native" and not guidance.linear:
        raise cannot(TOOL, guidance, "its guiders combine what the model predicts, not x0. Leave in_x0() out.")
    if guidance.phi and guidance.per != "sample":
        raise cannot(TOOL, guidance, "it rescales each sample by itself. Type .rescale(phi).")
    if len(parts.cfg) > 1 or len(parts.skips) > 1:
        raise cannot(TOOL, guidance, "a guider has one CFG scale and one weak pass. Add up CFG terms, keep one skip.")
    for term in parts.terms:
        if callable(term.scale) or isinstance(term.scale, tuple):
            raise cannot(TOOL, term, "a guider has one scale for all steps of its window.")
        if term.sigma is not None:
            raise cannot(TOOL, term, "its windows are shares of the steps, not noise levels. Type start= and stop=.")


def _main(cfg: CFG, steps: int | None) -> dict[str, Any]:
    return {"guidance_scale": cfg.scale, **main_shares(cfg, steps, TOOL)}


def _with_rule(cfg: CFG, steps: int | None) -> dict[str, Any]:
    """Guiders that change the vector of CFG."""
    if len(cfg.rules) > 1:
        raise cannot(TOOL, cfg, "a guider changes the vector in one way.")
    rule, main = cfg.rules[0], _main(cfg, steps)
    if isinstance(rule, ZeroStar):
        if rule.zero_steps and not holds_first(cfg, rule.zero_steps, steps):
            raise cannot(TOOL, cfg, "it zeroes the first steps whatever the window is. Take a window that holds them.")
        return {"class": "ClassifierFreeZeroStarGuidance", "arguments": {**main, "zero_init_steps": rule.zero_steps}}
    if isinstance(rule, Tangential):
        return {"class": "TangentialClassifierFreeGuidance", "arguments": main}
    if isinstance(rule, Magnitude):
        return {"class": "MagnitudeAwareGuidance", "arguments": {**main, "alpha": rule.alpha}}
    if not isinstance(rule, APG):
        raise cannot(TOOL, cfg, f"it has no guider with {rule}.")
    projected = {
        "guidance_scale": cfg.scale - 1,  # c + g N, the paper's place for the changed vector
        "use_original_formulation": True,
        "eta": rule.eta,
        "adaptive_projected_guidance_rescale": 0.0 if rule.norm == float("inf") else rule.norm,
        "adaptive_projected_guidance_momentum": rule.momentum or None,
    }
    return {"class": "AdaptiveProjectedGuidance", "arguments": {**main, **projected}}


def _skipping(guidance: Guidance, cfg: CFG, term: STG, steps: int | None, pipe: Any) -> dict[str, Any]:
    """Guiders with a weak pass."""
    if cfg.rules:
        raise cannot(TOOL, cfg, "with a weak pass its CFG is plain.")
    if term.reference == "uncond":
        return _auto(cfg, term, steps, pipe)
    plain(term, TOOL)
    axis = getattr(term.weak, "axis", "joint")
    weak = plain_skip(term.weak, TOOL, axis=axis)
    if cfg.never:
        raise cannot(
            TOOL,
            term,
            "without CFG its guiders skip nothing (they weigh the negative prompt's pass). Add lab.CFG(scale) above 1.",
        )
    first, last = (0, 0) if term.start == 0 else whole_window(term, steps, TOOL)
    if first == 0:
        raise cannot(
            TOOL,
            term,
            "its skip window is start < step, so step 0 is never guided. "
            f"Without step 0: {_without_first(guidance, term, steps)}.",
        )
    assert steps is not None
    if not set(range(first, last)) <= set(steps_of(cfg, steps)):
        raise cannot(
            TOOL, f"{cfg} + {term}", "where CFG's window is closed its guiders skip nothing. Make CFG's the wider one."
        )
    window = {"start": (first - 0.5) / steps, "stop": truncated(last, steps)}
    return {
        "class": "SkipLayerGuidance" if weak.part == "block" else "PerturbedAttentionGuidance",
        "arguments": {**_main(cfg, steps), **_weak_arguments(weak, term.scale, window, pipe)},
    }


def _without_first(guidance: Guidance, term: STG, steps: int | None) -> str:
    """What to type for the export of a sum whose term begins one step later."""
    count = steps or 24
    if term.stop * count <= 1:
        return "nothing is left of it. Take a window with more steps"
    later = replace(term, start=1 / count)
    whole = typed(replace(guidance, terms=tuple(later if t is term else t for t in guidance.terms)))
    whole = whole.replace(f"start={number(later.start)}", f"start=1/{count}")
    told = "" if steps else " (for a run of 24 steps; of another length, its number in both places)"
    return f"lab.export({whole}, to={TOOL!r}, steps={count}){told}"


def _weak_arguments(weak: Skip, scale: float, window: dict[str, float], pipe: Any) -> dict[str, Any]:
    begin, config = {
        "block": ("skip_layer_guidance", "skip_layer_config"),
        "attention": ("perturbed_guidance", "perturbed_guidance_config"),
    }[weak.part]
    return {f"{begin}_scale": scale, **{f"{begin}_{k}": v for k, v in window.items()}, config: configured(weak, pipe)}


def _auto(cfg: CFG, term: STG, steps: int | None, pipe: Any) -> dict[str, Any]:
    """`AutoGuidance`, which is `convention("B", ...)`."""
    weak = plain_skip(term.weak, TOOL, axis=cast(Any, term.weak).axis, prompt="negative")
    same = (cfg.start, cfg.stop, cfg.scale - 1) == (term.start, term.stop, term.scale)
    if not same or term.rules:
        raise GuidanceError(
            f"diffusers cannot say {cfg} + {term}: its AutoGuidance puts the weak pass in place of the unconditional one, so the "
            f"weak term has CFG's scale less 1 and its window. Type lab.convention('B', lab.skip([5]), cfg={number(cfg.scale)})."
        )
    return {"class": "AutoGuidance", "arguments": {**_main(cfg, steps), "auto_guidance_config": configured(weak, pipe)}}
