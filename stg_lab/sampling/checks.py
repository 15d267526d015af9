"""What can be wrong between a guidance and a pipeline's call, told before any weak pass is paid for."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, cast

from torch import nn

from stg_lab.errors import GuidanceError
from stg_lab.families import Family
from stg_lab.guidance import UNCOND, CFGpp, Guidance, Probe, number
from stg_lab.passes.stateful import stateful_hooks
from stg_lab.sampling.advice import to_scale, to_uncond
from stg_lab.weak import Weak
from stg_lab.x0 import limit_of


def check_scales(guidance: Guidance, pipe: Any, family: Family, denoiser: str, uncond: bool) -> None:
    """The pipeline's own CFG must be what the guidance says, and there if the guidance needs it; nothing else beside it."""
    g = guidance
    own, asked = family.scale(pipe, denoiser), g.cfg_scale()
    if g.has_cfg and g.plain_cfg and asked != own:
        raise GuidanceError(
            f"guidance says CFG({number(asked)}), but the pipeline works with {family.scale_name}={number(own)} in this call. "
            f"{to_scale(asked, pipe, family)}"
        )
    if (g.needs_uncond or (g.has_cfg and asked != 1)) and not uncond:
        raise GuidanceError(
            f"{g} needs the unconditional prediction, which the pipeline does not compute with "
            f"{family.scale_name}={number(own)}. {to_uncond(g, pipe, family)}"
        )
    beside = family.beside_cfg(pipe)
    if beside and (g.phi or g.restarts or not all(isinstance(t, Probe) for t in g.terms)):
        raise GuidanceError(f"the pipeline was called with more than CFG, which {g} would replace: {beside}.")
    scales = {family.scale(pipe, name) for name in family.denoisers(pipe)}
    if not g.plain_cfg and len(scales) > 1:
        raise GuidanceError(
            f"the pipeline was called with different CFG scales for its denoisers ({', '.join(map(number, sorted(scales)))}), "
            f"which {g} would replace at every step. Leave the second scale out."
        )


def check_dynamic(guidance: Guidance, family: Family, *, changes: bool) -> None:
    """A CFG with rules or a schedule takes the place of the pipeline's, so that one must not change from step to step.

    Raises:
        GuidanceError: it `changes`, by the call's arguments or as seen.
    """
    if changes and family.dynamic_argument and not guidance.plain_cfg:
        raise GuidanceError(
            f"{family.dynamic_argument}=True lets the pipeline change its CFG scale at every step, which {guidance} would replace. Leave it "
            "out, or leave the rules and the schedule of CFG out."
        )


def check_weak(guidance: Guidance, family: Family, denoisers: Mapping[str, nn.Module]) -> None:
    """Everything that can be wrong with weak models on these denoisers, before any compute is spent.

    Raises:
        GuidanceError: a layer out of range, an axis or part the model lacks, or a step cache that would answer for skipped
            blocks.
    """
    for name, module in denoisers.items():
        for model in (*guidance.weak.values(), *guidance.edits):
            cast(Weak, model).check(family, name, module)
        if guidance.weak or guidance.edits:
            _check_caches(name, module)
    if guidance.edits and family.batched and any(model.prompt == "negative" for model in guidance.weak.values()):
        raise GuidanceError(
            f"{family.name} pipelines compute uncond and cond in one call, and a weak pass with the negative prompt cannot be told from "
            "one under the edit there. Leave lab.Edit(...) out, or the weak model's prompt."
        )


def _check_caches(name: str, denoiser: nn.Module) -> None:
    advice = f"pipe.{name}.disable_cache()"
    enabled, hooks = getattr(denoiser, "is_cache_enabled", False), list(stateful_hooks(denoiser))
    if not enabled and not hooks:
        return
    which = ""
    if not enabled:  # put on by `apply_...`, so `disable_cache` does not know of it
        place, _, kind = hooks[0]
        which = f" ({kind} at {name}{'.' * bool(place)}{place}{f' and {len(hooks) - 1} more' * (len(hooks) > 1)})"
        names = dict.fromkeys(hook for _, hook, _ in hooks)
        registry = f"diffusers.hooks.HookRegistry.check_if_exists_or_initialize(pipe.{name})"
        advice = "; ".join(f"{registry}.remove_hook({hook!r}, recurse=True)" for hook in names)
    raise GuidanceError(
        f"a step cache is active on {name}{which}; it would answer for skipped blocks. Turn it off first: {advice}."
    )


def tell_limit(scheduler: Any) -> None:
    """Warn where a scheduler limits x0 in its step, so that its x0 is not the one that the lab keeps, shows and combines."""
    kind = type(scheduler).__name__
    limit = limit_of(kind, scheduler.config)
    if limit:
        option = limit.partition("=")[0]
        warnings.warn(
            f"{kind} limits x0 in its own step ({limit}). x0 in the lab is the model's own, before that. If the model's latents "
            "are not meant to be cut (few are), type before sampling: "
            f"pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, {option}=False).",
            stacklevel=2,
        )


def check_eta(guidance: Guidance, eta: float | None) -> None:
    """CFG++ knows where DDIM steps without fresh noise, and only then.

    Raises:
        GuidanceError: the call's `eta` is above 0.
    """
    if eta and any(isinstance(term, CFGpp) for term in guidance.terms):
        raise GuidanceError(f"CFG++ needs DDIM without fresh noise, and the call says eta={eta:g}. Call it with eta=0.")


def check_space(guidance: Guidance, rest: Mapping[str, Any]) -> None:
    """Guidance in x0 space knows one noise level for a whole step.

    Raises:
        GuidanceError: the pipeline steps each token from its own.
    """
    if guidance.space == "x0" and rest.get("per_token_timesteps") is not None:
        raise GuidanceError(
            f"{guidance} is combined in x0, and this pipeline steps every token from a noise level of its own. Leave .in_x0() out."
        )


def check_uncond(guidance: Guidance, family: Family, uncond: bool, predictions: Mapping[str, Any]) -> bool:
    """Whether the run computes the unconditional prediction, once its first step is there. A pipeline may have a scale above 1 and
    compute none: distilled models take it as an input.

    Raises:
        GuidanceError: the guidance needs it, and the pipeline's word for it was not true.
    """
    if not uncond or UNCOND in predictions:
        return uncond
    if guidance.needs_uncond or (guidance.has_cfg and guidance.cfg_scale() != 1):
        raise GuidanceError(
            f"{guidance} needs the unconditional prediction, which the pipeline did not compute at its first step, though its "
            f"{family.scale_name} is above 1. Its models may be distilled: leave CFG out of the sum."
        )
    return False


def check_converted(restarts: bool, pipe: Any) -> None:
    """Restart is not for pipelines that convert their predictions on the way to the scheduler; raises `GuidanceError` there."""
    if restarts:
        raise GuidanceError(
            f"{type(pipe).__name__} converts its predictions before it steps with them, so a step cannot be made again from other "
            "latents. Leave .restart(...) out."
        )
