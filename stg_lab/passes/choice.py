"""How weak passes are made, as a choice of the user's."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from stg_lab.errors import GuidanceError
from stg_lab.given import Flag, Of, read
from stg_lab.weak.base import one_of

ROWS = ("auto", "batch", "own")


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

    Raises:
        GuidanceError: an unknown choice.
    """

    reuse: bool = True
    rows: str = "auto"

    def __post_init__(self) -> None:
        one_of("rows", self.rows, ROWS)
        object.__setattr__(self, "reuse", read("reuse", self.reuse, Flag(), GuidanceError))

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
