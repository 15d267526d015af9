"""Enhance-A-Video, FETA (Luo et al. 2025, arXiv 2502.07508): self-attention made stronger by how much frames look at each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from stg_lab.errors import GuidanceError
from stg_lab.given import Number, read
from stg_lab.weak.attention import Attention, intercepted
from stg_lab.weak.base import Pass
from stg_lab.weak.cross import EveryLayer

if TYPE_CHECKING:
    from torch import Tensor, nn

    from stg_lab.families import Family


@dataclass(frozen=True, repr=False)
class Enhance(EveryLayer):
    """Self-attention times a number: the mean attention of a place between different frames, times (frames + weight), at least 1.

    For each place alone, attention between its frames is softmax(q k) over them; its mean off the diagonal is the score, which
    also is a cheap measure of how much a layer mixes frames. The score is a sample's own; the authors' code takes the mean over
    the batch.

    Args:
        weight: added to the number of frames; the authors' default for Wan and CogVideoX is 1.
        layers, prompt: block numbers from 0, None for all; as in `lab.skip`.
    """

    kind: ClassVar[str] = "enhance"
    example: ClassVar[str] = "lab.enhance(1)"
    example_text: ClassVar[str] = "enhance:weight=1"
    part: ClassVar[str] = "attention"

    weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "weight", float(read("weight", self.weight, Number(), GuidanceError, self.example)))

    @property
    def words(self) -> str:
        return f"Enhance-A-Video {self.weight:g}{self._where()}"

    def check(self, family: Family, component: str, denoiser: nn.Module) -> None:
        super().check(family, component, denoiser)
        if family.axes != ("joint",) or family.text_tokens != "none" or family.still:
            raise GuidanceError(
                f"{self} is for models with one attention over all video tokens and text apart, such as Wan; those of {family.name} "
                "are made otherwise."
            )

    def made(self, at: Pass, first: nn.Module) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        grid = at.grid if at.args or at.kwargs else None

        def make(forward: Callable[..., Any]) -> Callable[..., Any]:
            def enhanced(*args: Any, **kwargs: Any) -> Any:
                scores: list[Tensor] = []

                def answer(
                    kernel: Callable[..., Tensor], query: Any, key: Any, value: Any, attn_mask: Any = None, **rest: Any
                ) -> Tensor:
                    attention = Attention(query, key, value, attn_mask, rest, kernel, grid)
                    scores.append(self.score(attention))
                    return attention()

                with intercepted(answer):
                    out = forward(*args, **kwargs)
                return out * scores[-1].reshape(-1, *[1] * (out.ndim - 1)).to(out.dtype)

            return enhanced

        return make

    def score(self, attention: Attention) -> Tensor:
        """What the output is multiplied with, one number for each sample."""
        return (between_frames(attention) * (attention.place.frames + self.weight)).clamp(min=1)


def between_frames(attention: Attention) -> Tensor:
    """Mean attention of a place between two different frames, `(sample,)`, where each place sees itself over time alone."""
    frames = attention.place.frames
    if frames == 1:
        return attention.query.new_zeros(len(attention.query)).float()
    q, k = (x.unflatten(2, (frames, -1)).transpose(2, 3) for x in (attention.query, attention.each_head(attention.key)))
    scale = attention.options.get("scale") or q.shape[-1] ** -0.5
    weights = ((q * scale) @ k.transpose(-1, -2)).float().softmax(-1)  # sample, head, place, frame, frame
    off = weights.sum((-1, -2)) - weights.diagonal(dim1=-2, dim2=-1).sum(-1)
    return off.mean((1, 2)) / (frames * frames - frames)
