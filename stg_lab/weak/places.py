"""Which tokens see each other: attention restricted by place, exact and without an N x N mask.

Video tokens are told apart by frame and position; text tokens, where a model keeps them in the same attention, are seen by
every video token and attend as before. The functions are edits in the sense of `weak.attention`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stg_lab.errors import GuidanceError
from stg_lab.weak.attention import Attention

if TYPE_CHECKING:
    from torch import Tensor


def identity(attention: Attention) -> Tensor:
    """A = I for every token, text too: the value projection (paper, eq. 17). Costs no attention at all."""
    if attention.value.shape[2] != attention.query.shape[2]:
        raise GuidanceError(
            f"identity attention needs a value for every token; here are {attention.query.shape[2]} tokens and "
            f"{attention.value.shape[2]} values. The pipeline's attention is of a form that the lab does not know."
        )
    return attention.each_head(attention.value)


def identity_video(attention: Attention) -> Tensor:
    """A = I for the video tokens; text tokens attend as before."""
    return attention.with_video(attention.each_head(attention.value)[:, :, attention.video])


def diagonal(attention: Attention) -> Tensor:
    """Every video token attends to itself and to the text, to no other video token; text tokens attend as before."""
    import torch

    query, key, value = attention.query, attention.each_head(attention.key), attention.each_head(attention.value)
    video, words = attention.video, attention.words
    q = query[:, :, video] * (attention.options.get("scale") or query.shape[-1] ** -0.5)
    logits = torch.cat([(q * key[:, :, video]).sum(-1, keepdim=True), q @ key[:, :, words].transpose(-1, -2)], dim=-1)
    mask = attention.keys_mask()
    if mask is not None:
        # A video token always sees itself, so only the text part of the mask says anything.
        text = mask[..., words]
        hidden = torch.where(text, 0.0, -torch.inf) if text.dtype == torch.bool else text
        logits[..., 1:] += hidden
    weight = logits.softmax(-1)
    out = weight[..., :1] * value[:, :, video] + weight[..., 1:] @ value[:, :, words]
    return attention.with_video(out)


def within_frames(attention: Attention) -> Tensor:
    """Every video token attends within its own frame (and to the text). Costs 1/F of the full attention."""
    return _grouped(attention, by_frame=True)


def within_positions(attention: Attention) -> Tensor:
    """Every video token attends to its own position across all frames (and to the text). Costs 1/(H W) of the full one."""
    return _grouped(attention, by_frame=False)


def sliding(attention: Attention, window: int) -> Tensor:
    """Every video token attends to the frames at most `window` before or after its own (and to the text)."""
    import torch

    if window >= attention.place.frames - 1:
        return attention()  # every frame is near: the very bits of the true attention
    mask, words = attention.keys_mask(), attention.words
    frames, places = attention.place.frames, attention.place.height * attention.place.width
    first = attention.video.start
    out = []
    for f in range(frames):
        near = slice(first + max(0, f - window) * places, first + min(frames, f + window + 1) * places)

        def seen(x: Tensor, near: slice = near) -> Tensor:
            return torch.cat([x[:, :, near], x[:, :, words]], dim=2)

        row = None if mask is None else seen(mask.transpose(2, 3)).transpose(2, 3)
        query = attention.query[:, :, first + f * places : first + (f + 1) * places]
        out.append(attention(query, seen(attention.key), seen(attention.value), row))
    return attention.with_video(torch.cat(out, dim=2))


def sliding_in_space(attention: Attention, reach: int, window: int) -> Tensor:
    """Every video token attends to positions at most `reach` rows and columns away, in frames at most `window` away (and to
    the text). Done row by row of the picture, whose queries have the keys of the rows around it: no N x N mask."""
    import torch

    grid = attention.place
    if reach >= max(grid.height, grid.width) - 1 and window >= grid.frames - 1:
        return attention()
    hidden, words = attention.keys_mask(), attention.words
    tokens, device = attention.query.shape[2], attention.query.device
    place = torch.arange(grid.size, device=device).unflatten(0, (grid.frames, grid.height, grid.width))
    frame, column = (torch.arange(n, device=device) for n in (grid.frames, grid.width))
    in_time = (frame[:, None] - frame).abs()[:, None, :, None, None] <= window
    in_row = (column[:, None] - column).abs()[None, :, None, None, :] <= reach
    seen = in_time & in_row  # query frame, query column, key frame, key row, key column
    text = torch.arange(*words.indices(tokens), device=device)
    out = torch.empty_like(attention.query)
    first = attention.video.start
    for y in range(grid.height):
        strip = place[:, max(0, y - reach) : y + reach + 1]
        mask = seen.expand(-1, -1, -1, strip.shape[1], -1).flatten(2).flatten(0, 1)
        mask = torch.cat([mask, mask.new_ones(len(mask), len(text))], dim=1)
        rows, keys = place[:, y].flatten() + first, torch.cat([strip.flatten() + first, text])
        if hidden is not None:
            own = hidden[..., keys]
            mask = mask & own if own.dtype == torch.bool else torch.zeros_like(own).masked_fill(~mask, -torch.inf) + own
        out[:, :, rows] = attention(
            attention.query[:, :, rows], attention.key[:, :, keys], attention.value[:, :, keys], mask
        )
    return attention.with_video(out[:, :, attention.video])


def _grouped(attention: Attention, *, by_frame: bool) -> Tensor:
    """Attention inside groups of video tokens: the tokens of a frame, or those of a position."""
    import torch

    frames, places = attention.place.frames, attention.place.height * attention.place.width
    groups = frames if by_frame else places
    if groups == 1:
        return attention()

    def split(x: Tensor) -> Tensor:
        """(batch, head, video token, channel) to (batch * group, head, token of the group, channel)."""
        x = x.unflatten(2, (frames, places))
        return x.permute(0, 2, 1, 3, 4).flatten(0, 1) if by_frame else x.permute(0, 3, 1, 2, 4).flatten(0, 1)

    def join(x: Tensor) -> Tensor:
        x = x.unflatten(0, (-1, groups))
        return x.permute(0, 2, 1, 3, 4).flatten(2, 3) if by_frame else x.permute(0, 2, 3, 1, 4).flatten(2, 3)

    def seen(x: Tensor) -> Tensor:
        """The keys (or values) of each group: its own, and the text's."""
        words = x[:, :, attention.words].repeat_interleave(groups, dim=0)
        return torch.cat([split(x[:, :, attention.video]), words], dim=2)

    mask = attention.keys_mask()
    if mask is not None:  # the same regrouping, of a row of keys
        batch = attention.query.shape[0]
        mask = seen(mask.expand(batch, -1, -1, -1).transpose(2, 3)).transpose(2, 3)
    query = split(attention.query[:, :, attention.video])
    return attention.with_video(join(attention(query, seen(attention.key), seen(attention.value), mask)))
