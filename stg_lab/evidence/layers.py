"""Claims about what is skipped: which layer, how many, which part, which axis."""

from __future__ import annotations

import itertools

import numpy as np

from stg_lab.evidence.claim import ALL, FACTORISED, IMAGE, TEXT, Bench, Finding, Line, Panel, claim
from stg_lab.evidence.scales import MARGIN, panels_over, row
from stg_lab.evidence.statistics import conclude, difference, slope


@claim(5, "Skipping a later layer improves quality most", source="Sec. A3.3, Fig. 9", models=ALL)
def which_layer(bench: Bench) -> Finding:
    """CFG with STG at each layer in turn, at the paper's scale. Holds if the last third of the layers has more videos right
    than the first third and than the middle one. Whether any is better than CFG alone is told, but decides nothing: the best
    layer is chosen on the same videos, which favours it."""
    count = bench.who.layers
    scores = [bench(bench.who.base() + bench.who.stg(layers=[k])) for k in range(count)]
    right = np.stack([s["right"] for s in scores])
    parts = np.array_split(right, 3)
    thirds, unit = [part.mean(0) for part in parts], 1 / min(map(len, parts))
    late = [difference(thirds[2], thirds[k], unit) for k in (0, 1)]
    middle = difference(thirds[1], thirds[0], unit)
    none = bench(bench.who.base())
    best = int(right.mean(1).argmax())
    layers = list(range(count))
    lines = [  # CFG first, for its colour in the other figures
        Line("CFG", layers, [none.mean("right")] * count),
        Line("CFG + STG", layers, [s.mean("right") for s in scores]),
    ]
    apart = [
        Line("CFG", layers, [none.frechet(bench.real)] * count),
        Line("CFG + STG", layers, [s.frechet(bench.real) for s in scores]),
    ]
    return Finding(
        conclude(*(d.above_zero for d in late)),
        f"share right, last third less first {late[0].text()}, last less middle {late[1].text()}, middle less first {middle.text()}; "
        f"layer {best}, with most right, less CFG alone {scores[best].minus(none, 'right').text()}",
        [row("CFG", none, bench)] + [row(f"layer {k}", s, bench) for k, s in enumerate(scores)],
        [
            Panel("share right", "skipped layer", "share right", lines),
            Panel("Frechet distance", "skipped layer", "Frechet distance", apart),
        ],
    )


@claim(
    6,
    "Residual skip suits full 3D attention, attention skip factorised attention",
    source="Sec. 5.3, Tab. 3",
    models=ALL,
    tables=(3,),
)
def residual_or_attention(bench: Bench) -> Finding:
    """STG-R at 1.0 and STG-A at 2.0, as in the paper, at the same layer. Holds if the one that the paper names for this kind
    of model has more videos right, or as many and a smaller Frechet distance."""
    both = {"STG-R": bench(bench.who.base() + bench.who.stg(part="block"))}
    both["STG-A"] = bench(bench.who.base() + bench.who.stg(part="attention"))
    named, other = ("STG-R", "STG-A") if bench.who.part == "block" else ("STG-A", "STG-R")
    gain = both[named].minus(both[other], "right")
    nearer = both[named].frechet_minus(both[other], bench.real)
    by_distance = nearer.below_zero
    return Finding(
        conclude(gain.above_zero if gain.above_zero is not None else by_distance),
        f"{named} less {other}: share right {gain.text()}, Frechet distance {nearer.text()}",
        [row(name, s, bench) for name, s in both.items()],
        panels_over(list(both), list(both.values()), bench, "", ("right", "frechet", "diversity")),
    )


@claim(
    7,
    "Spatial guidance helps, and temporal guidance on top helps more",
    source="Sec. 5.3, Tab. 4",
    models=(FACTORISED, IMAGE),
    tables=(4,),
)
def one_axis_then_both(bench: Bench) -> Finding:
    """CFG; with spatial attention skip; with temporal attention skip too. Holds if the Frechet distance falls each time."""
    names = ["CFG", "+ spatial", "+ temporal"]
    spatial = bench.who.base() + bench.who.stg(part="attention", axis="spatial")
    scores = [
        bench(bench.who.base()),
        bench(spatial),
        bench(spatial + bench.who.stg(part="attention", axis="temporal")),
    ]
    falls = [after.frechet_minus(before, bench.real) for before, after in itertools.pairwise(scores)]
    return Finding(
        conclude(*(fall.below_zero for fall in falls)),
        f"Frechet distance {falls[0].text()} by the spatial term, {falls[1].text()} by the temporal one",
        [row(n, s, bench) for n, s in zip(names, scores, strict=True)],
        panels_over(names, scores, bench, "", ("right", "frechet", "diversity")),
    )


@claim(
    8,
    "Orthogonalising the two vectors brings nothing",
    source="Sec. A3.2, Tab. 5",
    models=(FACTORISED, IMAGE),
    tables=(5,),
)
def orthogonalising(bench: Bench) -> Finding:
    """Spatial and temporal attention skip, without and with eq. 21. Holds if orthogonalising gains less than 5 % of the share
    right (upper end of the interval)."""
    plain = bench.who.base() + bench.who.stg(part="attention")
    scores = [bench(plain), bench(plain.orthogonalize())]
    gain, nearer = scores[1].minus(scores[0], "right"), scores[1].frechet_minus(scores[0], bench.real)
    margin = MARGIN * scores[0]["right"].mean()
    nothing = True if gain.high < margin else False if gain.low > 0 else None
    names = ["plain", "orthogonalised"]
    return Finding(
        conclude(nothing),
        f"orthogonalised less plain: share right {gain.text()}, Frechet distance {nearer.text()}",
        [row(n, s, bench) for n, s in zip(names, scores, strict=True)],
        panels_over(names, scores, bench, "", ("right", "frechet", "diversity")),
    )


@claim(11, "Skipping several layers drives the model out of distribution", source="Sec. 5.3", models=TEXT)
def several_layers(bench: Bench) -> Finding:
    """One to four neighbouring blocks skipped around the usual one, in one weak model. Holds if the share right falls over
    their number."""
    middle, counts = bench.who.layer, [1, 2, 3, 4]
    chosen = [list(range(middle - (n - 1) // 2, middle + n // 2 + 1)) for n in counts]
    scores = [bench(bench.who.base() + bench.who.stg(part="block", layers=layers)) for layers in chosen]
    fall = slope(counts, [s["right"] for s in scores], unit=1.0)
    return Finding(
        conclude(fall.below_zero),
        f"share right changes by {fall.text()} with every further layer",
        [row(f"layers {', '.join(map(str, layers))}", s, bench) for layers, s in zip(chosen, scores, strict=True)],
        panels_over(counts, scores, bench, "skipped layers", ("right", "saturation", "diversity")),
    )
