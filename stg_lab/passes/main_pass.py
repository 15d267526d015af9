"""What is done to the pipeline's own pass under the caption while it runs."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from stg_lab.errors import GuidanceError
from stg_lab.guidance import COND
from stg_lab.passes.run import asked
from stg_lab.patch import Hits, Put, in_place, plain_around, uncompiled, watched
from stg_lab.weak import Pass, Weak


class MainPass:
    """Holds edits in place from just before the pipeline's own call until whoever asked for them lets go.

    Attributes:
        edits: under which the call that is on its way, or was made last, is made.
        seen: what was looked at in the last call, `(layer, sample, ...)` by name, until the next.
        puts: what the last call under the caption was made with, for whoever repeats it later.
    """

    def __init__(self) -> None:
        self._open = contextlib.ExitStack()
        self._hits: dict[Weak, Hits] = {}
        self._memory: dict[Any, Any] = {}
        self._step = 0
        self.edits: tuple[Weak, ...] = ()
        self.seen: dict[str, Tensor] = {}
        self.puts: list[Put] = []

    def begin(self, at: Pass, branches: tuple[str, ...], edits: Sequence[Weak]) -> tuple[tuple, dict[str, Any]] | None:
        """Put edits in place for a coming call that computes these branches, of which one may be under the caption.

        Returns:
            The arguments to make it with; None for its own.

        Raises:
            GuidanceError: the call computes others besides, which the edit cannot leave alone.
        """
        self.end()
        if COND in branches:
            self.seen, self.puts = {}, []
        self.edits = tuple(edit for edit in edits if not edit.watches) if COND in branches else ()
        if COND not in branches or not edits:
            return None
        if len(branches) > 1 and (whole := [edit for edit in edits if not edit.by_rows]):
            raise GuidanceError(
                f"{whole[0]} edits every row of a call, and {at.family.name} pipelines compute {' and '.join(branches)} in one. Edit "
                "with lab.nag, lab.enhance or lab.pladis, or take the edit as a weak model: lab.STG(scale, weak)."
            )
        at = replace(at, piece=(branches.index(COND), len(branches)))
        self._memory, self._step = at.memory, at.step
        self._memory.pop("looked", None)
        times = math.prod(edit.times(at) for edit in edits)
        seen_at = replace(at, piece=(times * at.piece[0], times * at.piece[1]), times=times)
        there = self._open.enter_context(watched())
        for edit in edits:
            self._hits[edit] = self._open.enter_context(edit.perturb(seen_at if edit.watches else at))
        changed = [module for module, name, _ in there() if name == "forward"]
        self._open.enter_context(in_place(plain_around(changed, uncompiled(at.denoiser))))
        self.puts = there()
        return self._asked(at)

    def _asked(self, at: Pass) -> tuple[tuple, dict[str, Any]] | None:
        """The call's arguments where edits change them. Those who listen after it, and the pipeline, hear of the call that it asked
        for."""
        args, kwargs, own = asked(replace(at, edits=self.edits))
        if args is at.args and kwargs is at.kwargs:
            return None
        given = dict(kwargs)

        def as_asked(module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> Any:
            given.clear()
            given.update(at.kwargs)
            return own(output) if isinstance(output, Tensor) else type(output)(map(own, output))

        self._open.callback(at.denoiser.register_forward_hook(as_asked, with_kwargs=True, prepend=True).remove)
        return args, given

    def check(self) -> None:
        """The call is made. Raise `GuidanceError` where it went past an edit."""
        for edit, hits in self._hits.items():
            if unreached := [place for place, count in hits.items() if not count]:
                raise GuidanceError(
                    f"{edit}: {', '.join(unreached)} was never reached in the pipeline's own pass, so nothing was edited there. The "
                    "pipeline bypasses it (a step cache or another attention backend?)."
                )

        if self._hits:
            self._memory["looked"] = self._step  # weak passes are not looked at
            self.seen = seen_by([edit for edit in self._hits if edit.watches], self._memory)

    def end(self) -> None:
        """Take the edits away."""
        self._hits = {}
        self._open.close()


def seen_by(looks: Sequence[Any], memory: dict[Any, Any]) -> dict[str, Tensor]:
    """What looks have found in a call, layers side by side."""
    found: dict[str, Tensor] = {}
    for look in looks:
        seen = memory.pop((look, "seen"), {})
        for name in dict.fromkeys(name for name, _ in seen):
            found[name] = _side_by_side([seen.get((name, layer)) for layer in look.layers])
    return found


def _side_by_side(layers: list[Tensor | None]) -> Tensor:
    """What was seen of layers as one array: NaN for those without it, and the places of the coarsest (U-Nets) for all."""
    there = [one for one in layers if one is not None]
    if len({one.shape for one in there}) > 1:
        size = min(one.shape[-2] for one in there), min(one.shape[-1] for one in there)
        pooled = torch.nn.functional.adaptive_avg_pool2d
        layers = [
            None if one is None else pooled(one.flatten(0, -3), size).unflatten(0, one.shape[:-2]) for one in layers
        ]
        there = [one for one in layers if one is not None]
    return torch.stack([torch.full_like(there[0], float("nan")) if one is None else one for one in layers])
