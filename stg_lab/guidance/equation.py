"""The one equation: the predictions of a step, and the guided prediction that a sum makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from stg_lab.errors import GuidanceError
from stg_lab.guidance.acting import Acting, Weighted
from stg_lab.guidance.guidance import Guidance, Orthogonal
from stg_lab.guidance.moment import Moment
from stg_lab.guidance.terms import COND, UNCOND
from stg_lab.guidance.vectors import orthogonal, rescale
from stg_lab.x0 import OneStep

#: What predictions are turned to x0 by where they are x0.
ITSELF = OneStep(0.0, 1.0)

if TYPE_CHECKING:  # naming a guidance needs neither torch nor numpy
    from jaxtyping import Float

    #: One sample's latents lie as the family has them at `scheduler.step`, for most `channel frame y x`; torch and numpy alike.
    Prediction = Float[Any, "sample *latent"]
    Predictions = Mapping[str, Prediction]  # by branch
    Scale = Any  # a number, or an array where frames have their own


def combine_cfg(cond: Prediction, uncond: Prediction | None, scale: Scale) -> Prediction:
    """`u + scale (c - u)`, written as diffusers writes it so that the bits agree; scale 1 returns `cond` itself.

    The scale is a number, or a tensor where frames have their own (SVD).
    """
    return cond if _is_one(scale) else uncond + scale * (cond - uncond)


def combine(
    guidance: Guidance, predictions: Predictions, at: Moment, *, cfg_scale: Scale = None, own: Any = None
) -> Prediction:
    """The guided prediction of one step (the README's one equation; paper, eq. 13, 20, 21 and Alg. 4).

    Args:
        guidance: the sum.
        predictions: arrays `(sample, ...)` by branch name: `cond`, `uncond` where CFG acts, and every weak branch that acts.
        at: which step it is.
        cfg_scale, own: see `guided_by`.

    Raises:
        GuidanceError: a branch that acts at this step is missing.
    """
    return guided_by(Acting.at(guidance, at), predictions, at, cfg_scale=cfg_scale, own=own)


def guided_by(
    acting: Acting, predictions: Predictions, at: Moment, *, cfg_scale: Scale = None, own: Prediction | None = None
) -> Prediction:
    """The guided prediction of a step whose terms are known.

    Frames that were given to the pipeline (`at.given`) are no part of it: what is predicted for them is thrown away, so no
    deviation, length or inner product may look at it.

    Args:
        acting: what of the sum acts.
        predictions, at: as for `combine`.
        cfg_scale: the CFG scale in force at this step, where it is not the sum's own; an array where frames have their own.
        own: the pipeline's own prediction, which the given frames keep; by default they keep that of `cond`.

    Returns:
        An array like `predictions["cond"]`. Terms that do not act are left out, not added as zeros, so "off" is exactly off.
        What is not linear is computed in float32 at least.
    """
    if not acting.guidance.linear:
        predictions = {name: _at_least_float32(p) for name, p in predictions.items()}
    if not at.given:
        return _in_its_space(acting, predictions, at, cfg_scale)
    whole = 1 * (predictions[COND] if own is None else own)  # a copy, of whatever kind of array
    only = {name: _stepped(p, at) for name, p in predictions.items()}
    scales = None if at.by_frame is None else lambda scale: _stepped(at.by_frame(scale), at)  # type: ignore[misc]
    then = replace(at, x_t=_stepped(at.x_t, at), by_frame=scales, given=0)
    whole[at.stepped] = _in_its_space(acting, only, then, _stepped(cfg_scale, at))
    return whole


def _in_its_space(acting: Acting, predictions: Predictions, at: Moment, cfg_scale: Scale) -> Prediction:
    """The sum of what the model predicts, or of one-step predictions; then the rules that have a say in the result."""
    if acting.guidance.space == "native" or acting.guidance.same_in_x0:
        guided = weighted_sum(acting, predictions, at, cfg_scale)
    else:
        at = replace(at, x_t=_at_least_float32(at.x_t))
        x0 = at.to_x0(predictions)
        guided = weighted_sum(acting, x0, replace(at, one_step=ITSELF), cfg_scale)
        guided = predictions[COND] if guided is x0[COND] else at.from_x0(guided)
    for rule in acting.rules:
        guided = rule.on_guided(guided, at)
    return guided


def weighted_sum(acting: Acting, p: Predictions, at: Moment, cfg_scale: Scale = None) -> Prediction:
    """`guided = cond + sum_i w_i (reference_i - weak_i)`: paper, eq. 13 and 20, orthogonalised by eq. 21, rescaled by Alg. 4.

    CFG's vectors come first, the plain one as diffusers writes it, since others may point to what CFG alone gives.
    """
    g, cond = acting.guidance, p[COND]
    scale, share = acting.by_frame(at) if cfg_scale is None else (cfg_scale, 1)
    guided = combine_cfg(cond, None if _is_one(scale) else _branch(p, UNCOND), scale)  # cond + (g - 1) (cond - uncond)
    for one in acting.cfg:
        if not one.over(at):
            guided = guided + one.weight * (share if one.shared else 1) * guidance_vector(one, p, at, cfg=guided)
    skips = [one for one in acting.skips if not one.over(at)]
    vectors = [guidance_vector(one, p, at, cfg=guided) for one in skips]
    vectors = _orthogonalized(g.orthogonalized, skips, vectors, at) if g.orthogonalized else vectors
    for one, vector in zip(skips, vectors, strict=True):
        guided = guided + one.weight * vector
    return rescale(guided, cond, g.phi, g.per) if g.phi and guided is not cond else guided


def guidance_vector(one: Weighted, p: Predictions, at: Moment, cfg: Prediction) -> Prediction:
    """`D_i = reference_i - weak_i`, after the term's rules; `cfg` is what CFG alone gives."""
    weak = _branch(p, one.weak)
    reference = cfg if one.reference == "cfg" else _branch(p, one.reference)
    for rule in one.rules:
        weak = rule.on_weak(weak, reference)
    vector = reference - weak
    for rule in one.rules:
        vector = rule.on_vector(vector, reference, weak, at, one.key)
        if rule.needs_uncond:
            vector = rule.on_part(vector, p[COND] - _branch(p, UNCOND))
    return vector


def _orthogonalized(how: Orthogonal, skips: list[Weighted], vectors: list[Prediction], at: Moment) -> list[Prediction]:
    """Equation 21. Where the vector to be orthogonal to does not act at this step, there is nothing to take away."""
    axes = [one.axis for one in skips]
    if how.keeps not in axes:
        return vectors
    kept = vectors[axes.index(how.keeps)]
    return [
        orthogonal(v, kept, how.per, frame=at.frame) if axis == how.loses else v
        for axis, v in zip(axes, vectors, strict=True)
    ]


def _stepped(x: Any, at: Moment) -> Any:
    """The part of an array that the step moves; what is the same for all frames stays as it is."""
    by_frame = getattr(x, "ndim", 0) > at.frame and x.shape[at.frame] > 1
    return x[at.stepped] if by_frame else x


def _is_one(scale: Scale) -> bool:
    return isinstance(scale, int | float) and scale == 1


def _at_least_float32(x: Any) -> Any:
    """Half precision cannot hold norms and deviations, so it is widened."""
    if x is None or x.dtype.itemsize >= 4:
        return x
    return x.float() if hasattr(x, "float") else x.astype("float32")


def _branch(predictions: Predictions, name: str) -> Prediction:
    if name not in predictions:
        raise GuidanceError(f"guidance needs the branch {name!r}, but only {', '.join(predictions)} are there.")
    return predictions[name]
