"""The weak passes of one run: what to keep of the pipeline's own calls, and how to make each pass from it."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from stg_lab.errors import GuidanceError
from stg_lab.passes.choice import Passes
from stg_lab.passes.main_pass import MainPass
from stg_lab.passes.prefix import Prefix
from stg_lab.passes.run import Prepared, run_weak
from stg_lab.passes.stateful import Watched
from stg_lab.patch import in_place, is_compiled, uncompiled
from stg_lab.weak import Pass, Weak
from stg_lab.weak.rows import can_cut, only_concerned


class WeakPasses:
    """Makes weak passes, beginning each at the first block that it changes where that is possible.

    Attributes:
        own_rows: False for passes with the whole batch of the call that they repeat, and so the same kernels; True for only the
            rows that the pass is about, from the start or once such a pass has run out of memory.
        edited: whether the main pass is under edits, at whatever steps.
        memory: of the weak models, for one run.
    """

    def __init__(self, passes: Passes) -> None:
        self.passes = passes
        self.own_rows = False
        self._prefixes: dict[str, Prefix] = {}  # by denoiser
        self._keeping = contextlib.ExitStack()
        self._main = MainPass()
        self._firsts: dict[Weak, int] = {}  # stages that the passes begin with which are still to be made
        #: Weak models that perturb alike at every step, by denoiser.
        self._prepared: dict[tuple[str, Weak], Prepared] = {}
        self.edited = False
        #: By denoiser and first stage: whether reuse was seen to give the plain pass, where a family cannot promise it.
        self._sure: dict[tuple[str, int], bool] = {}
        self.memory: dict[Any, Any] = {}
        self._watched = Watched()

    def begin(
        self, denoiser: nn.Module, *, weak: bool, edited: bool = False, memory: dict[Any, Any] | None = None
    ) -> None:
        """A new pipeline call, with or without weak models, and edits of the main pass; a `memory` that others have filled."""
        self.release()
        self.own_rows = self.passes.own_rows(denoiser)
        self._prefixes, self._prepared, self._sure, self.edited = {}, {}, {}, edited
        self.memory = {} if memory is None else memory
        if weak and is_compiled(denoiser):
            warnings.warn(
                f"{type(uncompiled(denoiser)).__name__} is compiled as a whole, so its weak passes run its Python code: slower, and their "
                "kernels may round differently. Compile its blocks instead: pipe.transformer.compile_repeated_blocks().",
                stacklevel=2,
            )

    def edit(self, at: Pass, branches: tuple[str, ...], edits: Sequence[Weak]) -> tuple[tuple, dict[str, Any]] | None:
        """Have a coming call that computes these branches made under edits; returns the arguments to make it with, None for its own."""
        return self._main.begin(replace(at, memory=self.memory), branches, edits)

    def expect(self, at: Pass, models: Iterable[Weak]) -> None:
        """Keep of a coming call what these weak models can begin with."""
        self._keeping.close()
        self._firsts = {weak: self._ready(weak, at if weak.steady else _bare(at)).first for weak in models}
        if self._firsts:
            self._watched.calling(at.denoiser)
            self._keeping.enter_context(self._prefix(at).kept(self._firsts.values()))

    @property
    def looked(self) -> dict[str, Tensor]:
        """What was looked at in the last call under the caption, `(layer, sample, ...)` by name."""
        return self._main.seen

    @property
    def edits(self) -> tuple[Weak, ...]:
        """Of the call under the caption that was made last."""
        return self._main.edits

    def under_edits(self) -> contextlib.AbstractContextManager[None]:
        """Inside the `with`, the model is under the edits of the last call under the caption."""
        return in_place(self._main.puts)

    def called(self) -> None:
        """The call has been made: what was kept of it stays for `run`, and later calls are left alone."""
        self._keeping.close()
        self._main.check()

    def run(self, weak: Weak, at: Pass) -> Tensor:
        """A weak model's prediction, as `run_weak` gives it, at the call that was expected."""
        self._keeping.close()  # the weak passes themselves are not to be kept
        if not weak.under_edits:
            self._main.end()
        at = replace(at, memory=self.memory, edits=at.edits or self._main.edits)
        self._watched.called(at)
        prediction = self._run(weak, at)
        self._firsts.pop(weak, None)
        self._prefix(at).free(self._firsts.values())
        return prediction

    def release(self) -> None:
        """Let go of everything that is kept, and of the edits."""
        self._keeping.close()
        self._main.end()
        self._firsts = {}
        for prefix in self._prefixes.values():
            prefix.free()

    def _prefix(self, at: Pass) -> Prefix:
        if at.component not in self._prefixes:
            self._prefixes[at.component] = Prefix(at.family, at.denoiser)
        return self._prefixes[at.component]

    def _ready(self, weak: Weak, at: Pass) -> Prepared:
        """What a weak model puts into the denoiser: found once a run, or at every pass where that may change."""
        key, once = (at.component, weak), weak.steady and not self.edited
        if key not in self._prepared or not once:
            self._prepared[key] = Prepared.of(weak, replace(at, memory=self.memory), reuse=self.passes.reuse)
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
        cut = own_rows and at.piece[1] > 1 and not weak.whole and can_cut(at)
        first = self._firsts.get(weak, 0)
        first = first if self._is_sure(weak, first, at) else 0
        with self._prefix(at).served(first, at.piece if cut else None):
            then = only_concerned(at) if cut else at
            return run_weak(weak, then, self._ready(weak, then))

    def _is_sure(self, weak: Weak, first: int, at: Pass) -> bool:
        """Whether reuse gives the plain pass: as the family promises, or as is seen here the first time that a pass begins at
        this stage. With the batch of the pipeline's own call, where they are equal bit for bit."""
        if at.family.surely_reused or not first:
            return True
        key = at.component, first
        if key not in self._sure:
            self._sure[key] = False
            # Where a changed block ran before one that answers with what was kept, it seems to have changed nothing.
            with contextlib.suppress(GuidanceError):
                with self._prefix(at).served(first):
                    reused = run_weak(weak, at, self._ready(weak, at))
                self._sure[key] = torch.equal(reused, run_weak(weak, at, self._ready(weak, at)))
        return self._sure[key]


def _bare(at: Pass) -> Pass:
    """A call without its arguments, for looking alone: some weak models compute with them before the pass."""
    return replace(at, args=(), kwargs={})
