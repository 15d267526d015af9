"""Claims about scales: what CFG costs, what STG does not, and how far either can be turned up."""

from __future__ import annotations

from typing import Any

from stg_lab.evidence.claim import ALL, IMAGE, TEXT, Bench, Finding, Line, Panel, claim
from stg_lab.evidence.scores import Scores
from stg_lab.evidence.statistics import Estimate, conclude, no_worse, slope
from stg_lab.evidence.subjects import STEPS
from stg_lab.guidance import CFG, Guidance

CFG_SCALES = (1.0, 2.0, 3.0, 4.0, 6.0)
STG_SHARES = (0.0, 0.5, 1.0, 2.0)  # of the paper's scale
MARGIN = 0.05  # a loss of less than this share of the unguided value counts as none


def cfg(scale: float) -> Guidance:
    """CFG alone."""
    return Guidance() + CFG(float(scale))  # 1 and 1.0 are one setting, and belong in one folder


def row(label: str, s: Scores, bench: Bench) -> dict[str, Any]:
    """The columns that most tables have."""
    return {"setting": label, "videos": s.videos, "passes": s.passes, **columns(s, bench.real)}


def columns(s: Scores, real: Scores) -> dict[str, Estimate]:
    """What is measured of every setting."""
    return {
        "right": s.mean("right"),
        "Frechet distance": s.frechet(real),
        "content distance": s.content_distance(real),
        "coverage": s.coverage(real),
        "diversity": s.mean("diversity"),
        "dynamic degree": s.mean("dynamic"),
        "sharpness": s.mean("sharpness"),
        "saturation": s.mean("saturation"),
    }


COLUMNS = {
    "right": "share right",
    "frechet": "Frechet distance",
    "diversity": "diversity within captions",
    "dynamic": "dynamic degree",
    "saturation": "saturation",
}


def panels_over(x: list[Any], scores: list[Scores], bench: Bench, xlabel: str, names: tuple[str, ...]) -> list[Panel]:
    """One panel a score, over a scale or over settings."""

    def panel(name: str) -> Panel:
        title = COLUMNS[name]
        if name == "frechet":  # of a set of videos, not of each: rendered clips have none to themselves
            return Panel(title, xlabel, title, [Line("", x, [s.frechet(bench.real) for s in scores])])
        return Panel(
            title, xlabel, title, [Line("", x, [s.mean(name) for s in scores])], float(bench.real[name].mean())
        )

    return [panel(name) for name in names]


def sweep(bench: Bench) -> dict[float, Scores]:
    """CFG alone at every scale."""
    return {scale: bench(cfg(scale)) for scale in CFG_SCALES}


@claim(1, "Raising CFG lowers diversity and motion", source="Sec. 1, Fig. 4", models=TEXT)
def cfg_costs(bench: Bench) -> Finding:
    """CFG alone at scales 1 to 6. Holds if diversity within captions and dynamic degree both fall over the scale
    (slope of a straight line, interval below zero)."""
    found = sweep(bench)
    scores = list(found.values())
    slopes = {n: slope(CFG_SCALES, [s[n] for s in scores]) for n in ("diversity", "dynamic")}
    return Finding(
        conclude(*(s.below_zero for s in slopes.values())),
        f"per unit of scale, diversity changes by {slopes['diversity'].text(4)} and dynamic degree by {slopes['dynamic'].text(4)}",
        [row(f"CFG {scale:g}", s, bench) for scale, s in found.items()],
        panels_over(list(CFG_SCALES), scores, bench, "CFG scale", ("right", "diversity", "dynamic")),
    )


@claim(2, "Raising STG improves quality without that cost", source="Sec. 5.3, Fig. 4", models=TEXT)
def stg_costs_nothing(bench: Bench) -> Finding:
    """STG without CFG at 0, 0.5, 1 and 2 times the paper's scale. Holds if at the paper's scale more videos are right than
    without guidance, and neither diversity nor dynamic degree is lower by more than 5 % of the unguided value."""
    scores = [bench(bench.who.stg(share * bench.who.scale) if share else cfg(1)) for share in STG_SHARES]
    none, chosen = scores[0], scores[STG_SHARES.index(1.0)]
    gain = chosen.minus(none, "right")
    lost = {n: chosen.minus(none, n) for n in ("diversity", "dynamic")}
    kept = [no_worse(change, MARGIN * none[n].mean()) for n, change in lost.items()]
    x = [share * bench.who.scale for share in STG_SHARES]
    return Finding(
        conclude(gain.above_zero, *kept),
        f"share right {gain.text()}, diversity {lost['diversity'].text()}, dynamic degree {lost['dynamic'].text()} against none",
        [row(f"STG {scale:g}", s, bench) for scale, s in zip(x, scores, strict=True)],
        panels_over(x, scores, bench, "STG scale", ("right", "diversity", "dynamic")),
    )


@claim(3, "CFG + STG beats CFG at CFG's best scale", source="Tab. 1, 2", models=ALL, tables=(1, 2))
def best_of_both(bench: Bench) -> Finding:
    """STG at the paper's scale added to CFG at every scale. CFG's best scale is the one with most videos right (chosen on
    the same videos, which favours CFG). Holds if there the sum has more right, or as many and a smaller Frechet distance; at
    equal steps, and again at equal forward passes, where CFG gets more steps."""
    alone = sweep(bench)
    both = {scale: bench(cfg(scale) + bench.who.stg()) for scale in CFG_SCALES[1:]}
    best = max(both, key=lambda scale: alone[scale]["right"].mean())
    longer = bench(cfg(best), round(STEPS * both[best].passes / alone[best].passes))
    decided, told = [], []
    for name, rival in (("equal steps", alone[best]), ("equal passes", longer)):
        gain, nearer = both[best].minus(rival, "right"), both[best].frechet_minus(rival, bench.real)
        decided.append(gain.above_zero if gain.above_zero is not None else nearer.below_zero)
        told.append(f"at {name} share right {gain.text()}, Frechet distance {nearer.text()}")
    lines = [
        Line("CFG", list(CFG_SCALES), [s.mean("right") for s in alone.values()]),
        Line("CFG + STG", list(both), [s.mean("right") for s in both.values()]),
    ]
    plane = [
        Line("CFG", list(CFG_SCALES), [s.frechet(bench.real) for s in alone.values()]),
        Line("CFG + STG", list(both), [s.frechet(bench.real) for s in both.values()]),
    ]
    rows = [row(f"CFG {scale:g}", s, bench) for scale, s in alone.items()]
    rows += [row(f"CFG {scale:g} + STG", s, bench) for scale, s in both.items()]
    rows += [row(f"CFG {best:g}, {STEPS * both[best].passes / alone[best].passes:.0f} steps", longer, bench)]
    return Finding(
        conclude(*decided),
        f"CFG is best at {best:g}; there " + "; ".join(told),
        rows,
        [
            Panel("share right", "CFG scale", "share right", lines),
            Panel("Frechet distance", "CFG scale", "Frechet distance", plane),
        ],
    )


@claim(9, "Rescaling cures saturation at large scales", source="Sec. A3.1, Fig. 8", models=TEXT)
def rescaling(bench: Bench) -> Finding:
    """CFG at twice its usual scale with STG at four times the paper's, without and with rescaling by 0.7. Holds if the large
    scales raise saturation, and rescaling lowers it again."""
    large = cfg(2 * bench.who.cfg) + bench.who.stg(4 * bench.who.scale)
    names = ["usual", "large", "large, rescaled"]
    scores = [bench(bench.who.base() + bench.who.stg()), bench(large), bench(large.rescale(0.7))]
    up, down = scores[1].minus(scores[0], "saturation"), scores[2].minus(scores[1], "saturation")
    return Finding(
        conclude(up.above_zero, down.below_zero),
        f"large scales change saturation by {up.text()}, rescaling by {down.text()}; share right "
        f"{scores[2].minus(scores[1], 'right').text()}",
        [row(n, s, bench) for n, s in zip(names, scores, strict=True)],
        panels_over(names, scores, bench, "", ("saturation", "right")),
    )


@claim(10, "Restart repairs broken videos at more cost", source="Sec. A3.1, Fig. 7", models=(TEXT[0],))
def restart(bench: Bench) -> Finding:
    """The large scales of claim 9 with one Restart between noise shares 0.3 and 0.6. Holds if more videos are right than
    without, and more than with as many steps as the forward passes of Restart allow."""
    large = cfg(2 * bench.who.cfg) + bench.who.stg(4 * bench.who.scale)
    without, with_it = bench(large), bench(large.restart(0.3, 0.6, 1))
    steps = round(STEPS * with_it.passes / without.passes)
    longer = bench(large, steps)
    gains = [with_it.minus(rival, "right") for rival in (without, longer)]
    names = ["no Restart", "Restart", f"no Restart, {steps} steps"]
    scores = [without, with_it, longer]
    return Finding(
        conclude(*(gain.above_zero for gain in gains)),
        f"share right {gains[0].text()} at equal steps and {gains[1].text()} at equal passes",
        [row(n, s, bench) for n, s in zip(names, scores, strict=True)],
        panels_over(names, scores, bench, "", ("right", "saturation")),
    )


@claim(
    13, "CFG ties motion to the first frame and STG frees it", source="Sec. 5.2, Tab. 2", models=(IMAGE,), tables=(2,)
)
def first_frame(bench: Bench) -> Finding:
    """CFG alone at scales 1 to 6 from a first frame, and STG added. Holds if dynamic degree falls over the CFG scale, and
    STG raises it again at the usual scale."""
    alone = sweep(bench)
    both = bench(bench.who.base() + bench.who.stg())
    fall = slope(CFG_SCALES, [s["dynamic"] for s in alone.values()])
    rise: Estimate = both.minus(alone[bench.who.cfg], "dynamic")
    rows = [row(f"CFG {scale:g}", s, bench) for scale, s in alone.items()] + [
        row(f"CFG {bench.who.cfg:g} + STG", both, bench)
    ]

    def panel(name: str) -> Panel:
        lines = [
            Line("CFG", list(CFG_SCALES), [s.mean(name) for s in alone.values()]),
            Line("CFG + STG", [bench.who.cfg], [both.mean(name)]),
        ]
        return Panel(COLUMNS[name], "CFG scale", COLUMNS[name], lines, float(bench.real[name].mean()))

    return Finding(
        conclude(fall.below_zero, rise.above_zero),
        f"dynamic degree changes by {fall.text(4)} per unit of CFG, and by {rise.text()} when STG is added",
        rows,
        [panel("dynamic"), panel("right")],
    )
