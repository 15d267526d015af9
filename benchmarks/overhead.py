"""What recording and a weak pass cost: whole sampling runs, side by side, as ratios to the stock pipeline.

And of a guided run alone, CFG + STG with a middle block skipped: recorded, as a ratio to the same run not recorded.

The variants take turns, A B C A B C ..., so that a drifting machine hits all alike; ratios are taken round by round.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch

import stg_lab as lab
from benchmarks.models import CFG_SCALE, FULL, SMALL, Subject
from benchmarks.timing import interleaved, ratios, spread

ROUNDS, STEPS, BATCH = 5, 12, 4


def measure() -> dict[str, Any]:
    """Seconds of each variant by round, and ratios of recorded runs."""
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
    seconds = interleaved(variants, ROUNDS)
    models = FULL if torch.cuda.is_available() else SMALL
    recorded = {name: recording(make()) for name, make in models.items()}
    return {"batch": BATCH, "steps": STEPS, "seconds": seconds, "recorded": recorded}


def recording(subject: Subject) -> list[float]:
    """Every branch recorded, as a ratio to the same run without, one figure a round."""
    guidance = lab.CFG(CFG_SCALE) + lab.STG(1.0, lab.skip([subject.layers[1]]))

    def run(record: bool) -> None:
        with lab.attach(subject.pipe, guidance=guidance, record=record):
            subject.run(STEPS)

    seconds = interleaved({"with": lambda: run(True), "without": lambda: run(False)}, ROUNDS)
    return ratios(seconds["with"], seconds["without"])


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
    lines += ["", f"{'recorded, ratio to not recorded':<46} (min to max)"]
    lines += [f"{name:<46} {spread(values)}" for name, values in result["recorded"].items()]
    return "\n".join(lines)
