"""Claims about guidance vectors themselves, measured at every step of recorded runs."""

from __future__ import annotations

import numpy as np

from stg_lab.evidence.claim import ALL, TEXT, Bench, Finding, Line, Panel, claim
from stg_lab.evidence.statistics import conclude, difference, mean
from stg_lab.guidance import UNCOND, Guidance, Probe
from stg_lab.loading import embedded
from stg_lab.weak import checkpoint

WEAKER = ("early", "small")  # of checkpoints: trained for a short time, or with fewer weights


def probed(bench: Bench) -> Guidance:
    """CFG alone, with every weak model looked at on the way."""
    probes = [Probe(weak) for weak in bench.who.weak()]
    probes += [Probe(checkpoint(name)) for name in checkpoints(bench.who.name)]
    total = bench.who.base()
    for probe in probes:
        total = total + probe
    return total


def checkpoints(model: str) -> list[str]:
    """The weaker versions of a model that are there."""
    return [f"{model}-{kind}" for kind in WEAKER if f"{model}-{kind}" in embedded()]


@claim(4, "The skipped model is blurrier than the unconditional one", source="Sec. A3.6", models=ALL)
def blurrier(bench: Bench) -> Finding:
    """Sharpness (variance of the Laplacian) of one-step predictions along CFG runs. Holds if it is lower for the skipped model
    than for the unconditional one, on average over the steps."""
    found = bench.vectors(probed(bench))
    skipped = [name for name in found.sharpness if name.startswith("skip")]
    weak = np.mean([found.sharpness[name] for name in skipped], axis=0)
    less = difference(weak.mean(1), found.sharpness[UNCOND].mean(1))
    lines = [
        Line(name, list(range(len(found.sigma))), found.over_steps(values)) for name, values in found.sharpness.items()
    ]
    rows = [{"branch": n, "videos": len(v), "sharpness": mean(v.mean(1))} for n, v in found.sharpness.items()]
    return Finding(
        conclude(less.below_zero),
        f"sharpness, skipped less unconditional: {less.text(5)}",
        rows,
        [Panel("sharpness of one-step predictions", "step", "variance of the Laplacian", lines)],
    )


@claim(12, "STG's vector points where Autoguidance's does, more than CFG's", source="Sec. 4.1", models=TEXT)
def aligned(bench: Bench) -> Finding:
    """Cosines between guidance vectors along CFG runs; Autoguidance's weak models are an early checkpoint and a smaller
    model. Where STG has a weak model for space and one for time, its vector is their sum. Holds if STG's cosine to both is
    higher than CFG's, on average over the steps."""
    found = bench.vectors(probed(bench))
    skips = [name for name in found.norm if name.startswith("skip")]
    others = [name for name in found.norm if name.startswith("checkpoint")]
    stg = "STG: " + " + ".join(skips)

    def told(other: str) -> dict[str, np.ndarray]:
        """Cosines to another vector: STG's, its parts' where it has several, and CFG's."""
        parts = {name: found.between(name, other) for name in skips if len(skips) > 1}
        return {stg: found.of_sum(skips, other), **parts, UNCOND: found.between(UNCOND, other)}

    cosines = {other: told(other) for other in others}
    more = {o: difference(c[stg].mean(1), c[UNCOND].mean(1)) for o, c in cosines.items()}
    steps = list(range(len(found.sigma)))
    panels = [
        Panel(f"cosine to {o}", "step", "cosine", [Line(n, steps, found.over_steps(v)) for n, v in c.items()])
        for o, c in cosines.items()
    ]
    pairs = {(stg, o): c[stg] for o, c in cosines.items() if len(skips) > 1} | found.cosine
    rows = [{"vector": one, "to": two, "videos": len(v), "cosine": mean(v.mean(1))} for (one, two), v in pairs.items()]
    said = "; ".join(f"to {o} {m.text()}" for o, m in more.items())
    return Finding(
        conclude(*(m.above_zero for m in more.values())) if more else "undecided",
        f"cosine of STG's vector less CFG's: {said}" if more else "there is no weaker checkpoint of this model",
        rows,
        panels,
    )
