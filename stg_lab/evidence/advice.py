"""The claim about advice: what a look one step ahead says of weak models, held against what comes out when they guide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stg_lab.analysis.rank import spearman
from stg_lab.evidence.choose import candidates
from stg_lab.evidence.claim import ALL, PLAIN, Bench, Finding, Line, Panel, claim
from stg_lab.evidence.repairs import POINTS
from stg_lab.evidence.scores import Scores
from stg_lab.evidence.statistics import Estimate, conclude, estimate, no_worse
from stg_lab.evidence.tables import GRAIN, NONE
from stg_lab.weak.skip import Skip

NEAREST, ACTS = "x0_distance", 0.05  # what `lab.advise` goes by, and from which change on


@claim(19, "A look one step ahead tells which layer to skip", source="A claim of this project", models=(*ALL, PLAIN))
def look_ahead(bench: Bench) -> Finding:
    """STG without CFG at every single layer in turn, its block and its attention, at scale 1; beside it what `lab.ablate` sees of
    the same weak model at 32 states of unguided runs of other captions and seeds. Holds if the weak models that change the
    one-step prediction least have the higher log-probability (Spearman's rank correlation), and the one that changes it
    least, of those that change it by 5 % or more, has no fewer videos right than the best of all, by more than 5 points. What
    other scores of the look ahead would have told is in the table."""
    weak = [w for w in candidates(bench.who) if len(w.layers) == 1]
    seen = {name: values.mean(axis=0) for name, values in bench.ahead(weak).items()}
    found = [bench(bench.who.stg(1.0, w)) for w in weak]
    likely = np.stack([s["log_probability"] for s in found])
    agree = {name: _agreement(values, likely) for name, values in seen.items() if np.isfinite(values).all()}
    change = seen[NEAREST]
    first = min(range(len(weak)), key=lambda i: (change[i] < ACTS, change[i]))
    order = sorted(range(len(weak)), key=lambda i: found[i].mean("right").value, reverse=True)
    less = found[first].minus(found[order[0]], "right")
    place = sorted(change[change >= ACTS]).index(change[order[0]]) + 1 if change[order[0]] >= ACTS else len(weak)
    others = ", ".join(f"{name} {rho.text(2)}" for name, rho in agree.items() if name != NEAREST)
    return Finding(
        conclude(agree[NEAREST].below_zero, no_worse(less, POINTS)),
        f"rank correlation with log-probability: {NEAREST} {agree[NEAREST].text(2)}; its first, {weak[first]}, less the best, "
        f"{weak[order[0]]}: share right {less.text()}; the best is number {place} of {len(weak)} in its order; other scores: {others}",
        [_row("no guidance", bench(NONE), bench)]
        + [_row(str(weak[i]), found[i], bench, float(change[i])) for i in order],
        _panels(weak, change, found),
    )


def _row(setting: str, s: Scores, bench: Bench, change: float = 0.0) -> dict[str, Any]:
    known = {"right": s.mean("right"), "log-probability": s.mean("log_probability"), GRAIN: s.frechet(bench.real)}
    return {"setting": setting, "videos": s.videos, "change of x0": round(change, 3), **known}


def _agreement(seen: np.ndarray, likely: np.ndarray) -> Estimate:
    """Spearman's rank correlation of a score with the mean log-probability, drawn again over captions.

    Args:
        seen: `(weak,)`.
        likely: `(weak, video)`.
    """
    if np.ptp(seen) == 0:
        return Estimate(0.0, -1.0, 1.0)  # it tells nothing apart
    return estimate(lambda index: float(spearman(seen[None], likely[:, index].mean(1)[None])[0]), likely.shape[1])


def _panels(weak: Sequence[Skip], change: np.ndarray, found: Sequence[Scores]) -> list[Panel]:
    """Outcomes over the change of x0, a line for each kind of weak model."""
    kinds: dict[str, list[int]] = {}
    for i in np.argsort(change):
        one = weak[i]
        kinds.setdefault(one.part if one.axis == "joint" else f"{one.part}, {one.axis}", []).append(int(i))

    def panel(title: str, score: str) -> Panel:
        lines = [Line(n, [float(change[i]) for i in at], [found[i].mean(score) for i in at]) for n, at in kinds.items()]
        return Panel(title, "change of the one-step prediction", title, lines)

    return [panel("share right", "right"), panel("log-probability", "log_probability")]
