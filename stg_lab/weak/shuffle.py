"""Shuffled tokens: Token Perturbation Guidance, TPG (Rajabi et al. 2025, arXiv 2506.10036)."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from stg_lab.errors import GuidanceError
from stg_lab.weak.base import AXES, Hits, Layered, Pass, one_of, replaced_forward

if TYPE_CHECKING:
    from torch import Tensor

    from stg_lab.families import Grid


@dataclass(frozen=True, repr=False)
class Shuffle(Layered):
    """A weak model whose chosen blocks see their video tokens in a random order.

    The whole residual stream of the video is permuted at the block's input; text is left alone. The order is drawn anew for
    every step and layer from the seed, and all samples of a batch share it. The authors' code for SDXL leaves the stream
    permuted after the block. In a transformer without convolutions that would only scramble the output picture, so here the
    block's output is put back in order (`restore=True`); what acts is that position and content no longer belong together.

    Args:
        layers: block numbers from 0.
        axis: "joint" permutes all tokens, "spatial" the positions (alike in every frame), "temporal" the frames.
        seed: of the permutations.
        restore: whether the block's output is put back in order.
        prompt: as in `lab.skip`.
    """

    kind: ClassVar[str] = "shuffle"
    example: ClassVar[str] = "lab.shuffle([5])"

    axis: str = field(default="joint", kw_only=True)  # type: ignore[misc]
    seed: int = field(default=0, kw_only=True)
    restore: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("axis", self.axis, AXES)

    def order(self, grid: Grid, step: int, layer: int) -> list[int]:
        """Which token stands at each place, for one layer at one step."""
        frames, places = range(grid.frames), range(grid.height * grid.width)
        draw = random.Random(f"{self.seed}/{step}/{layer}")
        if self.axis == "joint":
            return _shuffled(range(grid.size), draw)
        if self.axis == "spatial":
            shuffled = _shuffled(places, draw)
            return [f * len(places) + p for f in frames for p in shuffled]
        return [f * len(places) + p for f in _shuffled(frames, draw) for p in places]

    @contextlib.contextmanager
    def perturb(self, at: Pass) -> Iterator[Hits]:
        hits: Hits = {}
        with contextlib.ExitStack() as stack:
            for layer, axis, block in self.blocks(at):
                order = self.order(at.grid.along(axis), at.step, layer)
                place = f"block {layer}" + ("" if axis == "joint" else f" ({axis})")
                stack.enter_context(replaced_forward(block, self._shuffled(at, order), hits, place))
            yield hits

    def _shuffled(self, at: Pass, order: list[int]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        back = sorted(range(len(order)), key=order.__getitem__)

        def permuted(tokens: Tensor) -> Tensor:
            if tokens.shape[1] != len(order):
                raise GuidanceError(
                    f"{self}: a block got {tokens.shape[1]} tokens where the video has {len(order)}, so they cannot be shuffled."
                )
            return tokens[:, order]

        def make(forward: Callable[..., Any]) -> Callable[..., Any]:
            def shuffled(*args: Any, **kwargs: Any) -> Any:
                args, kwargs = at.family.with_stream(args, kwargs, permuted)
                output = forward(*args, **kwargs)
                if not self.restore:
                    return output
                if isinstance(output, tuple):
                    video = at.family.video_stream
                    return (*output[:video], output[video][:, back], *output[video + 1 :])
                return output[:, back]

            return shuffled

        return make


def _shuffled(things: range, draw: random.Random) -> list[int]:
    """A random order that is not the one it was: with few frames chance would often draw it, and nothing would be weakened."""
    while True:
        order = draw.sample(things, len(things))
        if len(things) < 2 or order != list(things):
            return order
