"""The figure of `benchmarks.reuse`: what a guided step costs, by model and method."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.reuse import bound

MINE, BOUND = "#0072B2", "#D55E00"
OTHERS = "#9A9A9A"


def draw(result: dict[str, Any], path: Path) -> None:
    """Horizontal bars, one panel a model: medians, with the smallest and the largest round as whiskers."""
    models = result["models"]
    figure = Figure(
        figsize=(7.2, 0.4 + sum(0.26 * len(m["cost"]) + 0.75 for m in models.values())), layout="constrained"
    )
    panels = figure.subplots(len(models), 1, sharex=True, height_ratios=[len(m["cost"]) + 1 for m in models.values()])
    for axes, (name, model) in zip(panels, models.items(), strict=True):
        names = list(model["cost"])
        for k, variant in enumerate(names):
            cost = model["cost"][variant]
            middle = statistics.median(cost)
            axes.barh(k, middle, color=MINE if variant.startswith("reuse") else OTHERS, height=0.7)
            axes.plot([min(cost), max(cost)], [k, k], color="black", linewidth=1)
            if variant.startswith("reuse"):
                _, block, rows = variant.split(", ")
                limit = bound(model, int(block.split()[1]), rows.split()[0])
                axes.plot([limit, limit], [k - 0.4, k + 0.4], color=BOUND, linewidth=2)
            axes.text(middle, k, f" {middle:.2f}", va="center", ha="left" if middle < 3.2 else "right", fontsize=7)
        axes.set_yticks(range(len(names)), names, fontsize=7)
        axes.invert_yaxis()
        axes.set_title(name, fontsize=9, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
    panels[-1].set_xlabel(
        "cost of one step of CFG + STG, in conditional forward passes (orange: the bound)", fontsize=8
    )
    figure.savefig(path, dpi=160)
