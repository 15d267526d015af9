"""Exact prefix reuse: a weak pass that first differs at block l needs only blocks l and after.

Blocks before it compute the same as in the pipeline's own call, bit for bit. So that call keeps the *output* of block l - 1
(not the input of block l: loops may add something in between), and the weak pass hands it out from that block's place, with
the blocks before it passing their input on. U-Nets have skip connections, so every earlier stage hands out its own output.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from stg_lab.families import Family
from stg_lab.weak import Pass, Weak, run_weak
from stg_lab.weak.base import is_replaced, replaced_forward


@dataclass
class Prefix:
    """What one denoiser call keeps for the weak passes that repeat it.

    Attributes:
        first: by weak model, the number of the first stage that it changes; 0 where nothing can be reused.
        outputs: outputs of stages by number, filled while the call runs.
    """

    family: Family
    denoiser: nn.Module
    first: dict[Weak, int]
    outputs: dict[int, Any] = field(default_factory=dict)

    @classmethod
    def plan(cls, at: Pass, models: Iterable[Weak]) -> Prefix:
        """Find out what the coming call has to keep.

        Args:
            at: the call, before it is made.
            models: the weak models that will repeat it.
        """
        reusable = not is_compiled(at.denoiser)
        return cls(at.family, at.denoiser, {m: first_changed(m, at) if reusable else 0 for m in models})

    @property
    def wanted(self) -> set[int]:
        """Numbers of the stages whose outputs are needed."""
        if self.family.sequential:
            return {first - 1 for first in self.first.values() if first}
        return {k for first in self.first.values() for k in range(first)}

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Inside the `with`, calls of the denoiser fill `outputs`."""

        def keep(number: int) -> Callable[..., None]:
            return lambda module, args, output: self.outputs.__setitem__(number, output)

        stages = self.family.stages(self.denoiser)
        with contextlib.ExitStack() as stack:
            for number in self.wanted:
                stack.callback(stages[number].register_forward_hook(keep(number)).remove)
            yield

    @contextlib.contextmanager
    def served(self, weak: Weak) -> Iterator[None]:
        """Inside the `with`, the stages before the first changed one answer with what was kept."""
        stages, first = self.family.stages(self.denoiser), self.first.get(weak, 0)
        with contextlib.ExitStack() as stack:
            for number in range(first):
                if number in self.outputs:
                    make = _answer(self.outputs[number])
                else:
                    make = self._pass_on
                stack.enter_context(replaced_forward(stages[number], make, {}, ""))
            yield

    def _pass_on(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **kwargs: self.family.without("block", *args, **kwargs)

    def run(self, weak: Weak, at: Pass) -> Tensor:
        """The weak model's prediction, as `run_weak` gives it."""
        with self.served(weak):
            return run_weak(weak, at)

    def done(self, weak: Weak) -> None:
        """Free what no other weak model needs any more."""
        self.first.pop(weak, None)
        for number in self.outputs.keys() - self.wanted:
            del self.outputs[number]


def _answer(output: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return lambda forward: lambda *args, **kwargs: output


def first_changed(weak: Weak, at: Pass) -> int:
    """Number of the first stage that a weak model changes, in the order in which a pass runs them.

    Found by looking, not by asking: the model is perturbed, without running it, and the stages are searched for what was
    replaced. 0, where nothing can be reused, for another module, another caption, or a change outside the stages.
    """
    if weak.module(at) is not at.denoiser or weak.prompt == "none":
        return 0
    with weak.perturb(at):
        for number, stage in enumerate(at.family.stages(at.denoiser)):
            if any(is_replaced(module) for module in stage.modules()):
                return number
    return 0


def is_compiled(denoiser: nn.Module) -> bool:
    """Whether the whole module is compiled: a graph does not stop between its blocks."""
    return hasattr(denoiser, "_orig_mod") or getattr(denoiser, "_compiled_call_impl", None) is not None
