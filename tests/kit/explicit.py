"""Attention written out: one matrix over all tokens for every head, in float64, and masks made by loops over places."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Place = tuple[int, int, int]  # frame, y, x


def places(grid: Place, text: str = "none", words: int = 0) -> list[Place | None]:
    """Where each token stands; None is a text token."""
    video = [(f, y, x) for f in range(grid[0]) for y in range(grid[1]) for x in range(grid[2])]
    return [None] * words + video if text == "first" else [*video, *[None] * words]


def seen(tokens: list[Place | None], rule: Callable[[Place, Place], bool]) -> Tensor:
    """Which token (row) sees which (column): video sees video by the rule, and text sees and is seen by everything."""
    return torch.tensor([[a is None or b is None or rule(a, b) for b in tokens] for a in tokens])


def same_frame(a: Place, b: Place) -> bool:
    return a[0] == b[0]


def same_position(a: Place, b: Place) -> bool:
    return a[1:] == b[1:]


def near(window: int) -> Callable[[Place, Place], bool]:
    return lambda a, b: abs(a[0] - b[0]) <= window


def itself(a: Place, b: Place) -> bool:
    return a == b


def attention_map(q: Tensor, k: Tensor, *, rule: Tensor | None = None, mask: Any = None, scale: Any = None) -> Tensor:
    """Rows that add up to one, `(batch, head, token, token)`; `mask` as the kernel takes it, `rule` from `seen`."""
    q, k = q.double(), each_head(k.double(), q.shape[1])
    logits = torch.einsum("bhic,bhjc->bhij", q, k) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if mask is not None:
        logits = logits.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else logits + mask.double()
    if rule is not None:
        logits = logits.masked_fill(~rule, -math.inf)
    weights = (logits - logits.amax(-1, keepdim=True)).exp()
    return weights / weights.sum(-1, keepdim=True)


def attend(q: Tensor, k: Tensor, v: Tensor, **how: Any) -> Tensor:
    return attention_map(q, k, **how) @ each_head(v.double(), q.shape[1])


def each_head(x: Tensor, heads: int) -> Tensor:
    """Heads that share a key or value each get a copy."""
    return torch.stack([x[:, h * x.shape[1] // heads] for h in range(heads)], dim=1)


def gaussian(tokens: list[Place], sigma: float, axis: str) -> Tensor:
    """Blurring over places as one matrix: all pairs of tokens weighed by their distance along the axis."""
    out = torch.zeros(len(tokens), len(tokens), dtype=torch.float64)
    for i, a in enumerate(tokens):
        for j, b in enumerate(tokens):
            space = (a[1] - b[1]) ** 2 + (a[2] - b[2]) ** 2
            time = (a[0] - b[0]) ** 2
            there = {"spatial": time == 0, "temporal": space == 0, "joint": True}[axis]
            out[i, j] = math.exp(-(space + time) / (2 * sigma**2)) if there else 0.0
    return out / out.sum(1, keepdim=True)


def wan_attention(attn: Any, h: Tensor, rotary: Any, attend: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
    """Wan's self-attention written out, with an attention of one's own in its middle."""

    def heads(x: Tensor) -> Tensor:
        return x.unflatten(2, (attn.heads, -1)).transpose(1, 2).double()

    def turned(x: Tensor) -> Tensor:
        """Rotary embedding as multiplication by complex numbers."""
        cos, sin = (f.double().reshape(1, 1, -1, f.shape[-1]) for f in rotary)
        turn = torch.complex(cos[..., 0::2].contiguous(), sin[..., 1::2].contiguous())
        return torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous()) * turn).flatten(-2)

    q, k = turned(heads(attn.norm_q(attn.to_q(h)))), turned(heads(attn.norm_k(attn.to_k(h))))
    out = attend(q, k, heads(attn.to_v(h)))
    return attn.to_out[0](out.transpose(1, 2).flatten(2).to(h.dtype))
