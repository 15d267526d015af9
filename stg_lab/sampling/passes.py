"""The weak passes of one run: what to keep of the pipeline's own calls, and how to make each pass from it."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn

from stg_lab.reuse import Passes, Prefix
from stg_lab.weak import Pass, Weak
from stg_lab.weak.base import is_compiled
from stg_lab.weak.memory import Spare


class WeakPasses:
    """Makes weak passes, beginning each at the first block that it changes where that is possible."""

    def __init__(self, passes: Passes) -> None:
        self.passes = passes
        self._spare = Spare()
        self._prefix: Prefix | None = None
        self._keeping = contextlib.ExitStack()
        self._sure = False  # whether reuse was seen to give the plain pass, where a family cannot promise it

    def begin(self, denoiser: nn.Module, weak: bool) -> None:
        """A new pipeline call, with or without weak models."""
        self.release()
        self._spare = Spare(self.passes.own_rows(denoiser))
        self._sure = False
        if weak and is_compiled(denoiser):
            warnings.warn(
                f"{type(denoiser).__name__} is compiled as a whole, so its weak passes run its Python code: slower, and their "
                "kernels may round differently. Compile its blocks instead: pipe.transformer.compile_repeated_blocks().",
                stacklevel=2,
            )

    def expect(self, at: Pass, models: Iterable[Weak]) -> None:
        """Keep of a coming call what these weak models can begin with."""
        self.release()
        if not (wanted := list(models)):
            return
        self._prefix = Prefix.plan(at, wanted, self.passes)
        self._keeping.enter_context(self._prefix.kept())

    def run(self, weak: Weak, at: Pass) -> Tensor:
        """A weak model's prediction, as `run_weak` gives it, at the call that was expected."""
        self._keeping.close()  # the weak pass itself is not to be kept
        prediction = self._spare.run(weak, at, self._make)
        if self._prefix is not None:
            self._prefix.done(weak)
        return prediction

    def release(self) -> None:
        """Let go of everything that is kept."""
        self._keeping.close()
        self._prefix = None

    def _make(self, weak: Weak, at: Pass, *, own_rows: bool) -> Tensor:
        prefix = self._prefix or Prefix(at, {})
        prediction = prefix.run(weak, at, own_rows=own_rows)
        if at.family.surely_reused or self._sure or not prefix.first.get(weak):
            return prediction
        plain = Prefix(at, {}).run(weak, at, own_rows=own_rows)
        self._sure = torch.equal(prediction, plain)
        if not self._sure:
            self.passes = replace(self.passes, reuse=False)
        return plain
