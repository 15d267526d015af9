"""Muon whose Newton-Schulz steps are made in the number format in which the machine is fast.

`torch.optim.Muon` makes them in bfloat16. A CPU without bfloat16 arithmetic emulates it, and those steps are then two thirds
of an update; in float32 they are as good and three times as fast there.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device computes in bfloat16; a CPU without it emulates it, many times slower."""
    if device.type != "cpu":
        return True
    machine = torch.cpu.get_capabilities()
    return bool(machine.get("amx_bf16") or machine.get("avx512_bf16"))


def newton_schulz(
    matrices: Float[Tensor, "matrix row column"],
    coefficients: tuple[float, float, float],
    steps: int,
    eps: float,
    dtype: torch.dtype,
) -> Float[Tensor, "matrix row column"]:
    """Each matrix with all its singular values brought near 1, by a quintic iteration (Jordan et al. 2024, Muon).

    Args:
        matrices: of one shape; the iteration is one batch of products for all of them.
        coefficients: a, b, c of X <- a X + (b X X' + c (X X')^2) X.
        dtype: of the products.
    """
    a, b, c = coefficients
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.to(dtype)
    x = x.transpose(1, 2) if tall else x  # the smaller of the two Gram matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.transpose(1, 2)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.transpose(1, 2) if tall else x


class Muon(torch.optim.Muon):
    """`torch.optim.Muon` with `adjust_lr_fn="match_rms_adamw"`; its state is the same.

    Args:
        params: matrices.
        dtype: of the Newton-Schulz steps.
        **options: torch's.
    """

    def __init__(self, params: Any, *, dtype: torch.dtype, **options: Any) -> None:
        super().__init__(params, adjust_lr_fn="match_rms_adamw", **options)
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            alike: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    alike[p.shape].append(p)
            for (rows, columns), params in alike.items():
                directions = newton_schulz(
                    torch.stack([self._momentum(p, group) for p in params]),
                    group["ns_coefficients"], group["ns_steps"], group["eps"], self.dtype,
                )  # fmt: skip
                lr = (
                    group["lr"] * 0.2 * math.sqrt(max(rows, columns))
                )  # the size of an update by AdamW (Liu et al. 2025)
                for p, direction in zip(params, directions, strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"]).add_(direction, alpha=-lr)

    def _momentum(self, p: Tensor, group: dict[str, Any]) -> Tensor:
        """The gradient averaged over updates, looking one ahead (Nesterov)."""
        if p.grad is None:
            raise RuntimeError("a parameter without gradient has no momentum")
        state = self.state[p]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(p.grad)
        average = state["momentum_buffer"].lerp_(p.grad, 1 - group["momentum"])
        return p.grad.lerp(average, group["momentum"])
