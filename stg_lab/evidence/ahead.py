"""What `lab.ablate` sees of weak models one step ahead, at states of runs that no test looks at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stg_lab.evidence.cells import Cell, begun, once
from stg_lab.evidence.subjects import STEPS, Subject, subject
from stg_lab.guidance import CFG, Guidance
from stg_lab.guidance.scores import SCORES
from stg_lab.sampling import ablate
from stg_lab.weak.skip import Skip

RUNS, LOOKED = 8, (2, 5, 8, 11)  # how many runs, and the steps that are looked at
STATES = RUNS * len(LOOKED)
AHEAD = f"ahead-{STATES}.npz"  # beside the runs


def states(who: Subject) -> Cell:
    """Unguided runs that choices are made by, with the unconditional prediction made at every step, so that vectors can be held
    against CFG's."""
    return Cell(who.name, Guidance() + CFG((1.0,) * STEPS), choosing=True)


def ahead(cell: Cell, root: Path, weak: Sequence[Skip]) -> dict[str, np.ndarray]:
    """Every score of `lab.ablate` for weak models, at the states of a cell's first runs; measured once.

    Returns:
        By score, `(state, weak)`, the steps of one run in a row. NaN where a model refuses a weak model.
    """

    def measure() -> dict[str, np.ndarray]:
        who = subject(cell.model)
        parts, axes = (list(dict.fromkeys(getattr(w, kind) for w in weak)) for kind in ("part", "axis"))
        call = who.call(0, RUNS, cell.choosing)
        ds = ablate(
            who.pipe, list(LOOKED), parts=parts, axes=axes, guidance=cell.guidance, num_inference_steps=cell.steps,
            keep_x0=False, progress=False, **call,
        )  # fmt: skip
        by_name = ds.stack(weak_model=("layer", "part", "axis"))
        names = list(by_name.weak.values)
        order = [names.index(str(w)) for w in weak]
        table = by_name[list(SCORES)].isel(weak_model=order).transpose("sample", "step", "weak_model")
        return {name: table[name].values.reshape(-1, len(weak)) for name in SCORES}

    return once(begun(cell, root) / AHEAD, measure)
