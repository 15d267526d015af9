"""The columns and panels that most findings have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stg_lab.evidence.claim import Bench, Line, Panel
from stg_lab.evidence.scores import Scores
from stg_lab.evidence.statistics import Estimate
from stg_lab.guidance import CFG, Guidance

RIGHT, GRAIN = "share right", "texture distance"
COLUMNS = {
    "right": RIGHT,
    "log_probability": "log-probability",
    "frechet": GRAIN,
    "diversity": "diversity within captions",
    "dynamic": "dynamic degree",
    "saturation": "saturation",
}


def cfg(scale: float) -> Guidance:
    """CFG alone; 1 is no guidance."""
    return Guidance() + CFG(float(scale))  # 1 and 1.0 are one setting, and belong in one folder


NONE = cfg(1)


def rows_of(found: Mapping[str, Scores], bench: Bench) -> list[dict[str, Any]]:
    """One row a setting."""
    return [row(name, s, bench) for name, s in found.items()]


def row(label: str, s: Scores, bench: Bench) -> dict[str, Any]:
    """The columns that most tables have."""
    costs = {"videos": s.videos, "passes": s.passes, "with prefix reuse": round(s.cost, 1)}
    return {"setting": label, **costs, **columns(s, bench.real)}


def columns(s: Scores, real: Scores) -> dict[str, Estimate]:
    """What is measured of every setting."""
    return {
        "right": s.mean("right"),
        "log-probability": s.mean("log_probability"),
        GRAIN: s.frechet(real),
        "content distance": s.content_distance(real),
        "coverage": s.coverage(real),
        "diversity": s.mean("diversity"),
        "dynamic degree": s.mean("dynamic"),
        "sharpness": s.mean("sharpness"),
        "saturation": s.mean("saturation"),
    }


def plane(found: Mapping[str, Scores], bench: Bench) -> Panel:
    """What is right, and how much grain there is: one axis for each, one point a setting. Right and low is good."""
    lines = [Line(name, [s.mean("right")], [s.frechet(bench.real)]) for name, s in found.items()]
    return Panel("what is right, and what it costs in grain", RIGHT, GRAIN, lines)


def panels_over(
    x: list[Any], scores: list[Scores], bench: Bench, xlabel: str, names: tuple[str, ...], level: Scores | None = None
) -> list[Panel]:
    """One panel a score, over a scale or over settings.

    Args:
        level: a setting to draw across the panels, to compare the others with: no guidance.
    """

    def estimate(name: str, s: Scores) -> Estimate:
        return s.frechet(bench.real) if name == "frechet" else s.mean(name)

    def panel(name: str) -> Panel:
        title = COLUMNS[name]
        lines = [Line("no guidance", x, [estimate(name, level)] * len(x))] if level and len(x) > 1 else []
        lines.append(Line("STG" if lines else "", x, [estimate(name, s) for s in scores]))
        # A texture distance is of a set of videos, not of each: rendered clips have none to themselves.
        real = None if name in ("frechet", "log_probability") else float(bench.real[name].mean())
        return Panel(title, xlabel, title, lines, real)

    return [panel(name) for name in names]
