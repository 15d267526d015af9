"""What a pipeline steps with, told from its predictions: `k (u + scale (c - u)) + a x_t`.

In stock CFG k is 1 and a is 0, with the scale that the pipeline says. Some pipelines turn the sign, or convert their predictions,
which is linear in the prediction and in x_t, and some multiply with another scale than they say. All that is read off the three
tensors that are there: nothing that a pipeline says of itself wins over it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stg_lab.guidance import COND, UNCOND, combine_cfg

#: How far what is stepped with may lie from the form that was found, in units of the tensors that it is made of: rounding, on the
#: way through a conversion. By bytes of a number.
ROUNDED = {2: 1e-2, 4: 1e-5, 8: 1e-9}
#: How many numbers of a prediction the form is fitted to; all of them must then agree with it.
FITTED = 2**15


@dataclass(frozen=True)
class Form:
    """How what is stepped with follows from the denoiser's predictions.

    Attributes:
        scale: of CFG; a tensor where frames have their own.
        k: what predictions are multiplied with.
        x_t: how much of the latents is added.
        exact: whether that gives what the pipeline steps with, bit for bit.
        guidable: whether another prediction can be put in its place.
    """

    scale: Any = 1.0
    k: float = 1.0
    x_t: float = 0.0
    exact: bool = True
    guidable: bool = True

    @property
    def converts(self) -> bool:
        """Whether the scheduler is handed predictions of another kind than the denoiser's."""
        return self.k != 1 or self.x_t != 0

    def converted(self, prediction: Tensor, x_t: Tensor) -> Tensor:
        """A prediction of the denoiser as the scheduler is handed it."""
        if not self.converts:
            return prediction
        if abs(self.k) == 1 and not self.x_t:
            return -prediction  # the sign alone, so that the bits agree
        return (self.k * prediction.float() + self.x_t * x_t.float()).to(prediction.dtype)


def find_form(predictions: Mapping[str, Tensor], stepped: Tensor, x_t: Tensor, scales: Iterable[Any]) -> Form | None:
    """The form of a step, or None where it has none.

    Args:
        predictions: `cond`, and `uncond` where it was computed.
        stepped: what the scheduler is handed.
        x_t: the latents that the step starts from.
        scales: CFG scales that somebody has said, the likeliest first.
    """
    cond, uncond = predictions[COND], predictions.get(UNCOND)
    if any(p is not None and p.shape != stepped.shape for p in (cond, uncond)):
        return None
    said = [float(s) for s in dict.fromkeys(scales) if isinstance(s, int | float)]
    said = [1.0] if uncond is None else said
    if found := _exact(cond, uncond, stepped, said):
        return found
    fitted = _fitted(cond, uncond, stepped, x_t)
    if fitted is None:
        return None
    scale, k, a = fitted
    said = [*said, float(f"{scale:.6g}"), scale] if uncond is not None else said
    if found := _exact(cond, uncond, stepped, said):
        return found
    scale = next(s for s in [*said, scale] if math.isclose(s, scale, rel_tol=1e-4) or s == said[-1])
    for form in (Form(scale, math.copysign(1.0, k), 0.0, False), Form(scale, k, 0.0, False), Form(scale, k, a, False)):
        if _agrees(form, cond, uncond, stepped, x_t):
            rescaled = uncond is not None and form.converts and not form.x_t and form.k != -1
            return Form(scale, exact=False, guidable=False) if rescaled and k > 0 else form
    return _rescaled(cond, uncond, stepped, said[0])


def _exact(cond: Tensor, uncond: Tensor | None, stepped: Tensor, scales: list[float]) -> Form | None:
    for scale in scales:
        plain = cond if uncond is None else combine_cfg(cond, uncond, scale)
        for k in (1.0, -1.0):
            if same_bits(-plain if k < 0 else plain, stepped):
                return Form(scale, k)
    return None


def _fitted(cond: Tensor, uncond: Tensor | None, stepped: Tensor, x_t: Tensor) -> tuple[float, float, float] | None:
    """Scale, k and the share of x_t that come nearest."""
    parts = [cond, *([] if uncond is None else [uncond]), *([x_t] if x_t.shape == stepped.shape else [])]
    stride = max(stepped.numel() // FITTED, 1)
    columns = [p.detach().flatten()[::stride].double().cpu().numpy() for p in (*parts, stepped)]
    table = np.stack(columns, 1)
    if not np.isfinite(table).all():
        return None
    weights = np.linalg.lstsq(table[:, :-1], table[:, -1], rcond=None)[0]
    of_cond = float(weights[0])
    of_uncond = 0.0 if uncond is None else float(weights[1])
    k = of_cond + of_uncond
    if not abs(k) > 1e-3 * (abs(of_cond) + abs(of_uncond)):
        return None
    return of_cond / k, k, float(weights[-1]) if x_t.shape == stepped.shape else 0.0


def _agrees(form: Form, cond: Tensor, uncond: Tensor | None, stepped: Tensor, x_t: Tensor) -> bool:
    c, x, u = cond.float(), x_t.float(), None if uncond is None else uncond.float()
    plain = c if u is None else combine_cfg(c, u, form.scale)
    expected = form.k * plain + (form.x_t * x if form.x_t else 0.0)
    size = abs(form.k) * (plain.norm() if u is None else abs(form.scale) * c.norm() + abs(form.scale - 1) * u.norm())
    size = size + (abs(form.x_t) * x.norm() if form.x_t else 0.0)
    least = min(p.element_size() for p in (cond, stepped))
    return bool((expected - stepped.float()).norm() <= ROUNDED[least] * size)


def _rescaled(cond: Tensor, uncond: Tensor | None, stepped: Tensor, scale: float) -> Form | None:
    """CFG and then a factor above 0 for each sample, as `guidance_rescale` has it."""
    plain = (cond if uncond is None else combine_cfg(cond, uncond, scale)).float().flatten(1)
    whole = stepped.float().flatten(1)
    factor = (plain * whole).sum(1, keepdim=True) / (plain * plain).sum(1, keepdim=True)
    least = min(p.element_size() for p in (cond, stepped))
    agree = (factor * plain - whole).norm() <= ROUNDED[least] * whole.norm()
    return Form(scale, exact=False, guidable=False) if agree and bool((factor > 0).all()) else None


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether two predictions are equal; where a run has come to NaN, it is in both."""
    return torch.equal(one, other) or torch.equal(one.nan_to_num(), other.nan_to_num())


def changed(came_down: Tensor | None, x_t: Tensor) -> bool:
    """Whether the latents that a step starts from are others than the step before gave; that they were carried in a narrower
    precision is no change."""
    if came_down is None:
        return False
    if came_down.shape != x_t.shape:
        return True
    carried = (came_down.dtype, torch.bfloat16, torch.float16)  # one by one: the first is right in nearly every step
    return not any(same_bits(came_down.to(dtype).to(x_t.dtype), x_t) for dtype in carried)
