"""A look inside models with blocks for space and for time, whose attentions have frames or places folded into their batch."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from stg_lab.errors import GuidanceError
from stg_lab.weak.attention import Attention

if TYPE_CHECKING:
    from torch import Tensor

    from stg_lab.weak.base import Pass


def rows_of(at: Pass) -> int:
    """Rows of the denoiser call, as it is made."""
    given = at.args[0] if at.args else at.kwargs.get("hidden_states", at.kwargs.get("sample"))
    return len(given) * at.times


def unfolded(at: Pass, x: Tensor, frames: int) -> Tensor:
    """The stream of a block for space, `(batch * frame or batch, token, channel)`, as `(sample, frame, token, channel)` of the rows
    that are looked at."""
    batch = rows_of(at)
    x = x.unflatten(1, (frames, -1)) if len(x) == batch else x.unflatten(0, (batch, frames))
    index, count = at.piece
    return x.chunk(count)[index]


def by_sample(at: Pass, x: Tensor) -> Tensor:
    """Whatever is folded into the batch, as rows of `(sample, ...)` of those that are looked at."""
    index, count = at.piece
    return x.unflatten(0, (rows_of(at), -1)).chunk(count)[index]


def between_frames(at: Pass, attention: Attention, cells: int) -> tuple[Tensor, Tensor]:
    """Where the attention of each frame goes, `(sample, frame, to)`, and its entropy in nats, `(sample, frame)`; means over places and
    heads.

    Raises:
        GuidanceError: the tokens of this attention are not the frames of a place.
    """
    import torch

    frames = attention.query.shape[2]
    if frames != at.grid.frames or len(attention.query) % rows_of(at):
        raise GuidanceError(
            f"an attention over time of {at.family.name} models has {len(attention.query)} rows of {frames} tokens, which are not the "
            f"{at.grid.frames} frames of a place. Watch hidden or residual: lab.Watch(layers, 'hidden')."
        )
    to, entropy = [], []
    for weights in _maps(attention, cells):
        to.append(weights.mean(1))
        entropy.append(-(weights * weights.clamp(min=1e-30).log()).sum(-1).mean(1))
    found = (by_sample(at, torch.cat(one)).mean(1) for one in (to, entropy))
    return next(found), next(found)


def words_by_frame(at: Pass, attention: Attention, cells: int) -> Tensor:
    """How much each token of each frame looks at each word, `(sample, frame, token, word)`, means over heads, of a cross-attention with
    the frames in its batch."""
    import torch

    maps = torch.cat([weights.mean(1) for weights in _maps(attention, cells)])
    return by_sample(at, maps)


def _maps(attention: Attention, cells: int) -> list[Tensor]:
    """The map, some rows of the batch at a time."""
    rows, heads, tokens, _ = attention.query.shape
    some = max(1, cells // (heads * tokens * attention.key.shape[2]))
    mask, found = attention.mask, []
    for first in range(0, rows, some):
        part = slice(first, first + some)
        cut = mask[part] if mask is not None and mask.ndim == 4 and len(mask) == rows else mask
        query, key, value = (x[part] for x in (attention.query, attention.key, attention.value))
        found.append(replace(attention, query=query, key=key, value=value, mask=cut).map().float())
    return found
