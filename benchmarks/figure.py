"""The figure of `benchmarks.reuse`: what a guided step costs, by model and method."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.reuse import bound

MINE, BOUND = "#0072B2", "#D55E00"
OTHERS = "#808080"


def draw(result: dict[str, Any], path: Path) -> None:
    """Horizontal bars, one panel a model: medians, with the smallest and the largest round as whiskers."""
    models = result["models"]
    figure = Figure(figsize=(11, 1.2 + 1.6 * len(models)), layout="constrained")
    panels = figure.subplots(-(-len(models) // 2), 2, sharex=True, squeeze=False)
    for axes in panels.flat[len(models) :]:
        axes.set_visible(False)
    for axes, (name, model) in zip(panels.flat, models.items(), strict=False):
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
            axes.text(0.05, k, f"{middle:.2f}", va="center", ha="left", fontsize=7, color="white", weight="bold")
        axes.set_yticks(range(len(names)), names, fontsize=7)
        axes.invert_yaxis()
        axes.set_title(name, fontsize=9, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel(
        "cost of one step of CFG + STG, in conditional forward passes (orange: the bound of each)", fontsize=9
    )
    figure.savefig(path, dpi=160)
