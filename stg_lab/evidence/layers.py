"""Claims about what is skipped: which layer, how many, which part, which axis."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from stg_lab.evidence.claim import ALL, FACTORISED, IMAGE, JOINT, PLAIN, TEXT, Bench, Finding, Line, Panel, claim
from stg_lab.evidence.scales import MARGIN
from stg_lab.evidence.scores import Scores
from stg_lab.evidence.statistics import conclude, difference, no_worse, slope
from stg_lab.evidence.tables import GRAIN, NONE, RIGHT, panels_over, plane, row, rows_of
from stg_lab.weak import skip


def each_layer(bench: Bench) -> list[Scores]:
    """STG without CFG at each block (or layer of blocks) in turn, at scale 1."""
    return [bench(bench.who.stg(1.0, skip((layer,)))) for layer in range(bench.who.layers)]


def layer_panels(none: Scores, scores: list[Scores], bench: Bench) -> list[Panel]:
    """What is right and what grain there is, layer by layer, beside no guidance."""
    layers = list(range(len(scores)))

    def panel(title: str, level: Any, values: list[Any]) -> Panel:
        return Panel(
            title,
            "skipped layer",
            title,
            [Line("no guidance", layers, [level] * len(layers)), Line("STG", layers, values)],
        )

    return [
        panel(RIGHT, none.mean("right"), [s.mean("right") for s in scores]),
        panel("log-probability", none.mean("log_probability"), [s.mean("log_probability") for s in scores]),
        panel(GRAIN, none.frechet(bench.real), [s.frechet(bench.real) for s in scores]),
    ]


@claim(5, "Skipping a later layer improves quality most", source="Sec. A3.3, Fig. 9", models=ALL)
def which_layer(bench: Bench) -> Finding:
    """STG without CFG at each whole layer in turn, at scale 1. Holds if the last third of the layers has more videos right
    than the first third and than the middle one. Under CFG, where the paper looks, too few videos are left to repair."""
    none, scores = bench(NONE), each_layer(bench)
    right = np.stack([s["right"] for s in scores])
    parts = np.array_split(right, 3)
    thirds, unit = [part.mean(0) for part in parts], 1 / min(map(len, parts))
    late = [difference(thirds[2], thirds[k], unit) for k in (0, 1)]
    middle = difference(thirds[1], thirds[0], unit)
    order = ", ".join(map(str, np.argsort(-right.mean(1), kind="stable")))
    return Finding(
        conclude(*(d.above_zero for d in late)),
        f"share right, last third less first {late[0].text()}, last less middle {late[1].text()}, middle less first {middle.text()}; "
        f"layers from most right to least: {order}",
        rows_of({"no guidance": none, **{f"layer {k}": s for k, s in enumerate(scores)}}, bench),
        layer_panels(none, scores, bench),
    )


@claim(
    6,
    "Residual skip suits full 3D attention, attention skip factorised attention",
    source="Sec. 5.3, Tab. 3",
    models=ALL,
    tables=(3,),
)
def residual_or_attention(bench: Bench) -> Finding:
    """STG-R and STG-A, each at the layer that outcomes chose for it and at scale 1, without CFG and with it. Holds if without
    CFG the one that the paper names for this kind of model has more videos right, or as many and a smaller texture distance.
    What the two do with CFG, and as in the paper (STG-R at 1, STG-A at 2, at its relative depth), is told."""
    who = bench.who
    named, other = ("STG-R", "STG-A") if who.part == "block" else ("STG-A", "STG-R")
    part = {"STG-R": "block", "STG-A": "attention"}
    alone = {name: bench(who.stg(1.0, who.best(part[name]))) for name in part}
    with_cfg = {f"CFG {who.cfg:g} + {name}": bench(who.base() + who.stg(1.0, who.best(part[name]))) for name in part}
    paper = {f"{name} as in the paper": bench(who.paper_stg(part[name])) for name in part}
    gain = alone[named].minus(alone[other], "right")
    nearer = alone[named].frechet_minus(alone[other], bench.real)
    beside = with_cfg[f"CFG {who.cfg:g} + {named}"].minus(with_cfg[f"CFG {who.cfg:g} + {other}"], "right")
    as_published = paper[f"{named} as in the paper"].minus(paper[f"{other} as in the paper"], "right")
    found = {"no guidance": bench(NONE)} | {f"{name}: {who.best(part[name])}": s for name, s in alone.items()}
    found |= with_cfg | paper
    return Finding(
        conclude(gain.above_zero if gain.above_zero is not None else nearer.below_zero),
        f"{named} less {other}: share right {gain.text()}, texture distance {nearer.text()}; with CFG, share right "
        f"{beside.text()}; as in the paper {as_published.text()}",
        rows_of(found, bench),
        [plane(found, bench)],
    )


@claim(
    7,
    "Spatial guidance helps, and temporal guidance on top helps more",
    source="Sec. 5.3, Tab. 4",
    models=(FACTORISED, IMAGE),
    tables=(4,),
)
def one_axis_then_both(bench: Bench) -> Finding:
    """No guidance; attention skip in space; in time on top, each at the layer that outcomes chose for its axis and at scale 1.
    Holds if each time more videos are right, or as many and the texture distance falls. The same at the paper's layer and
    scale on top of CFG is told."""
    who, names = bench.who, ["no guidance", "+ spatial", "+ temporal"]
    space, time = (who.stg(1.0, who.best("attention", axis)) for axis in who.axes)
    scores = [bench(NONE), bench(space), bench(space + time)]
    paper = [who.base(), who.base() + who.paper_stg("attention", "spatial"), who.base() + who.paper_stg("attention")]
    as_published = [bench(g) for g in paper]
    steps = list(itertools.pairwise(scores))
    gains = [after.minus(before, "right") for before, after in steps]
    falls = [after.frechet_minus(before, bench.real) for before, after in steps]
    helps = [g.above_zero if g.above_zero is not None else f.below_zero for g, f in zip(gains, falls, strict=True)]
    theirs = [after.minus(before, "right").text() for before, after in itertools.pairwise(as_published)]
    found = dict(zip(names, scores, strict=True)) | dict(
        zip([f"CFG {who.cfg:g}", "+ spatial as in the paper", "+ temporal as in the paper"], as_published, strict=True)
    )
    return Finding(
        conclude(*helps),
        f"share right {gains[0].text()} by the spatial term, {gains[1].text()} by the temporal one; texture distance "
        f"{falls[0].text()}, {falls[1].text()}; as in the paper, share right {theirs[0]}, {theirs[1]}",
        rows_of(found, bench),
        [plane(found, bench)],
    )


@claim(
    8,
    "Orthogonalising the two vectors brings nothing",
    source="Sec. A3.2, Tab. 5",
    models=(FACTORISED, IMAGE),
    tables=(5,),
)
def orthogonalising(bench: Bench) -> Finding:
    """Attention skip in space and in time without CFG, each at the layer that outcomes chose for its axis, without and with
    eq. 21. Holds if orthogonalising gains less than 5 % of the share right (upper end of the interval)."""
    who = bench.who
    space, time = (who.stg(1.0, who.best("attention", axis)) for axis in who.axes)
    found = {"plain": bench(space + time), "orthogonalised": bench((space + time).orthogonalize())}
    plain, changed = found.values()
    gain, nearer = changed.minus(plain, "right"), changed.frechet_minus(plain, bench.real)
    margin = MARGIN * plain["right"].mean()
    nothing = True if gain.high < margin else False if gain.low > 0 else None
    return Finding(
        conclude(nothing),
        f"orthogonalised less plain: share right {gain.text()}, texture distance {nearer.text()}",
        rows_of(found, bench),
        panels_over(list(found), list(found.values()), bench, "", ("right", "frechet", "diversity")),
    )


@claim(11, "Skipping several layers drives the model out of distribution", source="Sec. 5.3", models=TEXT)
def several_layers(bench: Bench) -> Finding:
    """One to four neighbouring blocks skipped in one weak model, around the layer that outcomes chose, at scale 1 without CFG.
    Holds if the share right falls over their number."""
    last, middle, counts = bench.who.layers - 1, bench.who.best("block").layers[0], [1, 2, 3, 4]  # type: ignore[attr-defined]
    first = [min(max(middle - (n - 1) // 2, 0), last - n + 1) for n in counts]
    chosen = [tuple(range(f, f + n)) for f, n in zip(first, counts, strict=True)]
    scores = [bench(bench.who.stg(1.0, skip(layers))) for layers in chosen]
    fall = slope(counts, [s["right"] for s in scores], unit=1.0)
    found = {f"layers {', '.join(map(str, layers))}": s for layers, s in zip(chosen, scores, strict=True)}
    return Finding(
        conclude(fall.below_zero),
        f"share right changes by {fall.text()} with every further layer",
        rows_of({"no guidance": bench(NONE), **found}, bench),
        panels_over(counts, scores, bench, "skipped layers", ("right", "frechet", "saturation"), level=bench(NONE)),
    )


@claim(14, "Every layer mends more than it breaks", source="A claim of this project", models=(JOINT, PLAIN))
def every_layer(bench: Bench) -> Finding:
    """STG without CFG at each block in turn, at scale 1, against no guidance with the same seeds. A video is mended if it is
    right only with STG, broken if only without. Holds if for every block more are mended than broken (the interval of the
    difference lies above zero); fails if for one of them fewer are."""
    none, scores = bench(NONE), each_layer(bench)
    gains = [s.minus(none, "right") for s in scores]
    rows = [{"setting": "", "mended": "", "broken": "", **row("no guidance", none, bench)}]
    for k, s in enumerate(scores):
        counts = {"mended": int(s.mended(none).sum()), "broken": int(none.mended(s).sum())}
        rows.append({"setting": "", **counts, **row(f"block {k}", s, bench)})
    wrong = int((none["right"] == 0).sum())
    best = max(range(len(scores)), key=lambda k: scores[k]["right"].mean())
    least = min(range(len(scores)), key=lambda k: scores[k]["right"].mean())
    return Finding(
        conclude(*(gain.above_zero for gain in gains)),
        f"of {wrong} wrong videos block {best} mends {rows[best + 1]['mended']} and breaks {rows[best + 1]['broken']} others, share right "
        f"{gains[best].text()}; block {least} mends {rows[least + 1]['mended']} and breaks {rows[least + 1]['broken']}, {gains[least].text()}",
        rows,
        layer_panels(none, scores, bench),
    )


@claim(18, "The gain and the grain arise at different steps", source="A claim of this project", models=TEXT)
def windows(bench: Bench) -> Finding:
    """STG without CFG in each quarter of the run alone, and in the first half. Holds if the first half alone keeps the gain of the
    whole run (share right lower by at most 5 % of it) and has less grain (texture distance, interval below zero)."""
    none, whole = bench(NONE), bench(bench.who.stg())
    quarters = {f"{q / 4:g} to {(q + 1) / 4:g}": bench(bench.who.stg(start=q / 4, stop=(q + 1) / 4)) for q in range(4)}
    half = bench(bench.who.stg(stop=0.5))
    kept, cleaner = half.minus(whole, "right"), half.frechet_minus(whole, bench.real)
    found = {"no guidance": none, "whole run": whole, "first half": half, **quarters}
    gains = ", ".join(f"{name} {s.minus(none, 'right').text()}" for name, s in quarters.items())
    grain = ", ".join(f"{name} {s.frechet_minus(none, bench.real).text()}" for name, s in quarters.items())
    return Finding(
        conclude(no_worse(kept, MARGIN * whole["right"].mean()), cleaner.below_zero),
        f"first half less whole run: share right {kept.text()}, texture distance {cleaner.text()}; against no guidance, share right by "
        f"quarters: {gains}; texture distance: {grain}",
        rows_of(found, bench),
        [
            *panels_over(
                list(quarters), list(quarters.values()), bench, "share of the steps", ("right", "frechet"), level=none
            ),
            plane(found, bench),
        ],
    )
