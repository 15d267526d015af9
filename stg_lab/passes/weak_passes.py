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
from stg_lab.passes.choice import Passes
from stg_lab.passes.prefix import Prefix
from stg_lab.passes.rows import can_cut, only_concerned
from stg_lab.passes.run import Prepared, run_weak
from stg_lab.passes.stateful import Watched
from stg_lab.patch import is_compiled, uncompiled
from stg_lab.weak import Pass, Weak


class WeakPasses:
    """Makes weak passes, beginning each at the first block that it changes where that is possible.

    Attributes:
        own_rows: False for passes with the whole batch of the call that they repeat, and so the same kernels; True for only the
            rows that the pass is about, from the start or once such a pass has run out of memory.
    """

    def __init__(self, passes: Passes) -> None:
        self.passes = passes
        self.own_rows = False
        self._prefixes: dict[str, Prefix] = {}  # by denoiser
        self._keeping = contextlib.ExitStack()
        self._expected: dict[Weak, Prepared] = {}  # whose passes are still to be made
        #: Weak models that perturb alike at every step, by denoiser.
        self._prepared: dict[tuple[str, Weak], Prepared] = {}
        #: By denoiser and first stage: whether reuse was seen to give the plain pass, where a family cannot promise it.
        self._sure: dict[tuple[str, int], bool] = {}
        self._memory: dict[Any, Any] = {}  # of the weak models, for one run
        self._watched = Watched()

    def begin(self, denoiser: nn.Module, weak: bool) -> None:
        """A new pipeline call, with or without weak models."""
        self.release()
        self.own_rows = self.passes.own_rows(denoiser)
        self._prefixes, self._prepared, self._sure, self._memory = {}, {}, {}, {}
        if weak and is_compiled(denoiser):
            warnings.warn(
                f"{type(uncompiled(denoiser)).__name__} is compiled as a whole, so its weak passes run its Python code: slower, and their "
                "kernels may round differently. Compile its blocks instead: pipe.transformer.compile_repeated_blocks().",
                stacklevel=2,
            )

    def expect(self, at: Pass, models: Iterable[Weak]) -> None:
        """Keep of a coming call what these weak models can begin with."""
        self.release()
        at = replace(at, memory=self._memory)
        self._expected = {model: self._ready(model, at) for model in models}
        if self._expected:
            self._watched.calling(at.denoiser)
            self._keeping.enter_context(self._prefix(at).kept(self._firsts()))

    def stop_keeping(self) -> None:
        """The expected call has been made: what was kept of it stays for `run`, and later calls are left alone."""
        self._keeping.close()

    def run(self, models: Iterable[Weak], at: Pass) -> Iterator[tuple[Weak, Tensor]]:
        """Weak models with their predictions, as `run_weak` gives them, at the call that was expected."""
        self.stop_keeping()  # the weak passes themselves are not to be kept
        at = replace(at, memory=self._memory)
        for number, weak in enumerate(list(models)):
            if not number:
                self._watched.called(at)
            yield weak, self._run(weak, at)
            self._expected.pop(weak, None)
            self._prefix(at).free(self._firsts())

    def release(self) -> None:
        """Let go of everything that is kept."""
        self._keeping.close()
        self._expected = {}
        for prefix in self._prefixes.values():
            prefix.free()

    def _firsts(self) -> set[int]:
        return {ready.first for ready in self._expected.values()}

    def _prefix(self, at: Pass) -> Prefix:
        if at.component not in self._prefixes:
            self._prefixes[at.component] = Prefix(at.family, at.denoiser)
        return self._prefixes[at.component]

    def _ready(self, weak: Weak, at: Pass) -> Prepared:
        key = at.component, weak
        if key not in self._prepared or not weak.steady:
            self._prepared[key] = Prepared.of(weak, at, reuse=self.passes.reuse)
        return self._prepared[key]

    def _run(self, weak: Weak, at: Pass) -> Tensor:
        """One weak pass: with the whole batch, and where that does not fit into memory, with the rows that are needed.

        Raises:
            torch.OutOfMemoryError: not even the rows alone fit.
        """
        if not self.own_rows and at.piece[1] > 1:
            with contextlib.suppress(torch.OutOfMemoryError):
                return self._made(weak, at, own_rows=False)
            # Out of the `with`, so that the failed pass, which its traceback holds, is gone.
            self._tell_memory(weak)
        try:
            return self._made(weak, at, own_rows=self.own_rows)
        except torch.OutOfMemoryError as error:
            error.add_note(
                f"The weak pass of {weak} has no more than the rows that it is about, and does not fit. Offload what is not in "
                "use (pipe.enable_model_cpu_offload()), or make fewer samples or frames at once."
            )
            raise

    def _tell_memory(self, weak: Weak) -> None:
        self.own_rows = True
        warnings.warn(
            f"out of memory in the weak pass of {weak}, which has the batch of the pipeline's own call (uncond and cond). "
            "From here to the end of the run, weak passes have only the rows that they are about. Kernels round differently "
            "for another batch, so that guidance vectors now hold a little rounding.",
            stacklevel=2,
        )
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _made(self, weak: Weak, at: Pass, *, own_rows: bool) -> Tensor:
        ready = self._expected.get(weak) or self._ready(weak, at)
        first = ready.first if weak in self._expected and self._is_sure(weak, ready, at) else 0
        cut = own_rows and at.piece[1] > 1 and can_cut(at)
        with self._prefix(at).served(first, at.piece if cut else None):
            return run_weak(weak, only_concerned(at) if cut else at, ready)

    def _is_sure(self, weak: Weak, ready: Prepared, at: Pass) -> bool:
        """Whether reuse gives the plain pass: as the family promises, or as is seen here the first time that a pass begins at
        this stage. With the batch of the pipeline's own call, where they are equal bit for bit."""
        if at.family.surely_reused or not ready.first:
            return True
        key = at.component, ready.first
        if key not in self._sure:
            self._sure[key] = False
            # Where a changed block ran before one that answers with what was kept, it seems to have changed nothing.
            with contextlib.suppress(GuidanceError):
                with self._prefix(at).served(ready.first):
                    reused = run_weak(weak, at, ready)
                self._sure[key] = torch.equal(reused, run_weak(weak, at, ready))
        return self._sure[key]
