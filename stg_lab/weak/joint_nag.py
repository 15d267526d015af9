"""NAG where text and video share one attention: the negative prompt's text is carried beside the caption's through all blocks.

The batch has every row twice, with the caption and with the negative prompt. In each attention the second of the two has the
video tokens of the first, so that its text looks at, and is looked at by, the very same video; what the two give for the video
is put together as in cross-attention. So it is in the authors' code for Flux.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from stg_lab.errors import GuidanceError
from stg_lab.patch import Change, Make
from stg_lab.weak.attention import Attention, intercepted

if TYPE_CHECKING:
    from torch import Tensor

    from stg_lab.families import Family
    from stg_lab.weak.base import Pass

Guided = Callable[["Tensor", "Tensor"], "Tensor"]  # of z+ and z-
#: What is told of the text as a whole, which keeps to the caption: it modulates the video as well.
OF_THE_VIDEO = ("pooled_projections",)


def is_joint(family: Family) -> bool:
    """Whether text and video share one attention, and no other."""
    return family.text_tokens in ("first", "last") and "cross_attention_zero" not in family.parts


def doubled(at: Pass, other: tuple[tuple, Mapping[str, Any]]) -> tuple[tuple, dict[str, Any]]:
    """The arguments of a call with each piece of its rows followed by the same with what `other` has in the place of its text.

    Raises:
        GuidanceError: the texts are of different lengths.
    """
    count, batch = at.piece[1], len(at.args[0] if at.args else at.kwargs["hidden_states"])

    def both(mine: Any, theirs: Any, name: str = "") -> Any:
        if name in at.family.unbatched:
            return mine
        theirs = mine if name in OF_THE_VIDEO else theirs
        if hasattr(mine, "chunk"):
            return _paired(mine, theirs, count) if mine.ndim and len(mine) == batch else mine
        if isinstance(mine, Mapping):
            return {key: both(value, theirs[key], key) for key, value in mine.items()}
        return type(mine)(map(both, mine, theirs)) if type(mine) in (list, tuple) else mine

    args, kwargs = other
    return both(at.args, args), both(dict(at.kwargs), kwargs)


def _paired(mine: Tensor, theirs: Tensor, count: int) -> Tensor:
    import torch

    if mine.shape[1:] != theirs.shape[1:]:
        raise GuidanceError(
            f"the caption and the negative prompt are encoded as {tuple(mine.shape[1:])} and {tuple(theirs.shape[1:])}, and cannot be in "
            "one batch. Pad both to the same length (max_sequence_length)."
        )
    pieces = zip(mine.chunk(count), theirs.chunk(count), strict=True)
    return torch.cat([one for pair in pieces for one in pair])


def first_of_each(x: Tensor, count: int) -> Tensor:
    """Of the doubled rows, those under the caption."""
    return x.unflatten(0, (count, 2, -1))[:, 0].flatten(0, 1)


def changes(
    at: Pass, piece: Callable[[], tuple[int, int]], guided: Guided, chosen: Iterable[int] | None
) -> Iterable[Change]:
    """What to put into the attentions of all layers; only those of the chosen ones are guided.

    Args:
        piece: of the call that is on its way, (index, count) of the rows under the caption.
    """
    family = at.family
    grid = at.grid if at.args or at.kwargs else None

    def seen(call: Mapping[str, Any]) -> Attention:
        return Attention(
            call["query"],
            call["key"],
            call["value"],
            call.get("attn_mask"),
            {},
            call["kernel"],
            grid,
            family.text_tokens,
        )

    for layer, blocks in enumerate(family.layers(at.denoiser)):
        act = guided if chosen is None or layer in chosen else _as_it_is
        for block in blocks.values():
            module = family.sublayers(block, "attention")[0]
            yield module, _made(seen, piece, act), f"attention {layer}"


def _as_it_is(positive: Tensor, negative: Tensor) -> Tensor:
    return positive


def _made(seen: Callable[..., Attention], piece: Callable[[], tuple[int, int]], guided: Guided) -> Make:
    def make(forward: Callable[..., Any]) -> Callable[..., Any]:
        def both(*args: Any, **kwargs: Any) -> Any:
            rows, singles = len(args[0] if args else kwargs["hidden_states"]), []

            def answer(kernel: Callable[..., Tensor], **call: Any) -> Tensor:
                if len(call["query"]) == rows:
                    return _answered(kernel, call, seen({**call, "kernel": kernel}).video, piece(), guided)
                singles.append((kernel, call))  # Mochi attends to one sample after the other
                return call["query"]

            with intercepted(answer):
                output = forward(*args, **kwargs)
            if not singles:
                return output
            answers = iter(_one_by_one(singles, seen, piece(), guided))
            with intercepted(lambda kernel, **call: next(answers)):
                return forward(*args, **kwargs)

        return both

    return make


def _answered(
    kernel: Callable[..., Tensor], call: Mapping[str, Any], video: slice, piece: tuple[int, int], guided: Guided
) -> Tensor:
    """The attention of doubled rows, `(batch, head, token, channel)`."""
    index, count = piece
    shared = {name: call[name].unflatten(0, (count, 2, -1)).clone() for name in ("query", "key", "value")}
    for x in shared.values():
        x[:, 1, ..., video, :] = x[:, 0, ..., video, :]
    out = kernel(**{**call, **{name: x.flatten(0, 2) for name, x in shared.items()}}).unflatten(0, (count, 2, -1))
    positive, negative = (out[index, which, ..., video, :].clone() for which in (0, 1))
    out[index, 0, ..., video, :] = guided(positive, negative)
    return out.flatten(0, 2)


def _one_by_one(
    singles: list[tuple[Callable[..., Tensor], dict[str, Any]]],
    seen: Callable[..., Attention],
    piece: tuple[int, int],
    guided: Guided,
) -> list[Tensor]:
    """The same where each row has a call of its own, with as many words as it has."""
    index, count = piece
    samples = len(singles) // (2 * count)
    answers: list[Tensor] = [kernel(**call) for kernel, call in singles]
    for i in range(count):
        for row in range(2 * i * samples, (2 * i + 1) * samples):
            (kernel, mine), (_, other) = singles[row], singles[row + samples]
            here, there = (seen({**call, "kernel": kernel}).video for call in (mine, other))
            shared = {name: other[name].clone() for name in ("query", "key", "value")}
            for name, x in shared.items():
                x[:, :, there] = mine[name][:, :, here]
            answers[row + samples] = kernel(**{**other, **shared})
            if i == index:
                positive, negative = answers[row][:, :, here].clone(), answers[row + samples][:, :, there]
                answers[row][:, :, here] = guided(positive, negative)
    return answers
