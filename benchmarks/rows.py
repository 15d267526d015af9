"""Pipelines that batch [uncond, cond]: what it does to the guidance vector when its weak pass has other rows than that batch.

The rounding is |p_own - p_batch| / |c - p_batch|: how far the weak prediction moves when it is made with its own rows alone,
against the length of the guidance vector. Tiny pipelines of every such family, random weights, the first block skipped and the
middle of three, four samples each.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import Any

import torch

import stg_lab as lab
from stg_lab.families import family_of

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))  # the tiny pipelines of the tests

from kit.zoo import ZOO, member

SEEDS = range(4)
LAYER = 1


def measure() -> dict[str, Any]:
    """Rounding by family and dtype, one figure a sample."""
    names = sorted(name for name in ZOO if family_of(member(name).pipe).batched)
    found: dict[str, dict[str, list[float]]] = {}
    for name in names:
        found[name] = {"float32": rounding(member(name))}
        low = member(name)
        low.to_bfloat16()
        low.call = {
            k: v.to(torch.bfloat16) if torch.is_tensor(v) and v.is_floating_point() else v for k, v in low.call.items()
        }
        found[name]["bfloat16"] = rounding(low)
    return {"layer": LAYER, "seeds": list(SEEDS), "rounding": found}


def rounding(one: Any) -> list[float]:
    """At the first step, for each seed."""
    return [_rounding(one, seed) for seed in SEEDS]


def _rounding(one: Any, seed: int) -> float:
    weak = lab.skip([LAYER])
    cond, predictions = None, {}
    for rows in ("own", "batch"):
        with lab.attach(one.pipe, guidance=lab.Probe(weak), record=True, passes=lab.Passes(rows=rows)) as trace:
            one.stock(seed=seed)
        at = trace.recording.ds.prediction.isel(step=0)
        cond, predictions[rows] = (torch.from_numpy(at.sel(branch=b).values) for b in ("cond", weak.name))
    return float((predictions["own"] - predictions["batch"]).norm() / (cond - predictions["batch"]).norm())


def table(result: dict[str, Any]) -> str:
    """Medians in parts of the guidance vector's length, with the largest."""
    lines = [f"{'family':<20} {'float32':<26} bfloat16      (median and largest of {len(result['seeds'])} samples)"]
    for name, dtypes in result["rounding"].items():
        cells = [f"{statistics.median(v):.1e} ({max(v):.1e})" for v in dtypes.values()]
        lines.append(f"{name:<20} {cells[0]:<26} {cells[1]}")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(measure()))
