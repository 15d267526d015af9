"""Rows of a batch: the piece of a call that a weak pass is about."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from stg_lab.weak.base import Pass

if TYPE_CHECKING:
    from torch import Tensor


def each_tensor(thing: Any, change: Callable[[Tensor], Any]) -> Any:
    """The same structure of tuples and lists with its tensors changed."""
    if hasattr(thing, "chunk"):
        return change(thing)
    return type(thing)(each_tensor(one, change) for one in thing) if isinstance(thing, tuple | list) else thing


def chunked(thing: Any, piece: tuple[int, int]) -> Any:
    """A piece, (index, count), of every tensor in a structure of tuples and lists, along their first dimension."""
    index, count = piece
    return each_tensor(thing, lambda x: x.chunk(count)[index])


def concerned(piece: tuple[int, int], x: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """A batch with one piece of its rows changed, and the others as they are."""
    import torch

    index, count = piece
    pieces = list(x.chunk(count))
    pieces[index] = change(pieces[index])
    return torch.cat(pieces)


def only_concerned(at: Pass) -> Pass:
    """The same call with only the rows that the weak pass is about."""
    index, count = at.piece
    small = with_rows(at, lambda x: x.chunk(count)[index])
    return replace(small, prediction=at.concerned(at.prediction), piece=(0, 1))


def can_cut(at: Pass) -> bool:
    """Whether the rows that a pass is about can be cut out of its call: not where an argument has several rows for each row of the
    batch (frames times samples), since its shape does not tell in which order."""
    batch, unbatched = len(at.prediction), at.family.unbatched

    def plain(value: Any, name: str = "") -> bool:
        if name in unbatched:
            return True
        if hasattr(value, "chunk"):
            return not value.ndim or len(value) <= batch or len(value) % batch > 0
        if isinstance(value, Mapping):
            return all(plain(one, key) for key, one in value.items())
        if isinstance(value, list | tuple):
            whole = len(value) == batch and any(
                hasattr(one, "chunk") and len(one) != batch for one in value if one is not None
            )
            return not whole and all(map(plain, value))
        return True

    return all(map(plain, at.args)) and all(plain(one, name) for name, one in at.kwargs.items())


def with_rows(at: Pass, change: Callable[[Tensor], Tensor]) -> Pass:
    """The same call with every argument changed that has the rows of the batch."""
    batch = len(at.prediction)
    unbatched = at.family.unbatched

    def rows(value: Any, name: str = "") -> Any:
        if name in unbatched:
            return value
        if hasattr(value, "chunk"):
            return change(value) if value.ndim and len(value) == batch else value
        if isinstance(value, Mapping):
            return {key: rows(one, key) for key, one in value.items()}
        if type(value) in (list, tuple):
            return type(value)(rows(one) for one in value)
        return value

    return replace(at, args=rows(at.args), kwargs=rows(dict(at.kwargs)))
