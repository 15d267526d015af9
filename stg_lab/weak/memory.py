"""Weak passes on a device whose memory is short: where the whole batch does not fit, the rows that are needed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from stg_lab.weak.base import Pass, Weak, run_weak

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Spare:
    """How one run makes its weak passes.

    Attributes:
        rows_only: False for passes with the whole batch of the call that they repeat, bit for bit the same kernels; True once
            such a pass has run out of memory: only the rows that the pass is about.
    """

    rows_only: bool = False

    def run(self, weak: Weak, at: Pass, whole: Callable[[Weak, Pass], Tensor] = run_weak) -> Tensor:
        """The weak model's prediction, as `run_weak` gives it.

        Args:
            whole: what makes the pass with the whole batch.

        Raises:
            torch.OutOfMemoryError: not even the rows alone fit.
        """
        import torch

        if not self.rows_only:
            try:
                return whole(weak, at)
            except torch.OutOfMemoryError:
                if at.piece[1] == 1:
                    raise
            # Out of the `except`, so that the failed pass, which its traceback holds, is gone.
            self.rows_only = True
            warnings.warn(
                f"out of memory in the weak pass of {weak}, which has the batch of the pipeline's own call (uncond and cond). "
                "From here to the end of the run, weak passes have only the rows that they are about. Kernels round differently "
                "for another batch, so that guidance vectors now hold a little rounding.",
                stacklevel=2,
            )
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        try:
            return run_weak(weak, only_concerned(at))
        except torch.OutOfMemoryError as error:
            error.add_note(
                f"The weak pass of {weak} does not fit with a part of the batch either. Offload what is not in use "
                "(pipe.enable_model_cpu_offload()), or make fewer samples or frames at once."
            )
            raise


def only_concerned(at: Pass) -> Pass:
    """The same call with only the rows that the weak pass is about, in every argument that has the rows of the batch."""
    index, count = at.piece
    batch = len(at.prediction)
    unbatched = at.family.unbatched

    def rows(value: Any, name: str = "") -> Any:
        if name in unbatched:
            return value
        if hasattr(value, "chunk"):
            return value.chunk(count)[index] if value.ndim and len(value) == batch else value
        if isinstance(value, Mapping):
            return {key: rows(one, key) for key, one in value.items()}
        if type(value) in (list, tuple):
            return type(value)(rows(one) for one in value)
        return value

    return replace(
        at, args=rows(at.args), kwargs=rows(dict(at.kwargs)), prediction=at.concerned(at.prediction), piece=(0, 1)
    )
