"""Quality against diversity, as curves over guidance scales (Hyung et al. 2025, figure 4)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stg_lab import palette
from stg_lab.errors import CallError
from stg_lab.figures.points import Point, defaults, points_of, real_of
from stg_lab.figures.style import NARROW, SMALL, Sheet, Width, fitted, font, inches, print_style, said, scaled
from stg_lab.given import Number, Several, shown, takes
from stg_lab.metrics import METRICS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: What axes say of a column or metric; others stand there by their own name.
WORDS = {
    "right": "share of videos right",
    "caption_accuracy": "share of videos right",
    "diversity": "diversity within captions",
    "feature_diversity": "diversity within captions",
    "pixel_diversity": "pixel diversity within captions",
}
LOWER_IS_BETTER = {
    "Frechet distance",
    "content distance",
    *(n for n, m in METRICS.items() if m.higher_is_better is False),
}
COLOURS = {"CFG": palette.FIXED["cfg"], "CFG + STG": palette.FIXED["guided"], "STG": palette.WEAK[0]}
MARKERS = "osD^vPX"
Curves = dict[str, list[Point]]


@takes(real=Several(Number(), lone=False))
def quality_diversity(
    points: Any,
    *,
    quality: str | Callable[..., Any] | None = None,
    diversity: str | Callable[..., Any] | None = None,
    captions: Sequence[str] | None = None,
    real: tuple[float, float] | None = None,
    width: Width = "page",
) -> Figure:
    """Quality against diversity: a curve a method, a marker a scale, bars for 95 % intervals.

    What is measured here gets bootstrap intervals that resample whole captions, or Wilson's over captions where all videos
    are right.

    In a column the plane alone; over the page also quality and diversity against the scale.

    Args:
        points: one of

            - rows `(label, scale, quality, diversity)`, or dicts with these names. A number may be `(value, low, high)`, or
              the 95 % intervals follow as a fifth part, `((low, high), (low, high))`,
            - a finding of `make evidence`, or several: a path such as data/evidence/claim-01-digits-joint.json, or its values,
            - runs, or a dict of runs or videos `(video, frame, height, width, 3)` by `(label, scale)`: measured here.

        quality: what goes up: a column of the finding ("right" by default; "Frechet distance" as in the paper), or for
            videos one of `metrics.METRICS` of single videos ("caption_accuracy" by default, for digits) or a function from
            videos to one value each. For rows, what the axis says.
        diversity: what goes right: "diversity" by default; for videos "feature_diversity" (by the judge, for digits),
            "pixel_diversity", or a function.
        captions: one a video, where videos are given as arrays.
        real: quality and diversity of real videos, drawn as a star; a finding brings its own.
        width: "page", "column", or inches.

    Returns:
        A matplotlib figure; `lab.figures.save(figure, "quality_diversity")` writes PDF and PNG.

    Raises:
        CallError: what is given cannot be read as points.
        MetricError: videos that cannot be measured.
    """
    wide = inches(width)
    found = points_of(points, quality, diversity, captions)
    quality, diversity = (
        given or standard for given, standard in zip((quality, diversity), defaults(points), strict=True)
    )
    if real is not None and len(real) != 2:
        raise CallError(f"real is (quality, diversity) of real videos, got {shown(real)}.")
    real = real or real_of(points, str(quality), str(diversity))
    curves: Curves = {}
    for point in found:
        curves.setdefault(point.label, []).append(point)
    curves = {label: sorted(some, key=lambda p: p.scale) for label, some in curves.items()}
    names = (said(_name(quality, "quality")), said(_name(diversity, "diversity")))
    sheet = Sheet(wide, 2.5 if wide < NARROW else 2.9)
    with print_style():
        _draw(sheet, curves, names, real)
    for axes in sheet.figure.axes:  # of ticks that are made later, when the figure is drawn
        axes.tick_params(labelfontfamily=font())
    return sheet.figure


def _name(metric: Any, otherwise: str) -> str:
    if metric is None:
        return otherwise
    words = metric if isinstance(metric, str) else getattr(metric, "__name__", otherwise)
    return WORDS.get(words, words.replace("_", " ")) + (" (lower is better)" if words in LOWER_IS_BETTER else "")


def _draw(sheet: Sheet, curves: Curves, names: tuple[str, str], real: tuple[float, float] | None) -> None:
    left, top, bottom, edge = scaled(0.5), scaled(0.25), scaled(0.4), scaled(0.06)
    over = {label: some for label, some in curves.items() if any(math.isfinite(p.scale) for p in some)}
    panels = bool(over) and sheet.width >= NARROW
    across = (0.56 * sheet.width if panels else sheet.width - edge) - left
    plane = sheet.axes(left, top, across, sheet.height - top - bottom)
    _plane(plane, curves, names, real)
    plane.legend(
        loc="lower left", bbox_to_anchor=(0, 1.01), ncols=len(curves) + 1, frameon=False, borderaxespad=0,
        handletextpad=0.3, columnspacing=1.0, handlelength=1.6,
    )  # fmt: skip
    if not panels:
        return
    start, gap = left + across + scaled(0.68), 0.12
    tall = (sheet.height - top - bottom - gap) / 2
    for i, name in enumerate(names):
        axes = sheet.axes(start, top + i * (tall + gap), sheet.width - start - edge, tall)
        _over_scale(axes, over, "quality" if i == 0 else "diversity", None if real is None else real[i])
        axes.set_ylabel(fitted(name, tall))
        axes.tick_params(labelbottom=i == 1)
    axes.set_xlabel(said("guidance scale"))


def _plane(axes: Axes, curves: Curves, names: tuple[str, str], real: tuple[float, float] | None) -> None:
    for label, (colour, marker) in _looks(curves).items():
        some = curves[label]
        x, y = [p.diversity.value for p in some], [p.quality.value for p in some]
        across, along = _bars([p.diversity for p in some]), _bars([p.quality for p in some])
        axes.errorbar(x, y, xerr=across, yerr=along, fmt="none", ecolor=colour, elinewidth=0.6, alpha=0.5)
        axes.plot(x, y, color=colour, marker=marker, label=said(label))
        _scales(axes, some, colour, above=list(curves).index(label) % 2 == 0)
    if real is not None:
        axes.plot(
            [real[1]], [real[0]], marker="*", color="#000000", markersize=8, linestyle="none", label=said("real videos")
        )
    axes.margins(0.08)
    axes.set_xlabel(names[1])
    axes.set_ylabel(names[0])


def _scales(axes: Axes, points: Sequence[Point], colour: str, above: bool) -> None:
    """The scale beside each marker; neighbouring curves have theirs on other sides, for they begin at the same point."""
    where: Any = {"xytext": (3, 3), "ha": "left", "va": "bottom"}
    where = where if above else {"xytext": (-3, -3), "ha": "right", "va": "top"}
    for point in points:
        if math.isfinite(point.scale):
            place = (point.diversity.value, point.quality.value)
            axes.annotate(
                f"{point.scale:g}", place, textcoords="offset points", fontsize=scaled(SMALL), color=colour, **where
            )


def _over_scale(axes: Axes, curves: Curves, what: str, real: float | None) -> None:
    looks = _looks(curves)
    for label, some in curves.items():
        colour, marker = looks[label]
        some = [p for p in some if math.isfinite(p.scale)]
        x, found = [p.scale for p in some], [getattr(p, what) for p in some]
        axes.errorbar(
            x, [v.value for v in found], yerr=_bars(found), fmt="none", ecolor=colour, elinewidth=0.6, alpha=0.5
        )
        axes.plot(x, [v.value for v in found], color=colour, marker=marker, markersize=3)
    if real is not None:
        axes.axhline(real, color="#000000", linewidth=0.6, linestyle=":")


def _looks(curves: Curves) -> dict[str, tuple[str, str]]:
    """Colour and marker of each curve: a method's own colour where it has one, else the next that is free."""
    free = iter([c for c in palette.SERIES if c not in {COLOURS.get(label) for label in curves}] * len(curves))
    return {label: (COLOURS.get(label) or next(free), MARKERS[i % len(MARKERS)]) for i, label in enumerate(curves)}


def _bars(values: Sequence[Any]) -> np.ndarray:
    """How far intervals reach below and above their values; nowhere where they are not known."""
    below = [v.value - v.low for v in values]
    above = [v.high - v.value for v in values]
    return np.clip(np.nan_to_num(np.array([below, above])), 0, None)
