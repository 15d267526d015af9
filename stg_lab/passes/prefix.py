"""Exact prefix reuse: a weak pass that first differs at block l needs only blocks l and after.

Blocks before it compute what they computed in the pipeline's own call, bit for bit. So that call keeps the *output* of block
l - 1 (not the input of block l: loops may add something in between), and the weak pass hands it out at that block's place,
with the blocks before it passing their input on. Where blocks have connections that leap over others (U-Nets), every earlier
stage hands out its own output. Of a weak pass over L blocks, l of them cost nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from stg_lab.families import Family
from stg_lab.passes.rows import chunked, each_tensor, only_concerned
from stg_lab.passes.run import run_weak
from stg_lab.patch import answered, changed_modules, is_compiled, own_call, uncompiled
from stg_lab.undone import stacked
from stg_lab.weak import Pass, Weak


@dataclass(frozen=True)
class Start:
    """Where a weak pass begins.

    Attributes:
        first: number of the first stage that it runs; 0 where nothing can be reused.
        skipped: how many of the stages from there on it leaves out.
    """

    first: int = 0
    skipped: int = 0

    @classmethod
    def find(cls, weak: Weak, at: Pass, *, reuse: bool = True) -> Start:
        """Of a weak model at a coming call.

        Args:
            reuse: whether whoever makes the pass wants it to begin anywhere but at the beginning.
        """
        first, whole = changed_stages(weak, at)
        skipped = len(whole) * weak.skips_blocks(at)
        return cls(first if reuse and can_reuse(at.family, at.denoiser) else 0, skipped)

    def share(self, stages: int) -> float:
        """Of so many stages, the share that is run."""
        return 1 - (self.first + self.skipped) / max(stages, 1)


@dataclass
class Prefix:
    """What one denoiser call keeps for the weak passes that repeat it.

    Attributes:
        family, denoiser: of the call.
        starts: where the weak passes begin that are still to be made.
        outputs: outputs of stages by number, filled while the call runs, each with how often it had been written into.
    """

    family: Family
    denoiser: nn.Module
    starts: dict[Weak, Start]
    outputs: dict[int, tuple[Any, list[int]]] = field(default_factory=dict)

    def needed(self, first: int) -> range:
        """Numbers of the stages whose outputs a pass needs that begins at `first`."""
        return range(first - 1 if first and self.family.sequential else 0, first)

    @property
    def wanted(self) -> set[int]:
        """Numbers of the stages whose outputs are needed by any pass."""
        return {number for start in self.starts.values() for number in self.needed(start.first)}

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Inside the `with`, calls of the denoiser fill `outputs`."""
        stages = self.family.stages(self.denoiser)
        with stacked() as stack:
            for number in self.wanted:
                stack.enter_context(answered(stages[number], self._keeping(number, stages[number])))
            yield

    def _keeping(self, number: int, stage: nn.Module) -> Callable[..., Any]:
        call = own_call(stage)
        copied = is_compiled(stage) and any(p.is_cuda for p in stage.parameters())

        def keep(*args: Any, **kwargs: Any) -> Any:
            output = call(*args, **kwargs)
            # CUDA graphs, of which a compiled block may be one, write their next output to the same place.
            kept = each_tensor(output, torch.clone) if copied else output
            self.outputs[number] = kept, _versions(kept)
            return output

        return keep

    def run(self, weak: Weak, at: Pass, *, own_rows: bool = False) -> Tensor:
        """The weak model's prediction, as `run_weak` gives it.

        Args:
            at: the call, with its prediction.
            own_rows: have only the rows that the pass is about.
        """
        piece, at = (at.piece, only_concerned(at)) if own_rows else (None, at)
        with self._served(self.starts.get(weak, Start()).first, piece):
            return run_weak(weak, at)

    def done(self, weak: Weak) -> None:
        """Free what no other weak model needs any more."""
        self.starts.pop(weak, None)
        for number in self.outputs.keys() - self.wanted:
            del self.outputs[number]

    @contextlib.contextmanager
    def _served(self, first: int, piece: tuple[int, int] | None) -> Iterator[None]:
        """Inside the `with`, the stages before the first changed one answer with what was kept, or a piece of its rows. What was
        not kept, or written into since, is computed again."""
        kept = {number: self.outputs.get(number) for number in self.needed(first)}
        whole = all(found is not None and _versions(found[0]) == found[1] for found in kept.values())
        with stacked() as stack:
            for number, stage in enumerate(self.family.stages(self.denoiser)[: first if whole else 0]):
                stack.enter_context(answered(stage, self._answer(kept.get(number), piece)))
            yield

    def _answer(self, kept: tuple[Any, list[int]] | None, piece: tuple[int, int] | None) -> Callable[..., Any]:
        if kept is None:
            return lambda *args, **kwargs: self.family.without("block", *args, **kwargs)
        output = kept[0] if piece is None else chunked(kept[0], piece)
        return lambda *args, **kwargs: output


def changed_stages(weak: Weak, at: Pass) -> tuple[int, list[int]]:
    """The first stage that a weak model changes, by number in the order in which a pass runs them, and those whose own forward
    it replaces. The first is 0 where nothing can be reused: for another module, another caption, or a change outside of the
    stages.

    Found by looking: the model is perturbed, without running it, and the replaced forwards are noted.
    """
    if not weak.shares_prefix(at):
        return 0, []
    with changed_modules() as changed, weak.perturb(at):
        pass
    wanted = {id(module) for module in changed}
    stages, found = at.family.stages(at.denoiser), []
    whole = [number for number, stage in enumerate(stages) if id(uncompiled(stage)) in wanted]
    for number, stage in enumerate(stages):
        inside = wanted.intersection(map(id, stage.modules()))
        found += [number] * bool(inside)
        wanted -= inside
        if not wanted:
            break
    return (found[0] if found and not wanted else 0), whole


def can_reuse(family: Family, denoiser: nn.Module) -> bool:
    """Whether stages of a denoiser can be left out one by one: not in a whole that is compiled, whose graph does not stop
    between them, and not where groups of modules fetch each other's weights as they run."""
    registries = (
        vars(module).get("_diffusers_hook") for module in denoiser.modules()
    )  # getattr takes long to find nothing
    grouped = any(registry is not None and "group_offloading" in registry.hooks for registry in registries)
    return bool(family.stages(denoiser)) and not is_compiled(denoiser) and not grouped


def _versions(thing: Any) -> list[int]:
    """How often each tensor has been written into, as far as torch counts that."""
    if isinstance(thing, Tensor):
        return [-1 if thing.is_inference() else thing._version]
    parts = thing.values() if isinstance(thing, Mapping) else thing if isinstance(thing, list | tuple) else ()
    return [version for part in parts for version in _versions(part)]
