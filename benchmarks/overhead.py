"""What recording and a weak pass cost: whole sampling runs, side by side, as ratios to the stock pipeline.

The variants take turns, A B C A B C ..., so that a drifting machine hits all alike; ratios are taken round by round.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

import stg_lab as lab

ROUNDS, STEPS, BATCH = 5, 12, 4


def measure() -> dict[str, Any]:
    """Seconds of each variant by round; the first round warms up and is left out."""
    pipe = lab.load("digits-joint")
    pipe.set_progress_bar_config(disable=True)
    call: dict[str, Any] = {"prompt": ["a red seven moving left"] * BATCH, "num_inference_steps": STEPS}
    sizes = {"height": 32, "width": 32, "num_frames": 9, "max_sequence_length": 8, "guidance_scale": 4.0}
    cfg, skip, attention = lab.CFG(4.0), lab.skip([4]), lab.skip([4], part="attention")

    def stock() -> None:
        pipe(**call, **sizes, generator=[torch.Generator().manual_seed(i) for i in range(BATCH)])

    variants: dict[str, Callable[[], Any]] = {
        "stock pipeline, CFG": stock,
        "CFG, recorded": lambda: lab.sample(pipe, guidance=cfg, **call),
        "CFG + STG (block 4 skipped), not recorded": lambda: lab.sample(
            pipe, guidance=cfg + lab.STG(1.0, skip), record=False, **call
        ),
        "CFG + STG (block 4 skipped), recorded": lambda: lab.sample(pipe, guidance=cfg + lab.STG(1.0, skip), **call),
        "CFG + STG (attention of block 4), recorded": lambda: lab.sample(
            pipe, guidance=cfg + lab.STG(1.0, attention), **call
        ),
    }
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(ROUNDS + 1):
        for name, run in variants.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {"batch": BATCH, "steps": STEPS, "seconds": {name: values[1:] for name, values in seconds.items()}}


def table(result: dict[str, Any]) -> str:
    """Median ratios to the stock pipeline, with their range."""
    base = result["seconds"]["stock pipeline, CFG"]
    lines = [f"{'variant':<46} seconds   ratio to stock (min to max)"]
    for name, values in result["seconds"].items():
        ratios = sorted(v / b for v, b in zip(values, base, strict=True))
        median = statistics.median(ratios)
        lines.append(
            f"{name:<46} {statistics.median(values):>7.2f}   {median:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )
    return "\n".join(lines)
