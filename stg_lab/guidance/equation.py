"""The one equation: a guidance, the predictions of a step, and the guided prediction that they make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from stg_lab.errors import GuidanceError
from stg_lab.guidance.moment import Moment
from stg_lab.guidance.terms import CFG, COND, UNCOND, Term
from stg_lab.guidance.total import Guidance
from stg_lab.guidance.vectors import orthogonal, rescale
from stg_lab.x0 import OneStep

#: What predictions are turned to x0 by where they are x0.
ITSELF = OneStep(0.0, 1.0)


def combine_cfg(cond: Any, uncond: Any, scale: Any) -> Any:
    """`u + scale (c - u)`, written as diffusers writes it so that the bits agree; scale 1 returns `cond` itself.

    The scale is a number, or a tensor where frames have their own (SVD).
    """
    off = isinstance(scale, int | float) and scale == 1
    return cond if off else uncond + scale * (cond - uncond)


def combine(
    guidance: Guidance, predictions: Mapping[str, Any], at: Moment, *, cfg_scale: Any = None, own: Any = None
) -> Any:
    """The guided prediction of one step (DESIGN's one equation; paper eq. 13, 20, 21 and Alg. 4).

    Frames that were given to the pipeline (`at.given`) are no part of it: what is predicted for them is thrown away, so no
    deviation, length or inner product may look at it.

    Args:
        guidance: the sum.
        predictions: arrays `(sample, ...)` by branch name: `cond`, `uncond` where CFG acts, and every weak branch that acts.
        at: which step it is.
        cfg_scale: the CFG scale in force at this step, where it is not the sum's own; an array where frames have their own.
        own: the pipeline's own prediction, which the given frames keep; by default they keep that of `cond`.

    Returns:
        An array like `predictions["cond"]`. Terms that do not act are left out, not added as zeros, so "off" is exactly off.
        What is not linear is computed in float32 at least.

    Raises:
        GuidanceError: a branch that acts at this step is missing.
    """
    if not guidance.linear:
        predictions = {name: _at_least_float32(p) for name, p in predictions.items()}
    if not at.given:
        return _guided(guidance, predictions, at, cfg_scale)
    whole = 1 * (predictions[COND] if own is None else own)  # a copy, of whatever kind of array
    only = {name: _stepped(p, at) for name, p in predictions.items()}
    scales = None if at.by_frame is None else lambda scale: _stepped(at.by_frame(scale), at)  # type: ignore[misc]
    then = replace(at, x_t=_stepped(at.x_t, at), by_frame=scales, given=0)
    whole[at.stepped] = _guided(guidance, only, then, _stepped(cfg_scale, at))
    return whole


def _stepped(x: Any, at: Moment) -> Any:
    """The part of an array that the step moves; what is the same for all frames stays as it is."""
    by_frame = getattr(x, "ndim", 0) > at.frame and x.shape[at.frame] > 1
    return x[at.stepped] if by_frame else x


def _guided(guidance: Guidance, predictions: Mapping[str, Any], at: Moment, cfg_scale: Any) -> Any:
    if guidance.space == "native" or guidance.same_in_x0:
        guided = _total(guidance, predictions, at, cfg_scale)
    else:
        at = replace(at, x_t=_at_least_float32(at.x_t))
        x0 = at.to_x0(predictions)
        guided = _total(guidance, x0, replace(at, one_step=ITSELF), cfg_scale)
        guided = predictions[COND] if guided is x0[COND] else at.from_x0(guided)
    for term in guidance.terms:
        for rule in term.rules if term.inside(at) else ():
            if rule.always or not term.never:
                guided = rule.on_guided(guided, at)
    return guided


def _total(g: Guidance, predictions: Mapping[str, Any], at: Moment, cfg_scale: Any) -> Any:
    cond = predictions[COND]
    scale, share = _cfg(g, at) if cfg_scale is None else (cfg_scale, 1)
    off = isinstance(scale, int | float) and scale == 1
    alone = cond if off else combine_cfg(cond, _branch(predictions, UNCOND), scale)
    acting = [(key, t) for key, t in enumerate(g.terms) if t.active(at) and not t.over(at, key)]
    for key, term in acting:
        if isinstance(term, CFG) and not term.plain:
            weight = term.weight(at) * share if term.by_frame else term.weight(at)
            alone = alone + weight * _vector(g, term, predictions, at, key, alone)
    vectors = {key: _vector(g, t, predictions, at, key, alone) for key, t in acting if not isinstance(t, CFG)}
    if g.orthogonalized is not None:
        vectors = _orthogonalized(g, vectors, at)
    guided = alone
    for key, vector in vectors.items():
        guided = guided + g.terms[key].weight(at) * vector
    if g.phi and guided is not cond:
        guided = rescale(guided, cond, g.phi, g.per)
    return guided


def _cfg(g: Guidance, at: Moment) -> tuple[Any, Any]:
    """The scale of the plain CFG terms at a step, and what the weights of the other ones are multiplied by there.

    Where frames have scales of their own, it is CFG as a whole that has them, and each term does its share of it.
    """
    plain = g.cfg_scale(at)
    if at.by_frame is None:
        return plain, 1
    whole = 1.0 + sum(t.weight(at) for t in g.terms if isinstance(t, CFG) and t.by_frame and t.active(at))
    if whole == 1:
        return plain, 1
    frames = at.by_frame(whole)
    if plain == whole:
        return frames, 1  # there are no other ones
    share = (frames - 1) / (whole - 1)
    return plain if plain == 1 else 1 + (plain - 1) * share, share


def _vector(g: Guidance, term: Term, predictions: Mapping[str, Any], at: Moment, key: int, alone: Any) -> Any:
    """The guidance vector of one term, from its weak prediction to its reference, after the term's rules."""
    weak = _branch(predictions, g.branch(term))
    reference = alone if term.reference == "cfg" else _branch(predictions, term.reference)
    for rule in term.rules:
        weak = rule.on_weak(weak, reference)
    vector = reference - weak
    for rule in term.rules:
        vector = rule.on_vector(vector, reference, weak, at, key)
        if rule.needs_uncond:
            vector = rule.on_part(vector, predictions[COND] - _branch(predictions, UNCOND))
    return vector


def _orthogonalized(g: Guidance, vectors: dict[int, Any], at: Moment) -> dict[int, Any]:
    """Equation 21. Where the vector to be orthogonal to does not act at this step, there is nothing to take away."""
    how = g.orthogonalized
    assert how is not None
    axis = {key: g.terms[key].weak_model.axis for key in vectors}  # type: ignore[union-attr]
    kept = next((vectors[key] for key in vectors if axis[key] == how.keeps), None)
    if kept is None:
        return vectors
    return {
        key: orthogonal(v, kept, how.per, frame=at.frame) if axis[key] == how.loses else v for key, v in vectors.items()
    }


def _at_least_float32(x: Any) -> Any:
    """Half precision cannot hold norms and deviations, so it is widened."""
    if x is None or x.dtype.itemsize >= 4:
        return x
    return x.float() if hasattr(x, "float") else x.astype("float32")


def _branch(predictions: Mapping[str, Any], name: str) -> Any:
    if name not in predictions:
        raise GuidanceError(f"guidance needs the branch {name!r}, but only {', '.join(predictions)} are there.")
    return predictions[name]
