"""The weak passes of one run: what to keep of the pipeline's own calls, and how to make each pass from it."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from stg_lab.errors import GuidanceError
from stg_lab.guidance import COND, UNCOND
from stg_lab.reuse import Passes, Prefix, can_join
from stg_lab.sampling.memory import Watched
from stg_lab.weak import Pass, Weak
from stg_lab.weak.base import is_compiled, uncompiled
from stg_lab.weak.memory import Spare, can_cut

#: How many weak models run as one batch at most.
MOST = 8


class WeakPasses:
    """Makes weak passes, beginning each at the first block that it changes where that is possible."""

    def __init__(self, passes: Passes) -> None:
        self.passes = passes
        self._spare = Spare()
        self._prefix: Prefix | None = None
        self._keeping = contextlib.ExitStack()
        #: By denoiser and first stage: whether reuse was seen to give the plain pass, where a family cannot promise it.
        self._sure: dict[tuple[str, int], bool] = {}
        self._memory: dict[Any, Any] = {}  # of the weak models, for one run
        self._watched = Watched()

    def begin(self, denoiser: nn.Module, weak: bool) -> None:
        """A new pipeline call, with or without weak models."""
        self.release()
        self._spare = Spare(self.passes.own_rows(denoiser))
        self._sure, self._memory = {}, {}
        if weak and is_compiled(denoiser):
            warnings.warn(
                f"{type(uncompiled(denoiser)).__name__} is compiled as a whole, so its weak passes run its Python code: slower, and their "
                "kernels may round differently. Compile its blocks instead: pipe.transformer.compile_repeated_blocks().",
                stacklevel=2,
            )

    def expect(self, at: Pass, models: Iterable[Weak]) -> None:
        """Keep of a coming call what these weak models can begin with."""
        self.release()
        if not (wanted := list(models)):
            return
        self._watched.calling(at.denoiser)
        self._prefix = Prefix.plan(at, wanted, self.passes)
        self._keeping.enter_context(self._prefix.kept())

    def stop_keeping(self) -> None:
        """The expected call has been made: what was kept of it stays for `run`, and later calls are left alone."""
        self._keeping.close()

    def run(self, models: Iterable[Weak], at: Pass) -> Iterator[tuple[Weak, Tensor]]:
        """Weak models with their predictions, as `run_weak` gives them, at the call that was expected."""
        self.stop_keeping()  # the weak passes themselves are not to be kept
        wanted = list(models)
        if wanted:
            self._watched.called(at)
        at = replace(at, memory=self._memory)
        for group in self._groups(wanted, at):
            for weak, prediction in zip(group, self._together(group, at), strict=True):
                yield weak, prediction
                if self._prefix is not None:
                    self._prefix.done(weak)

    def release(self) -> None:
        """Let go of everything that is kept."""
        self._keeping.close()
        self._prefix = None

    def _groups(self, models: list[Weak], at: Pass) -> list[list[Weak]]:
        """Models that begin at the same block, as far as they may run as one batch; the others alone."""
        groups: dict[Any, list[Weak]] = {}
        for number, weak in enumerate(models):
            joined = self.passes.together and can_join(at.family, weak, at)
            first = self._prefix.first.get(weak, 0) if self._prefix is not None else 0
            groups.setdefault(first if joined else f"alone {number}", []).append(weak)
        return [group[k : k + MOST] for group in groups.values() for k in range(0, len(group), MOST)]

    def _together(self, group: list[Weak], at: Pass) -> Iterable[Tensor]:
        if len(group) > 1 and self._prefix is not None:
            try:
                return self._prefix.run_together(group, at, own_rows=self._spare.own_rows and can_cut(at))
            except torch.OutOfMemoryError:
                self.passes = replace(self.passes, together=False)
        return (self._spare.run(weak, at, self._make) for weak in group)

    def _make(self, weak: Weak, at: Pass, *, own_rows: bool) -> Tensor:
        prefix = self._prefix or Prefix(at, {})
        if not self._is_sure(prefix, weak, at):
            prefix = Prefix(at, {})
        return prefix.run(weak, at, own_rows=own_rows and can_cut(at))

    def _is_sure(self, prefix: Prefix, weak: Weak, at: Pass) -> bool:
        """Whether reuse gives the plain pass: as the family promises, or as is seen here the first time that a pass begins at
        this stage. With the batch of the pipeline's own call, where they are equal bit for bit."""
        first = prefix.first.get(weak, 0)
        if at.family.surely_reused or not first:
            return True
        key = at.component, first
        if key not in self._sure:
            self._sure[key] = False
            # Where a changed block ran before one that answers with what was kept, it seems to have changed nothing.
            with contextlib.suppress(GuidanceError):
                reused = prefix.run(weak, at)
                self._sure[key] = torch.equal(reused, Prefix(at, {}).run(weak, at))
        return self._sure[key]


def repeats(weak: Weak) -> str:
    """Which branch a weak pass repeats."""
    return UNCOND if weak.prompt == "negative" else COND
