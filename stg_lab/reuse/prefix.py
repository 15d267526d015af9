"""Exact prefix reuse: a weak pass that first differs at block l needs only blocks l and after.

Blocks before it compute what they computed in the pipeline's own call, bit for bit. So that call keeps the *output* of block
l - 1 (not the input of block l: loops may add something in between), and the weak pass hands it out at that block's place,
with the blocks before it passing their input on. Where blocks have connections that leap over others (U-Nets), every earlier
stage hands out its own output. Of a weak pass over L blocks, l of them cost nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from stg_lab.errors import GuidanceError
from stg_lab.families import Family
from stg_lab.given import Flag, Of, read
from stg_lab.reuse.joined import run_joined
from stg_lab.undone import stacked
from stg_lab.weak import Pass, Weak
from stg_lab.weak.base import answered, changed_modules, is_compiled, one_of, own_call, run_weak, uncompiled
from stg_lab.weak.memory import chunked, each_tensor, only_concerned

ROWS = ("auto", "batch", "own")
WHOLE = (0, 1)  # the piece that is all


@dataclass(frozen=True)
class Passes:
    """How weak passes are made; for measuring, and for those who want to choose themselves. The defaults are right for sampling.

    Attributes:
        reuse: whether a weak pass begins at the first block that it changes. The same bits either way, but for passes with their own
            rows in pipelines that batch: the blocks before it then keep the rounding of the pipeline's own call.
        rows: in pipelines that batch [uncond, cond], which rows a weak pass has. "batch": those of the pipeline's own call. Its
            kernels then round alike, and the guidance vector holds no rounding. "own": only the rows that it is about, for
            half the price. "auto": "own" in float32, where the rounding is under 3e-6 of the vector, and "batch" in narrower
            types, where it is up to 2 % (`benchmarks/results/rows.json`).

        together: whether weak models that begin at the same block run as one batch. Off: on a CPU it gains nothing
            (`benchmarks/results/sweep.json`), and since kernels round as for their batch, a recorded branch would differ in its
            last bits with what is recorded beside it. It is there for devices on which a small model waits for its kernels.

    Raises:
        GuidanceError: an unknown choice.
    """

    reuse: bool = True
    rows: str = "auto"
    together: bool = False

    def __post_init__(self) -> None:
        one_of("rows", self.rows, ROWS)
        for name in ("reuse", "together"):
            object.__setattr__(self, name, read(name, getattr(self, name), Flag(), GuidanceError))

    def own_rows(self, denoiser: nn.Module) -> bool:
        """Whether weak passes of a denoiser have only the rows that they are about."""
        return self.rows == "own" or (self.rows == "auto" and computes_exactly(denoiser))


PASSES = Of(Passes, "None for what is best, or lab.Passes(...)")  # what `passes=` takes


def computes_exactly(denoiser: nn.Module) -> bool:
    """Whether a module computes in float32 or wider all the way."""
    weights = list(denoiser.parameters())
    devices = {weight.device.type for weight in weights}
    if "meta" in devices:  # offloaded one by one: they do not tell where they will be when they run
        devices = devices - {"meta"} | {"cpu", "cuda"}
    tf32 = "cuda" in devices and torch.get_float32_matmul_precision() != "highest"
    return (
        {weight.dtype for weight in weights} <= {torch.float32, torch.float64}
        and not tf32
        and not any(map(torch.is_autocast_enabled, devices))
    )


@dataclass
class Prefix:
    """What one denoiser call keeps for the weak passes that repeat it.

    Attributes:
        at: the call; its prediction is not there yet when this is made.
        first: by weak model, the number of the first stage that it changes; 0 where nothing can be reused.
        skipped: by weak model, how many stages it leaves out.
        outputs: outputs of stages by number, filled while the call runs.
    """

    at: Pass
    first: dict[Weak, int]
    skipped: dict[Weak, int] = field(default_factory=dict)
    outputs: dict[int, Any] = field(default_factory=dict)
    _versions: dict[int, list[int]] = field(default_factory=dict)

    @classmethod
    def plan(cls, at: Pass, models: Iterable[Weak], passes: Passes = Passes()) -> Prefix:
        """Find out what a coming call has to keep.

        Args:
            at: the call.
            models: the weak models that will repeat it.
        """
        able = passes.reuse and can_reuse(at.family, at.denoiser)
        found = {model: changed_stages(model, at) for model in models}
        skipped = {m: len(whole) * m.skips_blocks(at) for m, (_, whole) in found.items()}
        return cls(at, {m: first if able else 0 for m, (first, _) in found.items()}, skipped)

    @property
    def wanted(self) -> set[int]:
        """Numbers of the stages whose outputs are needed."""
        if self.at.family.sequential:
            return {first - 1 for first in self.first.values() if first}
        return {k for first in self.first.values() for k in range(first)}

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Inside the `with`, calls of the denoiser fill `outputs`."""
        stages = self.at.family.stages(self.at.denoiser)
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
            self.outputs[number], self._versions[number] = kept, _versions(kept)
            return output

        return keep

    def run(self, weak: Weak, at: Pass, *, own_rows: bool = False) -> Tensor:
        """The weak model's prediction, as `run_weak` gives it.

        Args:
            at: the call, with its prediction.
            own_rows: have only the rows that the pass is about.
        """
        taken, at = (at.piece, only_concerned(at)) if own_rows else (WHOLE, at)
        with self._served(self.first.get(weak, 0), lambda output: chunked(output, taken)):
            return run_weak(weak, at)

    def run_together(self, models: list[Weak], at: Pass, *, own_rows: bool = False) -> list[Tensor]:
        """The predictions of several weak models from one pass with a batch for each, equal to those of `run` up to what kernels
        round differently for other batches.

        Args:
            models: of which none changes a stage before the first that another changes, see `together`.
            at, own_rows: as for `run`.
        """
        taken, at = (at.piece, only_concerned(at)) if own_rows else (WHOLE, at)
        first = min(self.first.get(model, 0) for model in models)
        count = len(models)
        with self._served(first, lambda output: each_tensor(chunked(output, taken), lambda x: torch.cat([x] * count))):
            return run_joined(models, at)

    def share(self, weak: Weak) -> float:
        """Share of the stages that a weak pass runs."""
        saved = self.first.get(weak, 0) + self.skipped.get(weak, 0)
        return 1 - saved / max(len(self.at.family.stages(self.at.denoiser)), 1)

    def done(self, weak: Weak) -> None:
        """Free what no other weak model needs any more."""
        self.first.pop(weak, None)
        for number in self.outputs.keys() - self.wanted:
            del self.outputs[number]

    def serving(self, weak: Weak) -> contextlib.AbstractContextManager[None]:
        """Inside the `with`, a pass that somebody else makes of a weak model, with the rows of the call, begins where it may."""
        return self._served(self.first.get(weak, 0), lambda output: output)

    @contextlib.contextmanager
    def _served(self, first: int, taken: Callable[[Any], Any]) -> Iterator[None]:
        """Inside the `with`, the stages before the first changed one answer with what was kept, or what is taken of it."""
        family = self.at.family
        served = range(first - 1, first) if family.sequential and first else range(first)
        whole = all(n in self.outputs and _versions(self.outputs[n]) == self._versions[n] for n in served)
        with stacked() as stack:
            # What was not kept, or written into since, is computed again.
            for number, stage in enumerate(family.stages(self.at.denoiser)[: first if whole else 0]):
                answer = _giving(taken(self.outputs[number])) if number in served else _passing(family)
                stack.enter_context(answered(stage, answer))
            yield


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


def _giving(output: Any) -> Callable[..., Any]:
    return lambda *args, **kwargs: output


def _passing(family: Family) -> Callable[..., Any]:
    return lambda *args, **kwargs: family.without("block", *args, **kwargs)


def _versions(thing: Any) -> list[int]:
    """How often each tensor has been written into, as far as torch counts that."""
    found: list[int] = []
    each_tensor(thing, lambda x: found.append(-1 if x.is_inference() else x._version))  # type: ignore[func-returns-value]
    return found
