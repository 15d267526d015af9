"""Exact prefix reuse: a weak pass that first differs at block l needs only blocks l and after.

Blocks before it compute what they computed in the pipeline's own call, bit for bit. So that call keeps the *output* of block
l - 1 (not the input of block l: loops may add something in between), and the weak pass hands it out at that block's place,
with the blocks before it passing their input on. Where blocks have connections that leap over others (U-Nets), every earlier
stage hands out its own output. Of a weak pass over L blocks, l of them cost nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from stg_lab.families import Family
from stg_lab.patch import ANSWER, Put, in_place, is_compiled, own_call
from stg_lab.weak.rows import chunked, each_tensor

Piece = tuple[int, int]  # which part of a batch, and of how many


class Prefix:
    """What the calls of one denoiser keep for the weak passes that repeat them.

    Attributes:
        outputs: outputs of stages by number, filled while a call runs, each with how often it had been written into.
    """

    def __init__(self, family: Family, denoiser: nn.Module) -> None:
        self._family, self._stages = family, family.stages(denoiser)
        self.outputs: dict[int, tuple[Any, list[int]]] = {}
        self._patches: dict[Any, list[Put]] = {}  # made once, put in place at every step

    def needed(self, first: int) -> range:
        """Numbers of the stages whose outputs a pass needs that begins at stage `first`."""
        return range(first - 1 if first and self._family.sequential else 0, first)

    def kept(self, firsts: Iterable[int]) -> contextlib.AbstractContextManager[None]:
        """Inside the `with`, calls of the denoiser fill `outputs` with what passes need that begin at these stages."""
        wanted = tuple({number for first in firsts for number in self.needed(first)})
        if wanted not in self._patches:
            self._patches[wanted] = [(self._stages[n], ANSWER, self._keeping(n)) for n in wanted]
        return in_place(self._patches[wanted])

    def _keeping(self, number: int) -> Callable[..., Any]:
        stage = self._stages[number]
        call = own_call(stage)
        copied = is_compiled(stage) and any(p.is_cuda for p in stage.parameters())

        def keep(*args: Any, **kwargs: Any) -> Any:
            output = call(*args, **kwargs)
            # CUDA graphs, of which a compiled block may be one, write their next output to the same place.
            kept = each_tensor(output, torch.clone) if copied else output
            self.outputs[number] = kept, _versions(kept)
            return output

        return keep

    def free(self, firsts: Iterable[int] = ()) -> None:
        """Let go of all outputs but those that passes need that begin at these stages."""
        wanted = {number for first in firsts for number in self.needed(first)}
        self.outputs = {number: kept for number, kept in self.outputs.items() if number in wanted}

    def served(self, first: int, piece: Piece | None = None) -> contextlib.AbstractContextManager[None]:
        """Inside the `with`, the stages before `first` answer with what was kept, or a piece of its rows. What was not kept, or
        written into since, is computed again."""
        kept = [self.outputs.get(number) for number in self.needed(first)]
        key = all(found and _versions(found[0]) == found[1] for found in kept) and first, piece
        if key not in self._patches:
            self._patches[key] = [(self._stages[n], ANSWER, self._answer(n, first, piece)) for n in range(key[0])]
        return in_place(self._patches[key])

    def _answer(self, number: int, first: int, piece: Piece | None) -> Callable[..., Any]:
        if number not in self.needed(first):
            return lambda *args, **kwargs: self._family.without("block", *args, **kwargs)
        if piece is None:
            return lambda *args, **kwargs: self.outputs[number][0]
        return lambda *args, **kwargs: chunked(self.outputs[number][0], piece)


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
