"""Blurred queries: Smoothed Energy Guidance, SEG (Hong 2024, arXiv 2408.00760)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from stg_lab.weak.attention import Attention, AttentionEdit
from stg_lab.weak.base import Pass, blocks_text, in_range

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, repr=False)
class Blur(AttentionEdit):
    """Self-attention whose queries are blurred over the video with a Gaussian, so that its map becomes flatter.

    Blurring queries is blurring the logits over their query place, since logits are linear in queries. That holds for the
    queries that meet the keys, so the blur comes after rotary embedding and normalisation. The Gaussian is cut off at the
    picture's border and normalised there, so that sigma to infinity is exactly the mean; the authors' code reflects the
    picture at its border and cuts the kernel at 3 sigma, which differs near the border. Text queries are left alone.

    Args:
        layers: block numbers from 0.
        sigma: standard deviation of the Gaussian in tokens; infinity (the default, as the paper recommends) is the mean.
        axis: "spatial" blurs each frame in 2-D (SEG), "temporal" each position over time, "joint" both.
        heads, strength, prompt: as in `lab.skip`.
    """

    kind: ClassVar[str] = "blur"
    example: ClassVar[str] = "lab.blur([5])"
    steady: ClassVar[bool] = True

    sigma: float = field(default=math.inf, kw_only=True)
    axis: str = field(default="spatial", kw_only=True)  # type: ignore[misc]

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "sigma", in_range("sigma", self.sigma, 0, math.inf))

    @property
    def words(self) -> str:
        over = {"spatial": "in each frame", "temporal": "over time", "joint": "in space and time"}[self.axis]
        sigma = "∞" if math.isinf(self.sigma) else f"{self.sigma:g}"
        return f"queries of {blocks_text(self.layers)} blurred {over}, σ\u00a0=\u00a0{sigma}{self._some()}"

    def edit(self, attention: Attention, at: Pass) -> Tensor:
        grid, video = attention.place, attention.video
        blurred = attention.query[:, :, video].unflatten(2, (grid.frames, grid.height, grid.width))
        dims = {"spatial": (3, 4), "temporal": (2,), "joint": (2, 3, 4)}[self.axis]
        for dim in dims:
            kernel = gaussian(blurred.shape[dim], self.sigma).to(blurred)
            blurred = (blurred.movedim(dim, -1) @ kernel.T).movedim(-1, dim)
        query = attention.query.clone()
        query[:, :, video] = blurred.flatten(2, 4)
        return attention.with_query(query)


def gaussian(size: int, sigma: float) -> Tensor:
    """Blurring along one dimension as a matrix `(place, place)` whose rows add up to one, float64."""
    import torch

    place = torch.arange(size, dtype=torch.float64)
    weight = torch.exp(-0.5 * ((place[:, None] - place[None, :]) / sigma) ** 2)
    return weight / weight.sum(1, keepdim=True)
