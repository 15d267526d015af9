"""Shuffled tokens: Token Perturbation Guidance, TPG (Rajabi et al. 2025, arXiv 2506.10036)."""

from __future__ import annotations

import contextlib
import functools
import inspect
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from stg_lab.errors import GuidanceError
from stg_lab.patch import Hits, Make, replaced_forwards
from stg_lab.weak.base import AXES, Layered, Pass, blocks_text, one_of, place
from stg_lab.weak.layers import whole_number

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
    Where blocks are told no positions (Latte, CogVideoX-2B, SVD, Open-Sora within frames) nothing would act at all, so that is refused.

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
        one_of("restore", self.restore, (True, False))
        object.__setattr__(self, "restore", bool(self.restore))
        object.__setattr__(self, "seed", whole_number(self.seed, "seed", 0, "lab.shuffle([5], seed=3)"))

    @property
    def words(self) -> str:
        what = {"joint": "tokens", "spatial": "positions", "temporal": "frames"}[self.axis]
        return f"{what} shuffled in {blocks_text(self.layers)}{self._under_prompt()}"

    def order(self, grid: Grid, step: int, layer: int, axis: str = "joint") -> list[int]:
        """Which token stands at each place, for one layer at one step; `axis` is the block's own, along which alone it mixes."""
        axis = self.axis if axis == "joint" else axis
        frames, places = range(grid.frames), range(grid.height * grid.width)
        draw = random.Random(f"{self.seed}/{step}/{layer}")
        if axis == "joint":
            return _shuffled(range(grid.size), draw)
        if axis == "spatial":
            shuffled = _shuffled(places, draw)
            return [f * len(places) + p for f in frames for p in shuffled]
        return [f * len(places) + p for f in _shuffled(frames, draw) for p in places]

    def perturb(self, at: Pass) -> contextlib.AbstractContextManager[Hits]:
        blocks = self.blocks(at.family, at.denoiser)
        return replaced_forwards(
            [(block, self._shuffling(at, n, axis), f"block {place(n, axis)}") for n, axis, block in blocks]
        )

    def _shuffling(self, at: Pass, layer: int, axis: str) -> Make:
        @functools.cache
        def order(tokens: int) -> list[int]:
            grid = at.family.places(at.grid, axis, tokens)
            if tokens != grid.size:
                raise GuidanceError(
                    f"{self}: block {layer} got {tokens} tokens where the video has {grid.size} ({grid}), so they cannot be "
                    "shuffled. Choose other layers or another axis."
                )
            return self.order(grid, at.step, layer, axis)

        def permuted(stream: Tensor) -> Tensor:
            return stream[:, order(stream.shape[1])]

        def restored(stream: Tensor) -> Tensor:
            there = order(stream.shape[1])
            return stream[:, sorted(range(len(there)), key=there.__getitem__)]

        def make(forward: Callable[..., Any]) -> Callable[..., Any]:
            def shuffled(*args: Any, **kwargs: Any) -> Any:
                if self.restore and not told_places(forward, args, kwargs):
                    raise GuidanceError(
                        f"{self}: block {layer} of this model is told no positions, so shuffling its tokens and putting them "
                        "back changes nothing. Choose another weak model (lab.blur, lab.skip), or restore=False."
                    )
                args, kwargs = at.family.with_stream(args, kwargs, permuted)
                output = forward(*args, **kwargs)
                if not self.restore:
                    return output
                if isinstance(output, tuple):
                    video = at.family.video_stream
                    return (*output[:video], restored(output[video]), *output[video + 1 :])
                return restored(output)

            return shuffled

        return make


def told_places(forward: Callable[..., Any], args: tuple, kwargs: Mapping[str, Any]) -> bool:
    """Whether a block is given positions, as rotary embeddings mostly."""
    given = {**inspect.signature(forward).bind(*args, **kwargs).arguments, **kwargs}
    return any(value is not None and re.search("rotary|rope|freqs|position", name) for name, value in given.items())


def _shuffled(things: range, draw: random.Random) -> list[int]:
    """A random order that is not the one it was: with few frames chance would often draw it, and nothing would be weakened."""
    while True:
        order = draw.sample(things, len(things))
        if len(things) < 2 or order != list(things):
            return order
