"""Stochastic depth: blocks that are left out at random while a model trains (Huang et al. 2016, section 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


class StochasticDepth:
    """Leaves each block out for each sample by itself: y = x + keep (block(x) - x), with keep 0 or 1.

    A block that is left out passes its input on, which is the very skip that STG-R and SLG make when they sample. A model
    that was trained so has met its own weak models, and what it predicts without a block stays a clean picture.

    Unlike in Huang et al. (eq. 5), nothing is scaled by the probability afterwards: the blocks belong to a stock class, which
    has no place for that. So what ships is the plain model, and the hooks stay with the training.

    Args:
        blocks: modules whose first argument and whose output are the hidden states, the samples of a batch one after the
            other along the first axis (each with one row or many).
    """

    def __init__(self, blocks: Sequence[nn.Module]) -> None:
        self.blocks = list(blocks)
        for block in self.blocks:
            block.register_buffer("keep", None, persistent=False)
            block.register_forward_hook(_leave_out, with_kwargs=True)

    def draw(self, probability: float, batch: int, generator: torch.Generator, device: torch.device) -> None:
        """Draw what the next forward pass leaves out; at probability 0 nothing, and no bit of it is touched.

        The same generator gives nested draws: what is left out at a probability is left out at every larger one, too.
        """
        chance = torch.rand(len(self.blocks), batch, generator=generator)
        self._set((chance >= probability).float().to(device) if probability else None)

    def whole(self) -> None:
        """Leave nothing out in the next forward passes."""
        self._set(None)

    def _set(self, keep: Float[Tensor, "block batch"] | None) -> None:
        for number, block in enumerate(self.blocks):
            block.keep = None if keep is None else keep[number]  # type: ignore[assignment]


def _leave_out(block: Any, args: tuple, kwargs: Mapping[str, Any], output: Tensor) -> Tensor:
    if block.keep is None:
        return output
    x = args[0] if args else kwargs["hidden_states"]
    keep = block.keep.repeat_interleave(x.shape[0] // block.keep.shape[0]).view(-1, *[1] * (x.ndim - 1))
    return x + keep.to(output.dtype) * (output - x)
