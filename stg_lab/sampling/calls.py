"""Arguments of a pipeline call: filled in, checked, and told about before any compute is spent."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch

from stg_lab.digits.captions import CaptionError, parse
from stg_lab.errors import CallError, GuidanceError
from stg_lab.families import Family
from stg_lab.families.digits_codec import has_pixel_codec
from stg_lab.given import shown
from stg_lab.guidance import Guidance, number
from stg_lab.sampling.checks import check_dynamic
from stg_lab.sampling.values import check_names, read_values


def pipeline_arguments(
    pipe: Any, family: Family, guidance: Guidance | None, seed: int | None, given: dict[str, Any]
) -> dict[str, Any]:
    """The arguments for `pipe(...)`: what the user gave, the checkpoint's own sizes, the CFG scale and the generators.

    Raises:
        CallError: an argument the pipeline does not take, lacks or cannot work with, lists that do not match, or a caption
            outside an embedded model's grammar.
        GuidanceError: the CFG scale was said twice, differently, or would replace one that the pipeline changes on the way.
    """
    check_names(pipe, given)
    call, seed = read_values(
        pipe, {**{n: v for n, v in family.defaults(pipe).items() if accepts(pipe, n)}, **given}, seed
    )
    family.check_call(pipe, call)
    if guidance is not None:
        _set_scale(pipe, family, guidance, call)
    if isinstance(call.get("latents"), torch.Tensor):
        call["latents"] = call["latents"].clone()  # Kandinsky 5 writes into what it is given
    batch = family.samples(call)
    _check_prompts(pipe, family, call)
    generator = call.get("generator")
    if generator is not None and seed is not None:
        raise CallError(
            "both seed= and generator= were given; choose one. seed=s gives sample i a generator seeded s + i."
        )
    if generator is None and accepts(pipe, "generator"):
        own = [torch.Generator().manual_seed((seed or 0) + i) for i in range(batch)]
        call["generator"] = own if batch > 1 else own[0]  # the same noise, and some pipelines take no list
    elif isinstance(generator, list) and len(generator) != batch:
        raise CallError(f"{len(generator)} generators for {batch} samples; give one for each.")
    _check_inputs(pipe, call)
    return call


def accepts(pipe: Any, name: str) -> bool:
    """Whether a pipeline's call takes an argument of this name."""
    parameters = inspect.signature(pipe.__call__).parameters
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def stock_arguments(pipe: Any) -> dict[str, Any]:
    """What a call takes where nothing is given, by the pipeline's own signature."""
    return {name: parameter.default for name, parameter in inspect.signature(pipe.__call__).parameters.items()}


def _check_inputs(pipe: Any, call: Mapping[str, Any]) -> None:
    """Refuse what the pipeline itself refuses, before its text encoder has run.

    Raises:
        CallError: it does.
    """
    own = getattr(pipe, "check_inputs", None)
    if own is None or call.get("use_resolution_binning"):  # which changes the sizes first
        return
    whole, asked = stock_arguments(pipe) | dict(call), inspect.signature(own)
    try:
        bound = asked.bind(**{n: whole[n] for n in asked.parameters})
        own(*bound.args, **bound.kwargs)
    except ValueError as error:
        raise CallError(f"{type(pipe).__name__} refuses this call: {error}") from None
    except (KeyError, TypeError):  # it asks for what the pipeline fills in on the way
        return


def shape_ahead(pipe: Any, family: Family, call: dict[str, Any]) -> tuple[int, ...] | None:
    """`Family.latent_shape`; None as well where the call takes no such arguments as tell it, which a pipeline derived from one that a
    family knows may have filled in itself."""
    try:
        return family.latent_shape(pipe, call)
    except KeyError:
        return None


def captions(family: Family, call: dict[str, Any]) -> list[str]:
    """The prompt of each sample, "" where only embeddings or pictures were given."""
    prompt, count = call.get("prompt"), family.samples(call)
    prompts = prompt if isinstance(prompt, list) else [prompt or ""]
    return [str(p) for p in prompts for _ in range(count // len(prompts))]  # numpy has a str of its own


def _set_scale(pipe: Any, family: Family, guidance: Guidance, call: dict[str, Any]) -> None:
    name, scale = family.scale_argument, guidance.cfg_scale()
    if not name:  # the pipeline has its scale elsewhere
        own = max(family.scale(pipe, component) for component in family.denoisers(pipe))
        if guidance.has_cfg and guidance.plain_cfg and own != scale:
            raise GuidanceError(
                f"guidance says CFG({number(scale)}), but the pipeline has {family.scale_name}={number(own)}. "
                f"{family.how_to_scale(number(scale))}"
            )
        return
    if not accepts(pipe, name):
        if scale != 1:
            raise GuidanceError(
                f"{type(pipe).__name__} takes no {name}, by which the lab would tell it CFG({number(scale)}). Leave CFG out of the sum: "
                "the other terms are added to what the pipeline does itself."
            )
        return
    said = call.get(name)
    if guidance.has_cfg and said is not None and family.asked_scale({name: said}) != scale:
        raise GuidanceError(f"{name}={number(said)} and CFG({number(scale)}) disagree; say it once.")
    check_dynamic(guidance, family, changes=bool(call.get(family.dynamic_argument)))
    if said is None:
        call[name] = family.to_argument(scale)  # 1.0 without a CFG term: the sum is all the guidance there is


def _check_prompts(pipe: Any, family: Family, call: dict[str, Any]) -> None:
    prompt, negative = call.get("prompt"), call.get("negative_prompt")
    embeds = family.embeds_argument
    if prompt is None and call.get(embeds) is None and "prompt" in inspect.signature(pipe.__call__).parameters:
        raise CallError(f"no prompt was given. Pass prompt='...' (or {embeds}).")
    if isinstance(prompt, list) and not prompt:
        raise CallError("prompt is an empty list; give at least one prompt.")
    if isinstance(negative, list):
        prompts = len(prompt) if isinstance(prompt, list) else 1
        if len(negative) != prompts:
            raise CallError(
                f"{len(negative)} negative prompts for {prompts} prompts, got {shown(negative)}. Give as many, or a single string."
            )
        if isinstance(prompt, str):
            raise CallError("negative_prompt is a list but prompt is a string. Make both lists or both strings.")
    if has_pixel_codec(pipe):
        _check_captions(prompt)
        try:
            _check_captions(negative)
        except CallError as error:
            raise CallError(f"negative_prompt: {error} Or leave negative_prompt out.") from None


def _check_captions(texts: str | list[str] | None) -> None:
    """Embedded models know their grammar's words alone, and the empty caption."""
    for caption in [texts] if isinstance(texts, str) else texts or []:
        try:
            _ = parse(caption) if caption else None
        except CaptionError as error:
            raise CallError(str(error)) from None
