"""One weak pass: what it puts into the model, found once, and the pipeline's own call again with that in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from stg_lab.errors import GuidanceError, NothingChangedError
from stg_lab.passes.prefix import can_reuse
from stg_lab.patch import Hits, Put, in_place, plain_around, uncompiled, watched
from stg_lab.weak.base import Pass, Weak

#: Changes below this share of a prediction are rounding in float32, which guidance would make larger, and mean nothing.
ROUNDING = 2e-6


@dataclass(frozen=True)
class Prepared:
    """A weak model, ready to be run.

    Attributes:
        puts: what it puts in the place of modules' own.
        hits: how often each of that has acted.
        first: number of the first stage that it runs; 0 where nothing can be reused.
        skipped: how many of the stages from there on it leaves out.
    """

    puts: list[Put]
    hits: Hits
    first: int = 0
    skipped: int = 0

    @classmethod
    def of(cls, weak: Weak, at: Pass, *, reuse: bool = True) -> Prepared:
        """Found by looking: the model is perturbed, without running it, and all that is put in place is noted.

        Args:
            at: the coming call.
            reuse: whether a pass may begin anywhere but at the first stage.
        """
        with watched() as there, weak.perturb(at) as hits:
            puts = there()
        changed = [module for module, name, _ in puts if name == "forward"]
        first, whole = changed_stages(changed, at) if weak.shares_prefix(at) else (0, [])
        first = first if reuse and can_reuse(at.family, at.denoiser) else 0
        return cls(
            puts + plain_around(changed, uncompiled(at.denoiser)), hits, first, len(whole) * weak.skips_blocks(at)
        )

    def share(self, stages: int) -> float:
        """Of so many stages, the share that is run."""
        return 1 - (self.first + self.skipped) / max(stages, 1)


def changed_stages(changed: list, at: Pass) -> tuple[int, list[int]]:
    """Of modules whose forward is replaced: the number of the first stage that holds one, in the order in which a pass runs them,
    and those stages that are such modules themselves. The first is 0 where one of them lies outside of all stages."""
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


def run_weak(weak: Weak, at: Pass, prepared: Prepared | None = None) -> Tensor:
    """The weak model's prediction at exactly the state of the pipeline's call.

    Calls `forward` with the very same arguments: forward hooks do not see it, offloading and caches do. Where the pipeline
    batches [uncond, cond], so does the weak pass: kernels round differently for other batch shapes, and the guidance vector
    would hold that rounding, times the scale.

    Returns:
        The concerned part of a prediction like `at.prediction`.

    Raises:
        GuidanceError: an interception was never reached.
        NothingChangedError: the pass came out equal to the one that it weakens; a kind of `GuidanceError`.
    """
    ready = prepared or Prepared.of(weak, at)
    ready.hits.update(dict.fromkeys(ready.hits, 0))
    args, kwargs, own = (
        (at.args, at.kwargs, None) if weak.repeats and weak.prompt != "none" and not at.edits else asked(at, weak)
    )
    module = uncompiled(weak.module(at))
    with in_place(ready.puts), torch.no_grad():
        prediction = at.family.prediction(module.forward(*args, **kwargs))
    return checked(weak, at, prediction if own is None else own(prediction), ready.hits)


def asked(at: Pass, *models: Weak) -> tuple[tuple, Mapping[str, Any], Callable[[Tensor], Tensor]]:
    """What a pass of weak models is called with, under the call's edits, and what takes the call's own rows out of its prediction."""
    every = (*models, *(at.edits if all(one.under_edits for one in models) else ()))
    for one in every:
        args, kwargs = one.arguments(at)
        at = replace(at, args=args, kwargs=kwargs)

    def own(prediction: Tensor) -> Tensor:
        for one in reversed(every):
            prediction = one.own(prediction, at)
        return prediction

    return at.args, at.kwargs, own


def checked(weak: Weak, at: Pass, prediction: Tensor, hits: Hits) -> Tensor:
    """The concerned part of a weak pass's prediction, once it is sure that something was weakened; see `run_weak`."""
    unreached = [place for place, count in hits.items() if count == 0]
    if unreached:
        raise GuidanceError(
            f"weak model {weak}: {', '.join(unreached)} was never reached during the pass, so nothing was weakened there. "
            "The pipeline bypasses it (a step cache or another attention backend?)."
        )
    prediction = at.concerned(prediction)
    own = at.concerned(at.prediction).float()
    if not weak.unchanged(at) and (prediction.float() - own).norm() <= ROUNDING * own.norm():
        raise NothingChangedError(
            f"weak model {weak} changed nothing: its prediction equals the one it was to weaken, up to rounding. "
            "Choose other layers or another part, or drop the term."
        )
    return prediction
