"""Weak passes on a device whose memory is short: where the whole batch does not fit, the rows that are needed."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from stg_lab.weak.base import Pass, Weak

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Spare:
    """How one run makes its weak passes.

    Attributes:
        own_rows: False for passes with the whole batch of the call that they repeat, and so the same kernels; True for only the
            rows that the pass is about, from the start or once such a pass has run out of memory.
    """

    own_rows: bool = False

    def run(self, weak: Weak, at: Pass, make: Callable[..., Tensor]) -> Tensor:
        """The weak model's prediction.

        Args:
            make: makes the pass, called as `make(weak, at, own_rows=...)`.

        Raises:
            torch.OutOfMemoryError: not even the rows alone fit.
        """
        import torch

        if not self.own_rows and at.piece[1] > 1:
            with contextlib.suppress(torch.OutOfMemoryError):
                return make(weak, at, own_rows=False)
            # Out of the `with`, so that the failed pass, which its traceback holds, is gone.
            self.own_rows = True
            warnings.warn(
                f"out of memory in the weak pass of {weak}, which has the batch of the pipeline's own call (uncond and cond). "
                "From here to the end of the run, weak passes have only the rows that they are about. Kernels round differently "
                "for another batch, so that guidance vectors now hold a little rounding.",
                stacklevel=2,
            )
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        try:
            return make(weak, at, own_rows=self.own_rows)
        except torch.OutOfMemoryError as error:
            error.add_note(
                f"The weak pass of {weak} has no more than the rows that it is about, and does not fit. Offload what is not in "
                "use (pipe.enable_model_cpu_offload()), or make fewer samples or frames at once."
            )
            raise


def each_tensor(thing: Any, change: Callable[[Tensor], Any]) -> Any:
    """The same structure of tuples and lists with its tensors changed."""
    if hasattr(thing, "chunk"):
        return change(thing)
    return type(thing)(each_tensor(one, change) for one in thing) if isinstance(thing, tuple | list) else thing


def chunked(thing: Any, piece: tuple[int, int]) -> Any:
    """A piece, (index, count), of every tensor in a structure of tuples and lists, along their first dimension."""
    index, count = piece
    return each_tensor(thing, lambda x: x.chunk(count)[index])


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
