"""Quality and diversity at each scale: from numbers, from a finding of `make evidence`, or measured on videos."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stg_lab import metrics
from stg_lab.errors import CallError, did_you_mean
from stg_lab.figures.swept_scale import STG_NAME
from stg_lab.given import Number, read, shown
from stg_lab.guidance import CFG, STG
from stg_lab.metrics import Interval
from stg_lab.sampling import Run

#: Columns of a finding's table, and what its panels call them.
PANELS = {"right": "share right", "diversity": "diversity within captions"}


@dataclass(frozen=True)
class Point:
    """One setting: its curve, its place on the curve, and what was measured, with intervals where they are known."""

    label: str
    scale: float
    quality: Interval
    diversity: Interval


def defaults(given: Any) -> tuple[str | None, str | None]:
    """What quality and diversity are where it is not said: columns of a finding, metrics of videos, nothing of rows."""
    if _is_videos(given) or any(isinstance(item, Run) or _is_pair(item) for item in _listed(given)):
        return "caption_accuracy", "feature_diversity"
    return ("right", "diversity") if any(_is_finding(item) for item in _listed(given)) else (None, None)


def points_of(given: Any, quality: Any, diversity: Any, captions: Sequence[str] | None) -> list[Point]:
    """Points from whatever `quality_diversity` takes, in the order given.

    Raises:
        CallError: what is given cannot be read as points.
        MetricError: videos that cannot be measured.
    """
    standard = defaults(given)
    quality, diversity = quality or standard[0], diversity or standard[1]
    items = list(given.items()) if _is_videos(given) else _listed(given)
    if not items:
        raise CallError("there is nothing to draw: give rows (label, scale, quality, diversity), a finding, or runs.")
    points: list[Point] = []
    for item in items:
        if _is_finding(item):
            points += _of_finding(finding(item), quality, diversity)
        elif isinstance(item, Run) or _is_pair(item):
            points.append(_measured(item, quality, diversity, captions))
        else:
            points.append(_of_row(item))
    return list({(p.label, p.scale): p for p in reversed(points)}.values())[::-1]  # the first of each


def finding(item: Any) -> Mapping[str, Any]:
    """A finding as plain values: its file, the values in it, or an object with `rows` and `panels`.

    Raises:
        CallError: no such file, or no finding in it.
    """
    if isinstance(item, str | Path):
        path = Path(item)
        if not path.is_file():
            raise CallError(f"{path} is no file. Findings are written by `make evidence`, into data/evidence.")
        try:
            item = json.loads(path.read_text())
        except json.JSONDecodeError:
            item = None
        if _rows(item) is None:
            raise CallError(f"{path} is not a finding of `make evidence`: it has no rows.")
    if isinstance(item, Mapping):
        return item
    return {"rows": item.rows, "panels": getattr(item, "panels", [])}


def real_of(given: Any, quality: str, diversity: str) -> tuple[float, float] | None:
    """What a finding says of real clips, where it says both."""
    for item in _listed(given):
        if not _is_finding(item):
            continue
        real = {_field(p, "title"): _field(p, "real") for p in finding(item).get("panels", [])}
        both = [real.get(PANELS.get(name, name)) for name in (quality, diversity)]
        if all(value is not None for value in both):
            return float(both[0]), float(both[1])  # type: ignore[arg-type]
    return None


def _listed(given: Any) -> list[Any]:
    one = isinstance(given, str | Path | Run | Mapping) or _rows(given) is not None
    if not one and (isinstance(given, bytes) or not isinstance(given, Iterable)):
        raise CallError(f"give rows (label, scale, quality, diversity), a finding, or runs, got {shown(given)}.")
    return [given] if one else list(given)


def _rows(item: Any) -> Any:
    return item.get("rows") if isinstance(item, Mapping) else getattr(item, "rows", None)


def _is_finding(item: Any) -> bool:
    return isinstance(item, str | Path) or _rows(item) is not None


def _is_videos(given: Any) -> bool:
    return isinstance(given, Mapping) and all(isinstance(key, tuple) and len(key) == 2 for key in given)


def _is_pair(item: Any) -> bool:
    return isinstance(item, tuple) and len(item) == 2


def _field(item: Any, name: str) -> Any:
    return item.get(name) if isinstance(item, Mapping) else getattr(item, name, None)


def _of_finding(found: Mapping[str, Any], quality: str, diversity: str) -> list[Point]:
    points = []
    for row in found["rows"]:
        for name in (quality, diversity):
            if name not in row:
                columns = [column for column in row if column != "setting"]
                raise CallError(
                    f"a finding has no column {name!r}.{did_you_mean(name, columns)} It has: {', '.join(columns)}."
                )
        label, scale = _setting(str(row["setting"]))
        points.append(Point(label, scale, _interval(row[quality]), _interval(row[diversity])))
    return points


def _setting(words: str) -> tuple[str, float]:
    """The curve and scale of "CFG 3", "STG 0.5" or "CFG 3 + STG"; the first number is the scale."""
    number = re.search(r"(?<![\w.])\d+(\.\d+)?(?![\w.])", words)
    if number is None:
        return words, math.nan
    rest = words[: number.start()].rstrip() + words[number.end() :]
    return rest.strip(), float(number.group())


def _of_row(row: Any) -> Point:
    names = ("label", "scale", "quality", "diversity")
    if isinstance(row, Mapping) and all(name in row for name in names):
        row = tuple(row[name] for name in names)
    if not isinstance(row, Sequence) or isinstance(row, str) or len(row) not in (4, 5):
        raise CallError(
            f"{shown(row)} is no row: give (label, scale, quality, diversity), a dict with these names, or as a fifth part the "
            "95 % intervals ((quality low, high), (diversity low, high))."
        )
    label, scale, quality, diversity, *intervals = row
    if intervals:
        (a, b), (c, d) = intervals[0]
        quality, diversity = (quality, a, b), (diversity, c, d)
    return Point(
        str(label),
        math.nan if scale is None else read("scale", scale, Number()),
        _interval(quality),
        _interval(diversity),
    )


def _interval(value: Any) -> Interval:
    """A number, (value, low, high), or anything with these names."""
    if isinstance(value, int | float | np.number):
        return Interval(float(value), math.nan, math.nan, 0)
    parts = value if isinstance(value, Sequence) else [_field(value, name) for name in ("value", "low", "high")]
    if len(parts) != 3 or any(not isinstance(part, int | float | np.number) for part in parts):
        raise CallError(
            f"{shown(value)} is no estimate: give a number, (value, low, high), or a dict with these names."
        )
    return Interval(float(parts[0]), float(parts[1]), float(parts[2]), 0)


def _measured(item: Any, quality: Any, diversity: Any, captions: Sequence[str] | None) -> Point:
    (label, scale), videos = item if _is_pair(item) else (_scale_of(item), item)
    if isinstance(videos, Run):
        captions, videos = videos.captions, videos.video
    if captions is None:
        raise CallError("videos need captions=[...], one a video; runs bring their own.")
    values = [_values(name, np.asarray(videos, np.float32), list(captions)) for name in (quality, diversity)]
    group = _group(list(captions))
    return Point(str(label), float(scale), *(_estimated(v, group) for v in values))


def _estimated(values: np.ndarray, group: int) -> Interval:
    """Mean with its interval. Where all of a caption's videos are right for all captions, every resample says so too, and the
    bootstrap's interval is empty; Wilson's over the captions is not."""
    found = metrics.bootstrap(values, group=group)
    if found.low == found.high and found.value in (0.0, 1.0):
        wilson = metrics.share(values[::group])
        return Interval(found.value, wilson.low, wilson.high, found.count)
    return found


def _scale_of(run: Run) -> tuple[str, float]:
    """A run's curve and scale: the scale of STG where CFG is off, else of CFG."""
    terms = run.guidance.terms if run.guidance is not None else ()
    stg = sum(t.scale for t in terms if isinstance(t, STG) and isinstance(t.scale, int | float))
    cfg = next((t.scale for t in terms if isinstance(t, CFG) and isinstance(t.scale, int | float)), 1.0)
    if cfg == 1:
        return STG_NAME, stg
    return ("CFG", cfg) if not stg else (f"CFG + STG {stg:g}", cfg)


def _values(metric: str | Callable[..., Any], video: np.ndarray, captions: list[str]) -> np.ndarray:
    """One value a video."""
    if callable(metric):
        return np.asarray(metric(video), float)
    if metric == "caption_accuracy":
        return metrics.caption_accuracy(video, captions)["all three"].astype(float)
    if metric == "feature_diversity":
        return metrics.feature_diversity(metrics.judge_features(video), captions)
    if metric == "pixel_diversity":
        return metrics.pixel_diversity(video, captions)
    known = {m.name: m for m in metrics.METRICS.values() if m.of in ("video", "digits")}
    if metric not in known:
        names = [*known, "caption_accuracy", "feature_diversity", "pixel_diversity"]
        raise CallError(
            f"no metric {metric!r} of single videos.{did_you_mean(metric, names)} There is: {', '.join(names)}."
        )
    values = known[metric].load()(video)
    return np.asarray(values[0] if isinstance(values, tuple) else values, float)


def _group(captions: list[str]) -> int:
    """How many videos in a row share a caption, where that is the same for all: they are resampled together."""
    first = next((i for i, c in enumerate(captions) if c != captions[0]), len(captions))
    groups = [captions[i : i + first] for i in range(0, len(captions), first)]
    alike = all(len(g) == first and len(set(g)) == 1 for g in groups)
    return first if alike and len(groups) > 1 else 1
