"""Claims about scales: what CFG costs, what STG does not, and how far either can be turned up."""

from __future__ import annotations

from stg_lab.evidence.claim import ALL, IMAGE, TEXT, Bench, Finding, Line, Panel, claim
from stg_lab.evidence.scores import Scores
from stg_lab.evidence.statistics import Estimate, conclude, no_worse, slope
from stg_lab.evidence.subjects import FEW_STEPS, STEPS
from stg_lab.evidence.tables import COLUMNS, GRAIN, NONE, RIGHT, cfg, panels_over, plane, row, rows_of

CFG_SCALES = (1.0, 1.5, 2.0, 3.0, 5.0)
STG_SCALES = (0.5, 1.0, 2.0)
MARGIN = 0.05  # a loss of less than this share of the unguided value counts as none


def sweep(bench: Bench) -> dict[float, Scores]:
    """CFG alone at every scale."""
    return {scale: bench(cfg(scale)) for scale in CFG_SCALES}


def named(scale: float) -> str:
    """A CFG scale for a table."""
    return "no guidance" if scale == 1 else f"CFG {scale:g}"


@claim(1, "Raising CFG lowers diversity and motion", source="Sec. 1, Fig. 4", models=TEXT)
def cfg_costs(bench: Bench) -> Finding:
    """CFG alone at scales 1 to 5. Holds if diversity within captions and dynamic degree both fall over the scale
    (slope of a straight line, interval below zero)."""
    found = sweep(bench)
    scores = list(found.values())
    slopes = {n: slope(CFG_SCALES, [s[n] for s in scores]) for n in ("diversity", "dynamic")}
    return Finding(
        conclude(*(s.below_zero for s in slopes.values())),
        f"per unit of scale, diversity changes by {slopes['diversity'].text(4)} and dynamic degree by {slopes['dynamic'].text(4)}",
        rows_of({named(scale): s for scale, s in found.items()}, bench),
        panels_over(list(CFG_SCALES), scores, bench, "CFG scale", ("right", "diversity", "dynamic")),
    )


@claim(2, "STG improves quality without that cost", source="Sec. 5.3, Fig. 4", models=ALL)
def stg_costs_nothing(bench: Bench) -> Finding:
    """STG without CFG, with the weak model that outcomes chose, at scales 0.5, 1 and 2; and with the paper's layer, part and
    scale. Holds if at scale 1 the chosen one has more videos right than no guidance, and neither diversity nor dynamic degree
    is lower by more than 5 % of the unguided value. What the paper's setting does is told."""
    none, paper = bench(NONE), bench(bench.who.paper_stg())
    scores = [bench(bench.who.stg(scale)) for scale in STG_SCALES]
    chosen = scores[STG_SCALES.index(1.0)]
    gain = chosen.minus(none, "right")
    lost = {n: chosen.minus(none, n) for n in ("diversity", "dynamic")}
    kept = [no_worse(change, MARGIN * none[n].mean()) for n, change in lost.items()]
    found = {
        "no guidance": none,
        **{f"STG {x:g}, {bench.who.best()}": s for x, s in zip(STG_SCALES, scores, strict=True)},
    }
    found[f"as in the paper: {bench.who.paper_stg()}"] = paper
    return Finding(
        conclude(gain.above_zero, *kept),
        f"{bench.who.best()} at 1: share right {gain.text()}, log-probability {chosen.minus(none, 'log_probability').text()}, "
        f"diversity {lost['diversity'].text()}, dynamic degree {lost['dynamic'].text()}, texture distance "
        f"{chosen.frechet_minus(none, bench.real).text()} against none; the paper's setting: share right "
        f"{paper.minus(none, 'right').text()}",
        rows_of(found, bench),
        [
            *panels_over(
                [0.0, *STG_SCALES], [none, *scores], bench, "STG scale", ("right", "frechet", "diversity", "dynamic")
            )
        ],
    )


@claim(3, "CFG + STG beats CFG at CFG's best scale", source="Tab. 1, 2", models=ALL, tables=(1, 2))
def best_of_both(bench: Bench) -> Finding:
    """STG at scale 1, with the weak model that outcomes chose, added to CFG. CFG's best scale was chosen with it, on other
    captions and seeds. Holds if there the sum has more right, or as many and a smaller texture distance; at equal steps, and
    again at equal cost (prefix reuse counted), where CFG gets more steps. Lower scales and half the steps, where more is left
    to repair, and the paper's setting of STG are told."""
    who, best = bench.who, float(bench.who.chosen["cfg"])
    alone = sweep(bench)
    both = {scale: bench(cfg(scale) + who.stg()) for scale in CFG_SCALES[1:] if scale <= max(best, who.cfg)}
    paper = bench(cfg(best) + who.paper_stg())
    more = round(STEPS * both[best].cost / alone[best].cost)
    longer = bench(cfg(best), more)
    few = {
        f"{named(s)}{plus}, {FEW_STEPS} steps": bench(cfg(s) + who.stg() if plus else cfg(s), FEW_STEPS)
        for s in (1.0, who.cfg)
        for plus in ("", " + STG")
    }
    decided, told = [], []
    for name, rival in (("equal steps", alone[best]), ("equal cost", longer)):
        gain, nearer = both[best].minus(rival, "right"), both[best].frechet_minus(rival, bench.real)
        decided.append(gain.above_zero if gain.above_zero is not None else nearer.below_zero)
        told.append(f"at {name} share right {gain.text()}, texture distance {nearer.text()}")
    lower = [f"at {s:g} {both[s].minus(alone[s], 'right').text()}" for s in both if s != best]
    plain, guided = list(few.values())[2:]
    found = {named(scale): s for scale, s in alone.items()} | {f"CFG {scale:g} + STG": s for scale, s in both.items()}
    found |= {f"CFG {best:g} + STG as in the paper": paper, f"CFG {best:g}, {more} steps": longer} | few

    def panel(title: str, of: str) -> Panel:
        value = (lambda s: s.frechet(bench.real)) if of == "frechet" else (lambda s: s.mean(of))
        lines = [
            Line(n, list(group), [value(s) for s in group.values()])
            for n, group in (("CFG", alone), ("CFG + STG", both))
        ]
        return Panel(title, "CFG scale", title, lines)

    return Finding(
        conclude(*decided),
        f"CFG's best scale is {best:g}; there "
        + "; ".join(told)
        + f"; share right at other scales: {', '.join(lower)}; with "
        f"{FEW_STEPS} steps at {who.cfg:g} {guided.minus(plain, 'right').text()}",
        rows_of(found, bench),
        [panel(RIGHT, "right"), panel("log-probability", "log_probability"), panel(GRAIN, "frechet")],
    )


@claim(9, "Rescaling cures saturation at large scales", source="Sec. A3.1, Fig. 8", models=TEXT)
def rescaling(bench: Bench) -> Finding:
    """CFG and STG at four times their usual scales, without and with rescaling by 0.7. Holds if the large scales raise
    saturation, and rescaling lowers it again."""
    large = cfg(4 * bench.who.cfg) + bench.who.stg(4)
    found = {
        "usual": bench(bench.who.base() + bench.who.stg()),
        "large": bench(large),
        "large, rescaled": bench(large.rescale(0.7)),
    }
    usual, big, cured = found.values()
    up, down = big.minus(usual, "saturation"), cured.minus(big, "saturation")
    return Finding(
        conclude(up.above_zero, down.below_zero),
        f"large scales change saturation by {up.text()}, rescaling by {down.text()}; share right "
        f"{cured.minus(big, 'right').text()}",
        rows_of(found, bench),
        [*panels_over(list(found), list(found.values()), bench, "", ("saturation", "right")), plane(found, bench)],
    )


@claim(10, "Restart repairs broken videos at more cost", source="Sec. A3.1, Fig. 7", models=(TEXT[0],))
def restart(bench: Bench) -> Finding:
    """STG alone, where something is left to repair, with one Restart between noise shares 0.3 and 0.6. Holds if more videos are
    right than without, and more than with as many steps as the cost of Restart allows."""
    without, with_it = bench(bench.who.stg()), bench(bench.who.stg().restart(0.3, 0.6, 1))
    steps = round(STEPS * with_it.cost / without.cost)
    longer = bench(bench.who.stg(), steps)
    gains = [with_it.minus(rival, "right") for rival in (without, longer)]
    found = {"no Restart": without, "Restart": with_it, f"no Restart, {steps} steps": longer}
    return Finding(
        conclude(*(gain.above_zero for gain in gains)),
        f"share right {gains[0].text()} at equal steps and {gains[1].text()} at equal cost",
        rows_of(found, bench),
        [*panels_over(list(found), list(found.values()), bench, "", ("right", "saturation")), plane(found, bench)],
    )


@claim(
    13, "CFG ties motion to the first frame and STG frees it", source="Sec. 5.2, Tab. 2", models=(IMAGE,), tables=(2,)
)
def first_frame(bench: Bench) -> Finding:
    """CFG alone at scales 1 to 5 from a first frame, and STG added. Holds if dynamic degree falls over the CFG scale, and
    STG raises it again at the usual scale."""
    alone = sweep(bench)
    both = bench(bench.who.base() + bench.who.stg())
    fall = slope(CFG_SCALES, [s["dynamic"] for s in alone.values()])
    rise: Estimate = both.minus(alone[bench.who.cfg], "dynamic")
    rows = [
        *rows_of({named(scale): s for scale, s in alone.items()}, bench),
        row(f"CFG {bench.who.cfg:g} + STG", both, bench),
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
