"""Swapped tokens: Self-Swap Guidance, SSG (arXiv 2604.08048)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from stg_lab.errors import GuidanceError
from stg_lab.patch import Hits, Make, replaced_forwards
from stg_lab.weak.base import Layered, Pass, blocks_text, in_range, one_of, place

if TYPE_CHECKING:
    from torch import Tensor

WHAT = ("both", "tokens", "channels")
ROWS = 512  # of the table of similarities that is held at once


@dataclass(frozen=True, repr=False)
class Swap(Layered):
    """A weak model in whose chosen blocks the most dissimilar pairs of video tokens, and of channels, change places.

    Pairs are those of the lowest cosine, as many as a share of the tokens (or channels), found anew for every sample at the
    input of each block; text is left alone. As in the authors' code the stream stays swapped after the block, and a token in
    several pairs takes part in the last of each: its content may then stand in two places.

    Args:
        layers: block numbers from 0.
        share: how many pairs, as a share of the tokens; the authors' code has 0.1.
        what: "tokens" alone, "channels" alone, or "both", tokens first, as in the authors' code.
        prompt: as in `lab.skip`.
    """

    kind: ClassVar[str] = "swap"
    example: ClassVar[str] = "lab.swap([5])"

    share: float = field(default=0.1, kw_only=True)
    what: str = field(default="both", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "share", in_range("share", self.share, 0, 1))
        one_of("what", self.what, WHAT)

    @property
    def words(self) -> str:
        what = "tokens and channels" if self.what == "both" else self.what
        return f"most dissimilar {what} swapped in {blocks_text(self.layers)}{self._under_prompt()}"

    def perturb(self, at: Pass) -> contextlib.AbstractContextManager[Hits]:
        blocks = self.blocks(at.family, at.denoiser)
        return replaced_forwards(
            [(block, self._swapping(at, n), f"block {place(n, axis)}") for n, axis, block in blocks]
        )

    def _swapping(self, at: Pass, layer: int) -> Make:
        def swapped(stream: Tensor) -> Tensor:
            if stream.ndim != 3:
                raise GuidanceError(
                    f"{self}: block {layer} works on an array of shape {tuple(stream.shape)}, not on tokens, so none can be "
                    "swapped. Choose another weak model (lab.blur, lab.skip)."
                )
            if self.what != "channels":
                stream = self.swapped(stream)
            return stream if self.what == "tokens" else self.swapped(stream.transpose(1, 2)).transpose(1, 2)

        def make(forward: Callable[..., Any]) -> Callable[..., Any]:
            def with_swapped(*args: Any, **kwargs: Any) -> Any:
                args, kwargs = at.family.with_stream(args, kwargs, swapped)
                return forward(*args, **kwargs)

            return with_swapped

        return make

    def swapped(self, vectors: Tensor) -> Tensor:
        """`(batch, vector, entry)` with the vectors of the most dissimilar pairs in each other's place."""
        import torch

        count = int(self.share * vectors.shape[1])
        out = [one[torch.tensor(order(one, count), device=one.device)] for one in vectors]
        return torch.stack(out)


def order(vectors: Tensor, count: int) -> list[int]:
    """Which of the vectors `(vector, entry)` stands at each place once `count` pairs are swapped."""
    there = list(range(len(vectors)))
    pairs = most_dissimilar(vectors, count)
    for a, b in pairs:  # first the one half of all pairs, then the other, as the authors' code writes them
        there[a] = b
    for a, b in pairs:
        there[b] = a
    return there


def most_dissimilar(vectors: Tensor, count: int) -> list[tuple[int, int]]:
    """The pairs (i < j) of lowest cosine among vectors `(vector, entry)`, lowest first.

    The table of all pairs is made a few rows at a time, so that memory grows with the number of vectors and not its square.
    """
    import torch

    size = len(vectors)
    count = min(count, size * (size - 1) // 2)
    unit = torch.nn.functional.normalize(vectors.float(), dim=-1)
    best, where = unit.new_empty(0), torch.empty(0, dtype=torch.long, device=unit.device)
    for first in range(0, size, ROWS):
        table = unit[first : first + ROWS] @ unit.T
        table = table.masked_fill(torch.ones_like(table, dtype=torch.bool).tril(first), torch.inf)
        values = torch.cat([best, table.flatten()])
        places = torch.cat([where, torch.arange(table.numel(), device=unit.device) + first * size])
        best, taken = values.topk(min(count, len(values)), largest=False)
        where = places[taken]
    return [divmod(pair, size) for pair in where.tolist()]
