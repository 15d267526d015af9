"""Claims about why skip guidance repairs: stochastic depth, the part along CFG, and what it costs beside CFG."""

from __future__ import annotations

from typing import Any

from stg_lab.evidence.claim import JOINT, TEXT, Bench, Finding, Line, Panel, claim
from stg_lab.evidence.scores import Scores
from stg_lab.evidence.statistics import conclude, no_worse
from stg_lab.evidence.subjects import DOSES, PLAIN, STEPS
from stg_lab.evidence.tables import GRAIN, NONE, RIGHT, cfg, plane, row, rows_of
from stg_lab.guidance import CFG, STG

POINTS = 0.05  # of the share right: a loss of less counts as none


@claim(15, "Stochastic depth removes the grain and keeps the gain", source="A claim of this project", models=(JOINT,))
def stochastic_depth(bench: Bench) -> Finding:
    """Three models trained on from digits-joint-plain with the same clips, noise and number of updates, whose blocks were left out
    with probability 0 (the control), 0.1 and 0.2. Each without guidance and with STG at scale 1 without CFG, skipping the single
    block that outcomes chose for digits-joint-plain. Holds if at 0.1 STG has more videos right than no guidance, its gain is not
    smaller than the control's by more than 5 points, and its texture distance is smaller than the control's with STG."""
    found: dict[float, tuple[Scores, Scores]] = {}
    for p, name in DOSES.items():
        of = bench.of(name)
        found[p] = of(NONE), of(of.who.stg(1.0, of.who.best("block")))
    plain = bench.of(PLAIN)
    before = plain(NONE), plain(plain.who.stg(1.0, plain.who.best("block")))
    control, dosed = found[0.0], found[0.1]
    gain = dosed[1].minus(dosed[0], "right")
    more = dosed[1].second_difference(dosed[0], control[1], control[0], "right")
    cleaner = dosed[1].frechet_minus(control[1], bench.real)
    rows = [row(f"digits-joint-plain{plus}", s, bench) for plus, s in zip(("", " + STG"), before, strict=True)]
    rows += [
        row(f"trained on at {p:g}{plus}", s, bench)
        for p, pair in found.items()
        for plus, s in zip(("", " + STG"), pair, strict=True)
    ]

    def panel(title: str, value: Any) -> Panel:
        lines = [
            Line(n, list(found), [value(pair[k]) for pair in found.values()])
            for k, n in enumerate(("no guidance", "STG"))
        ]
        return Panel(title, "probability that a block is left out in training", title, lines)

    gains = ", ".join(f"{p:g}: {pair[1].minus(pair[0], 'right').text()}" for p, pair in found.items())
    grain = ", ".join(f"{p:g}: {pair[1].frechet(bench.real).text()}" for p, pair in found.items())
    return Finding(
        conclude(gain.above_zero, no_worse(more, POINTS), cleaner.below_zero),
        f"gain in share right by probability {gains}; texture distance with STG {grain}; at 0.1 less control, gain {more.text()}, texture "
        f"distance {cleaner.text()}",
        rows,
        [panel(RIGHT, lambda s: s.mean("right")), panel(GRAIN, lambda s: s.frechet(bench.real))],
    )


@claim(16, "The part of its vector along CFG's is what mends", source="A claim of this project", models=TEXT)
def along_cfg(bench: Bench) -> Finding:
    """STG without CFG, with only the part of each step's vector that lies along CFG's vector, and with only the rest; the
    unconditional prediction is computed and does not act. Holds if the part along CFG alone has more videos right than no guidance,
    and more than the rest alone."""
    watched = CFG((1.0,) * STEPS)  # scale 1 at every step: computed, and left out of the sum
    weak = bench.who.best()
    parts = {"whole vector": bench(bench.who.stg())}
    parts |= {
        "along CFG": bench(watched + STG(1.0, weak).part("along_cfg")),
        "the rest": bench(watched + STG(1.0, weak).part("beside_cfg")),
    }
    none = bench(NONE)
    _, along, rest = parts.values()
    gains = {name: s.minus(none, "right") for name, s in parts.items()}
    more = along.minus(rest, "right")
    found = {"no guidance": none, **parts}
    grain = {name: s.frechet_minus(none, bench.real).text() for name, s in parts.items()}
    return Finding(
        conclude(gains["along CFG"].above_zero, more.above_zero),
        f"share right against no guidance: {', '.join(f'{n} {g.text()}' for n, g in gains.items())}; along CFG less the rest "
        f"{more.text()}; texture distance against no guidance: {', '.join(f'{n} {g}' for n, g in grain.items())}",
        rows_of(found, bench),
        [plane(found, bench)],
    )


@claim(17, "At equal cost, STG without CFG is as good as CFG", source="A claim of this project", models=TEXT)
def equal_cost(bench: Bench) -> Finding:
    """STG at scale 1 without CFG, prefix reuse counted, against CFG at the scale that outcomes chose and at 2, with as many steps
    as the same cost allows; and against no guidance with that many. Holds if STG has no fewer videos right than CFG at the better of the
    two scales, by more than 5 points."""
    stg = bench(bench.who.stg())
    scales = sorted({2.0, float(bench.who.chosen["cfg"])})
    fewer, more = round(stg.cost / 2), round(stg.cost)
    rivals = {f"CFG {s:g}, {fewer} steps": bench(cfg(s), fewer) for s in scales}
    longer = bench(NONE, more)
    less = {name: stg.minus(s, "right") for name, s in rivals.items()}
    found = {"no guidance": bench(NONE), f"STG, {STEPS} steps": stg, **rivals, f"no guidance, {more} steps": longer}
    return Finding(
        conclude(*(no_worse(d, POINTS) for d in less.values())),
        f"share right, STG less {', less '.join(f'{n}: {d.text()}' for n, d in less.items())}; less no guidance with {more} steps: "
        f"{stg.minus(longer, 'right').text()}",
        rows_of(found, bench),
        [plane(found, bench)],
    )
