"""Which weak model, and which CFG scale: chosen by outcome, on videos that take no part in any test.

Every candidate is added at scale 1 to no guidance at all, where there is something to repair: on many captions, one video each.
All of them on the first few; the best of those on more. What is chosen has most videos right; of equals, the higher mean
log-probability. The interval that is told of the chosen one is not from here but from the tests, on other captions and seeds:
the best of many looks better than it is.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from stg_lab.digits import judge
from stg_lab.evidence.cells import Cell, make, once, videos, weights
from stg_lab.evidence.scores import judge_fingerprint, log_probability, told_right
from stg_lab.evidence.subjects import CHOICE_CAPTIONS_SEED, CHOICE_SEEDS, STEPS, Subject
from stg_lab.evidence.tables import NONE, cfg
from stg_lab.evidence.workers import ALONE, Workers
from stg_lab.guidance import STG, Guidance
from stg_lab.metrics import frechet_distance
from stg_lab.weak import skip
from stg_lab.weak.skip import Skip

FIRST, MOST, FINALISTS = 32, 96, 4
CFG_SCALES = (1.5, 2.0, 3.0)


def candidates(who: Subject) -> list[Skip]:
    """Every layer: the whole block, or its attention as identity; where attention is factorised, along each axis, too; and whole
    blocks in neighbouring pairs."""
    axes = ("joint",) if who.axes == ("joint",) else ("joint", *who.axes)
    each = [(layer,) for layer in range(who.layers)]
    pairs = [(layer, layer + 1) for layer in range(who.layers - 1)]
    return [
        skip(layers, part=part) if axis == "joint" else skip(layers, part=part, axis=axis)
        for part in ("block", "attention")
        for axis in axes
        for layers in [*each, *(pairs if (part, axis) == ("block", "joint") else ())]
    ]


def choose(
    who: Subject, root: Path, out: Path, workers: Workers = ALONE, told: Any = lambda name, done, of: None
) -> Path:
    """Choose for a model and keep the choice with all that speaks for it, as `choice-MODEL.json` in a folder.

    Args:
        root: folder of the runs.
        told: called as videos are made.
    """

    def outcome(guidance: Guidance, count: int) -> dict[str, Any]:
        cell = Cell(who.name, guidance, choosing=True)
        for done in make(cell, root, count, workers):
            told(str(guidance), done, count)
        found = _outcome(cell, who, root, count)
        return {
            "videos": count,
            "right": round(float(found["right"].mean()), 4),
            "log_probability": round(float(found["log_probability"].mean()), 4),
            "texture": found["texture"],
        }

    def order(row: dict[str, Any]) -> tuple[float, float]:
        return row["right"], row["log_probability"]

    by_name = {str(w): w for w in candidates(who)}
    tried = {name: outcome(Guidance() + STG(1.0, w), FIRST) for name, w in by_name.items()}
    best = sorted(tried, key=lambda name: order(tried[name]), reverse=True)
    kinds = {_kind(by_name[name]): name for name in reversed(best)}  # the best of each
    for name in dict.fromkeys([*best[:FINALISTS], *kinds.values()]):
        tried[name] = outcome(Guidance() + STG(1.0, by_name[name]), MOST)
    scales = {scale: outcome(cfg(scale), MOST) for scale in CFG_SCALES}
    none = outcome(NONE, MOST)
    final = sorted(tried, key=lambda name: (tried[name]["videos"], *order(tried[name])), reverse=True)
    rows = [
        {"setting": "no guidance", **none},
        *({"setting": f"STG 1, {name}", "weak": name, **tried[name]} for name in final),
        *({"setting": f"CFG {scale:g}", **row} for scale, row in scales.items()),
    ]
    reference = next(row["texture"] for row in rows)
    for row in rows:  # how far from videos of the same model without guidance, in the judge's first layers
        texture = row.pop("texture")
        row["texture distance to no guidance"] = round(frechet_distance(texture, reference[: len(texture)]), 3)
    kept = {
        "model": who.name, "weights": weights(who.name), "judge": judge_fingerprint(), "steps": STEPS,
        "captions_seed": CHOICE_CAPTIONS_SEED, "seeds_from": CHOICE_SEEDS, "weak": final[0],
        "cfg": max(scales, key=lambda scale: order(scales[scale])), "rows": rows,
    }  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    file = out / f"choice-{who.name}.json"
    file.write_text(json.dumps(kept, indent=1) + "\n")
    return file


def _kind(weak: Skip) -> tuple[str, str, int]:
    """Part, axis, and how many layers."""
    return weak.part, weak.axis, len(weak.layers)


def _outcome(cell: Cell, who: Subject, root: Path, count: int) -> dict[str, np.ndarray]:
    def measure() -> dict[str, np.ndarray]:
        video, labels = videos(cell, root, count), who.labels(count, choosing=True)
        return {
            "right": told_right(video, labels, who),
            "log_probability": log_probability(video, labels, who),
            "texture": judge.textures(video),
        }

    return once(cell.folder(root) / f"outcome-{count}-{judge_fingerprint()}.npz", measure)
