"""Timing side by side: variants take turns, A B C A B C ..., so that a machine that drifts or is shared hits all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch


def interleaved(variants: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each variant by round; one more round, the first, warms up and is left out."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds + 1):
        for name, run in variants.items():
            synchronize()
            start = time.perf_counter()
            run()
            synchronize()
            seconds[name].append(time.perf_counter() - start)
    return {name: values[1:] for name, values in seconds.items()}


def synchronize() -> None:
    """Wait for the accelerator, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def ratios(values: list[float], base: list[float]) -> list[float]:
    """Ratio to another variant, round by round."""
    return [v / b for v, b in zip(values, base, strict=True)]


def spread(values: list[float]) -> str:
    """Median, and smallest to largest, for tables."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"
