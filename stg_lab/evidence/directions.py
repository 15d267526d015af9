"""Claims about guidance vectors themselves, measured at every step of recorded runs."""

from __future__ import annotations

import numpy as np

from stg_lab.evidence.claim import ALL, TEXT, Bench, Finding, Line, Panel, claim
from stg_lab.evidence.statistics import conclude, difference, mean
from stg_lab.guidance import STG, UNCOND, Guidance, Probe
from stg_lab.loading import embedded
from stg_lab.weak import checkpoint

WEAKER = ("early", "small")  # of checkpoints: trained for a short time, or with fewer weights


def probed(bench: Bench) -> Guidance:
    """CFG alone, with the weak models looked at on the way: the one that outcomes chose, the paper's, and weaker versions."""
    paper = [term.weak for term in bench.who.paper_stg().terms if isinstance(term, STG)]
    weak = [bench.who.best(), *paper, *map(checkpoint, checkpoints(bench.who.name))]
    total = bench.who.base()
    for model in dict.fromkeys(weak):
        total = total + Probe(model)
    return total


def chosen_branch(bench: Bench) -> str:
    """Name of the branch of the weak model that outcomes chose."""
    return next(name for name, weak in probed(bench).weak.items() if weak == bench.who.best())


def checkpoints(model: str) -> list[str]:
    """The weaker versions of a model that are there."""
    return [f"{model}-{kind}" for kind in WEAKER if f"{model}-{kind}" in embedded()]


@claim(4, "The skipped model is blurrier than the unconditional one", source="Sec. A3.6", models=ALL)
def blurrier(bench: Bench) -> Finding:
    """Sharpness (variance of the Laplacian) of one-step predictions along CFG runs. Holds if it is lower for the model without the
    layer that outcomes chose than for the unconditional one, on average over the steps. The paper's layer is told."""
    found = bench.vectors(probed(bench))
    less = {
        name: difference(values.mean(1), found.sharpness[UNCOND].mean(1))
        for name, values in found.sharpness.items()
        if name.startswith("skip")
    }
    lines = [
        Line(name, list(range(len(found.sigma))), found.over_steps(values)) for name, values in found.sharpness.items()
    ]
    rows = [{"branch": n, "videos": len(v), "sharpness": mean(v.mean(1))} for n, v in found.sharpness.items()]
    return Finding(
        conclude(less[chosen_branch(bench)].below_zero),
        f"sharpness, skipped less unconditional: {', '.join(f'{name} {d.text(5)}' for name, d in less.items())}",
        rows,
        [Panel("sharpness of one-step predictions", "step", "variance of the Laplacian", lines)],
    )


@claim(12, "STG's vector points where Autoguidance's does, more than CFG's", source="Sec. 4.1", models=TEXT)
def aligned(bench: Bench) -> Finding:
    """Cosines between guidance vectors along CFG runs; Autoguidance's weak models are an early checkpoint and a smaller
    model. Holds if the vector of the layer that outcomes chose has a higher cosine to both than CFG's has, on average over the
    steps. The paper's layer is told."""
    found = bench.vectors(probed(bench))
    skips = [name for name in found.norm if name.startswith("skip")]
    others = [name for name in found.norm if name.startswith("checkpoint")]
    chosen = chosen_branch(bench)

    def told(other: str) -> dict[str, np.ndarray]:
        """Cosines to another vector: of every skip, and CFG's."""
        return {name: found.between(name, other) for name in (*skips, UNCOND)}

    cosines = {other: told(other) for other in others}
    more = {o: difference(c[chosen].mean(1), c[UNCOND].mean(1)) for o, c in cosines.items()}
    steps = list(range(len(found.sigma)))
    panels = [
        Panel(f"cosine to {o}", "step", "cosine", [Line(n, steps, found.over_steps(v)) for n, v in c.items()])
        for o, c in cosines.items()
    ]
    rows = [
        {"vector": one, "to": two, "videos": len(v), "cosine": mean(v.mean(1))}
        for (one, two), v in found.cosine.items()
    ]
    said = "; ".join(f"to {o} {m.text()}" for o, m in more.items())
    return Finding(
        conclude(*(m.above_zero for m in more.values())) if more else "undecided",
        f"cosine of STG's vector less CFG's: {said}" if more else "there is no weaker checkpoint of this model",
        rows,
        panels,
    )
