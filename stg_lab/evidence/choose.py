"""Which weak model, and which CFG scale: chosen by outcome, on videos that take no part in any test.

Every candidate is added at scale 1 to no guidance at all, where there is something to repair: on many captions, one video each.
All of them on the first captions, then the best third on more. Most videos right decides; but of all that are within one standard
error of the best, the one with the least grain is chosen (the one-standard-error rule, Breiman et al. 1984). The interval that is
told of it is not from here but from the tests, on other captions and seeds: the best of many looks better than it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stg_lab.digits import judge
from stg_lab.evidence.cells import Cell, make, once, videos, weights
from stg_lab.evidence.scores import judge_fingerprint, log_probability, told_right
from stg_lab.evidence.subjects import CHOICE_CAPTIONS_SEED, CHOICE_SEEDS, STEPS, Subject
from stg_lab.evidence.tables import NONE, cfg
from stg_lab.guidance import STG, Guidance
from stg_lab.metrics import frechet_distance
from stg_lab.sweeps import ALONE, Workers
from stg_lab.weak import skip
from stg_lab.weak.skip import Skip

#: Videos of every candidate, and of those that are left. From 32 with four left, a block fell out by chance that was among the
#: best wherever else it was tried.
ROUNDS = (64, 128)
KEPT = 1 / 3  # of the candidates
RULE = "most videos right; of those within one standard error of the best, the one with the least grain"
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

    def outcome(guidance: Guidance, count: int) -> dict[str, np.ndarray]:
        cell = Cell(who.name, guidance, choosing=True)
        for done in make(cell, root, count, workers):
            told(str(guidance), done, count)
        return _outcome(cell, who, root, count)

    by_name = {str(w): w for w in candidates(who)}
    first = {name: outcome(Guidance() + STG(1.0, weak), ROUNDS[0]) for name, weak in by_name.items()}
    best = sorted(first, key=lambda name: _order(first[name]), reverse=True)
    kinds = {_kind(by_name[name]): name for name in reversed(best)}  # the best of each, which claims ask for
    left = dict.fromkeys([*best[: max(round(KEPT * len(best)), 2)], *kinds.values()])
    last = {name: outcome(Guidance() + STG(1.0, by_name[name]), ROUNDS[1]) for name in left}
    scales = {scale: outcome(cfg(scale), ROUNDS[1]) for scale in CFG_SCALES}
    none = outcome(NONE, ROUNDS[1])
    tried = first | last
    ranked = sorted(tried, key=lambda name: (name in last, _order(tried[name])), reverse=True)
    rows = [
        {"setting": "no guidance", **_told(none, none)},
        *({"setting": f"STG 1, {name}", "weak": name, **_told(tried[name], none)} for name in ranked),
        *({"setting": f"CFG {scale:g}", **_told(found, none)} for scale, found in scales.items()),
    ]
    kept = {
        "model": who.name, "weights": weights(who.name), "judge": judge_fingerprint(), "rule": RULE, "steps": STEPS,
        "captions_seed": CHOICE_CAPTIONS_SEED, "seeds_from": CHOICE_SEEDS, "weak": cleanest(last, none),
        "cfg": max(scales, key=lambda scale: _order(scales[scale])), "rows": rows,
    }  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    file = out / f"choice-{who.name}.json"
    file.write_text(json.dumps(kept, indent=1) + "\n")
    return file


def cleanest(found: Mapping[str, Mapping[str, np.ndarray]], none: Mapping[str, np.ndarray]) -> str:
    """Of all candidates within one standard error of the best, the one with the least grain.

    Args:
        found: per candidate the outcome of the same videos: "right", 0 or 1; "log_probability"; "texture", features.
        none: the same without guidance.
    """
    best = max(found, key=lambda name: _order(found[name]))
    less = {name: found[best]["right"] - outcome["right"] for name, outcome in found.items()}
    near = [name for name, d in less.items() if d.mean() <= d.std(ddof=1) / len(d) ** 0.5]
    return min(near, key=lambda name: _grain(found[name], none))


def _order(outcome: Mapping[str, np.ndarray]) -> tuple[float, float]:
    return float(outcome["right"].mean()), float(outcome["log_probability"].mean())


def _grain(outcome: Mapping[str, np.ndarray], none: Mapping[str, np.ndarray]) -> float:
    """How far from videos of the same model without guidance, in the judge's first layers."""
    return frechet_distance(outcome["texture"], none["texture"][: len(outcome["texture"])])


def _told(outcome: Mapping[str, np.ndarray], none: Mapping[str, np.ndarray]) -> dict[str, Any]:
    right, likely = _order(outcome)
    return {
        "videos": len(outcome["right"]),
        "right": round(right, 4),
        "log_probability": round(likely, 4),
        "texture distance to no guidance": round(_grain(outcome, none), 3),
    }


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
