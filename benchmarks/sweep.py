"""What a sweep over all layers costs (`lab.ablate` at one step), in plain weak passes.

Counted is everything that the sweep does at its state: laying out the store (once), weak passes, scores, one-step predictions
and writing. The unit is half
a step of the stock pipeline with CFG in the same round, which is what a plain weak pass costs, times the number of weak models.
"""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable
from typing import Any

import torch

import stg_lab as lab
from benchmarks.models import FULL, Subject, digits, wan
from benchmarks.profile import watched
from benchmarks.timing import interleaved, ratios, spread
from stg_lab.sampling.ablate import _Sweep

ROUNDS, STEPS = 3, 2
PARTS = {"blocks": ("block",), "blocks and attention": ("block", "attention")}
BARS = {"blocks": 0.55, "blocks and attention": 0.6}


def measure() -> dict[str, Any]:
    """Ratio to as many plain weak passes, by model and sweep, one figure a round."""
    models = FULL if torch.cuda.is_available() else HERE
    return {"rounds": ROUNDS, "models": {name: costs(make()) for name, make in models.items()}}


def eight() -> Subject:
    """The embedded model with eight samples: what a sweep costs beside its passes weighs less then."""
    subject = digits()
    subject.call["prompt"] = [subject.call["prompt"]] * 8
    return subject


#: Two models are enough here: a sweep of 48 blocks takes minutes for each variant and round.
HERE = {
    "digits-joint (8 blocks, trained), one sample": digits,
    "digits-joint (8 blocks, trained), eight samples": eight,
    "Wan architecture (16 blocks of 384)": wan,
}


def costs(subject: Subject) -> dict[str, Any]:
    """Costs of one model's sweeps."""
    variants: dict[str, Callable[[], Any]] = {"stock": lambda: subject.run(STEPS)}
    inside: dict[str, list[float]] = {}
    counts = {}
    for what, parts in PARTS.items():
        counts[what] = len(parts) * subject.blocks
        for told, passes in (
            ("", lab.Passes()),
            (", without reuse", lab.Passes(reuse=False)),
        ):
            inside[what + told] = []
            variants[what + told] = functools.partial(swept, subject, parts, passes, inside[what + told])
    seconds = interleaved(variants, ROUNDS)
    unit = [s / STEPS / 2 for s in seconds["stock"]]
    found = {
        name: ratios(values[1:], [u * counts[name.split(",")[0]] for u in unit]) for name, values in inside.items()
    }
    return {"layers": subject.blocks, "forward_seconds": statistics.median(unit), "cost": found}


def swept(subject: Subject, parts: tuple[str, ...], passes: lab.Passes, seconds: list[float]) -> None:
    """One sweep at the first step; adds the seconds that it took there."""
    watches: dict[str, float] = {}
    call = {"num_inference_steps": STEPS, "output_type": "latent", **subject.call}
    with watched(watches, "visit", _Sweep, "_visit"):
        lab.ablate(subject.pipe, step=0, parts=parts, axes=("joint",), passes=passes, progress=False, **call)
    seconds.append(watches["visit"])


def table(result: dict[str, Any]) -> str:
    """Medians with their range, and the bars."""
    lines = []
    for name, model in result["models"].items():
        lines.append(f"{name}: {model['layers']} layers, a forward takes {model['forward_seconds']:.2f} s")
        for sweep, cost in model["cost"].items():
            bar = BARS.get(sweep)
            missed = bar is not None and statistics.median(cost) > bar
            told = "" if bar is None else f"at most {bar:.2f}{'  MISSED' if missed else ''}"
            lines.append(f"  {sweep:<38} {spread(cost):<22} {told}")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(measure()))
