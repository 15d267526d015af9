"""PLADIS (Kim et al. 2025, arXiv 2503.07677): cross-attention moved on from its map towards a sparse one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from stg_lab.errors import GuidanceError
from stg_lab.given import Number, read
from stg_lab.weak.attention import Attention, intercepted
from stg_lab.weak.base import Pass, one_of
from stg_lab.weak.cross import EveryLayer

if TYPE_CHECKING:
    from torch import Tensor, nn

SPARSE = ("entmax", "sparsemax")


@dataclass(frozen=True, repr=False)
class Pladis(EveryLayer):
    """Cross-attention whose map is `softmax + scale (sparse - softmax)`, with sparse the 1.5-entmax or the sparsemax of its logits.

    No further pass; the authors' code was not at hand, the formula is that of the abstract's summary, **unverified**.

    Args:
        scale: lambda; 0 is off, 1 the sparse map itself.
        sparse: "entmax" (alpha 1.5) or "sparsemax" (alpha 2).
        layers, prompt: block numbers from 0, None for all; as in `lab.skip`.
    """

    kind: ClassVar[str] = "pladis"
    example: ClassVar[str] = "lab.pladis(2)"
    example_text: ClassVar[str] = "pladis:scale=2"

    scale: float = 2.0
    sparse: str = field(default="entmax", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "scale", float(read("scale", self.scale, Number(), GuidanceError, self.example)))
        one_of("sparse", self.sparse, SPARSE)

    @property
    def words(self) -> str:
        return f"PLADIS {self.scale:g} ({self.sparse}){self._where()}"

    def made(self, at: Pass, first: nn.Module) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def answer(
            kernel: Callable[..., Tensor], query: Any, key: Any, value: Any, attn_mask: Any = None, **rest: Any
        ) -> Tensor:
            return self.mixed(Attention(query, key, value, attn_mask, rest, kernel, None))

        def make(forward: Callable[..., Any]) -> Callable[..., Any]:
            def sparser(*args: Any, **kwargs: Any) -> Any:
                with intercepted(answer):
                    return forward(*args, **kwargs)

            return sparser

        return make

    def mixed(self, attention: Attention) -> Tensor:
        """What the attention gives instead, `(batch, head, token, channel)`."""
        dense, project = attention(), {"entmax": entmax, "sparsemax": sparsemax}[self.sparse]
        sparse = project(attention.logits().float()).to(attention.value.dtype) @ attention.each_head(attention.value)
        return dense + self.scale * (sparse - dense)


def sparsemax(logits: Tensor) -> Tensor:
    """Projection onto the simplex along the last dimension (Martins and Astudillo 2016, Alg. 1)."""
    import torch

    z, _ = (logits - logits.amax(-1, keepdim=True)).sort(-1, descending=True)
    rank = torch.arange(1, z.shape[-1] + 1, device=z.device, dtype=z.dtype)
    total = z.masked_fill(z == -torch.inf, -1e4).cumsum(-1)
    count = (1 + rank * z > total).sum(-1, keepdim=True)
    threshold = (total.gather(-1, count - 1) - 1) / count
    return (logits - logits.amax(-1, keepdim=True) - threshold).clamp(min=0)


def entmax(logits: Tensor) -> Tensor:
    """1.5-entmax along the last dimension (Peters et al. 2019, Alg. 2): squares of what is above a threshold, adding up to one."""
    import torch

    x = ((logits - logits.amax(-1, keepdim=True)) / 2).clamp(min=-1e4)
    z, _ = x.sort(-1, descending=True)
    rank = torch.arange(1, z.shape[-1] + 1, device=z.device, dtype=z.dtype)
    mean, square = z.cumsum(-1) / rank, (z * z).cumsum(-1) / rank
    spread = rank * (square - mean * mean)
    threshold = mean - ((1 - spread) / rank).clamp(min=0).sqrt()
    count = (threshold <= z).sum(-1, keepdim=True)
    return (x - threshold.gather(-1, count - 1)).clamp(min=0) ** 2
