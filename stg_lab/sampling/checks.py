"""What can be wrong between a guidance and a pipeline's call, told before any weak pass is paid for."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, cast

from torch import nn

from stg_lab.errors import GuidanceError
from stg_lab.families import Family
from stg_lab.guidance import CFGpp, Guidance, Probe, number
from stg_lab.weak import Weak
from stg_lab.x0 import limit_of


def check_scales(guidance: Guidance, pipe: Any, family: Family, denoiser: str, uncond: bool) -> None:
    """The pipeline's own CFG must be what the guidance says, and there if the guidance needs it; nothing else beside it."""
    g = guidance
    own, asked = family.scale(pipe, denoiser), g.cfg_scale()
    if g.has_cfg and g.plain_cfg and asked != own:
        raise GuidanceError(
            f"guidance says CFG({number(asked)}), but the pipeline works with {family.scale_name}={number(own)} in this call. "
            f"{family.how_to_scale(number(asked))}"
        )
    if (g.needs_uncond or (g.has_cfg and asked != 1)) and not uncond:
        raise GuidanceError(
            f"{g} needs the unconditional prediction, which the pipeline does not compute with "
            f"{family.scale_name}={number(own)}. {family.how_to_uncond()}"
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
        for model in guidance.weak.values():
            cast(Weak, model).check(family, name, module)
        if guidance.weak and getattr(module, "is_cache_enabled", False):
            raise GuidanceError(
                f"a step cache is active on {name}; it would answer for skipped blocks. "
                f"Turn it off first: pipe.{name}.disable_cache()."
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
