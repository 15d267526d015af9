"""Measuring files: every metric that fits them, with 95 % intervals, as a table."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from stg_lab.errors import MetricError
from stg_lab.files import written
from stg_lab.given import Of, Place, Several, Text, takes
from stg_lab.metrics import diversity, sets
from stg_lab.metrics.groups import Comparison, groups
from stg_lab.metrics.intervals import RESAMPLES, Interval, Statistic, bootstrap, difference, share
from stg_lab.metrics.measure import Measured, distances, finite, measure
from stg_lab.metrics.read import passed_over
from stg_lab.metrics.table import ALSO, METRICS, aligned

#: Videos on either side from which on a Frechet distance gets an interval: a resample of fewer holds so few different ones
#: that it tells more of the resampling than of the videos.
FEWEST = 16
FEWEST_MEANS = 8  # videos from which on anything gets an interval: resamples of fewer are nearly always too narrow


@dataclass(frozen=True)
class Row:
    """One line of the table: a figure of the videos, and beside it the reference's and the difference where there are."""

    metric: str
    value: Interval
    reference: Interval | None = None
    difference: Interval | None = None


@dataclass
class Table:
    """What `evaluate` found. Prints as text; `save` writes it as CSV or JSON by the file's ending."""

    rows: list[Row]
    clips: int
    reference_clips: int = 0
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    against: str = ""

    def __post_init__(self) -> None:
        """Few videos give no interval, whatever was measured."""
        self.rows = [_honest(row) for row in self.rows]
        few = min(self.clips, self.reference_clips or self.clips)
        if 1 < few < FEWEST_MEANS:
            self.notes.append(f"no intervals: they need {FEWEST_MEANS} videos or more, got {few}")

    def __getitem__(self, metric: str) -> Row:
        return next(row for row in self.rows if row.metric == metric)

    def __str__(self) -> str:
        head: tuple[str, ...] = ("metric", "value (95 % interval)", "clips", "better")
        compared = any(row.reference for row in self.rows)
        if compared:
            head = (*head[:2], "reference", "difference", *head[2:])
        rows = [head]
        for row in self.rows:
            middle = tuple(str(x or "") for x in (row.reference, row.difference)) if compared else ()
            metric = METRICS.get(row.metric.partition(": ")[0])
            rows.append((row.metric, str(row.value), *middle, str(row.value.count), metric.better if metric else ""))
        notes = (f"note: {note}" for note in self.notes)
        return "\n".join([aligned(rows), *(f"left out: {reason}" for reason in self.left_out), *notes])

    @takes(MetricError)
    def save(self, path: str | Path) -> None:
        """Write the table; every interval as its value, low, high and count.

        Raises:
            MetricError: the name ends neither in .csv nor in .json.
        """
        save({"": self}, Path(path))

    @property
    def facts(self) -> dict[str, Any]:
        """All of it as plain values."""
        rows = [{k: v and _plain(v) if k != "metric" else v for k, v in vars(row).items()} for row in self.rows]
        told = {"clips": self.clips, "reference_clips": self.reference_clips}
        return {**told, "left_out": self.left_out, "notes": self.notes, "rows": rows}


def save(tables: Mapping[str, Table], path: Path) -> None:
    """Write tables by setting into one file; a lone one under "" stands for itself.

    Raises:
        MetricError: the name ends neither in .csv nor in .json.
    """
    check_out(path)
    lone = list(tables) == [""]
    with written(path) as file:
        if path.suffix == ".json":
            found: Any = tables[""].facts if lone else {name: table.facts for name, table in tables.items()}
            file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
            return
        ends = ("value", "low", "high", "count")
        names = [f"{part}{end}" for part in ("", "reference_", "difference_") for end in ends]
        with file.open("w", newline="", encoding="utf-8") as opened:
            writer = csv.writer(opened)
            writer.writerow([*([] if lone else ["setting"]), "metric", *names])
            for name, table in tables.items():
                for row in table.rows:
                    parts = [_plain(x) if x else {} for x in (row.value, row.reference, row.difference)]
                    cells = [p.get(k, "") for p in parts for k in ends]
                    writer.writerow([*([] if lone else [name]), row.metric, *cells])


def _honest(row: Row) -> Row:
    """The row without the intervals that rest on too few videos."""
    return replace(
        row,
        **{
            part: replace(found, low=math.nan, high=math.nan)
            for part in ("value", "reference", "difference")
            if (found := getattr(row, part)) is not None and found.count < FEWEST_MEANS
        },
    )


class Places:
    """One place of videos, or a list of them, which may be empty; a kind of `stg_lab.given`."""

    def read(self, value: Any) -> list[Path]:
        if isinstance(value, list | tuple) and not value:
            return []
        found = Several(Place()).read(value)
        return found if isinstance(found, list) else [found]


PLACES = Places()


def _plain(interval: Interval) -> dict[str, float | None]:
    """An interval for a file; bounds that a single clip leaves open are empty, since JSON has no NaN."""
    return {k: None if v != v else v for k, v in asdict(interval).items()}


def check_out(path: Path) -> None:
    """Refuse a file name that no table is written to, before anything is measured."""
    if path.suffix not in (".csv", ".json"):
        raise MetricError(f"a table is saved as .csv or .json, not as {path.name!r}.")


@takes(
    MetricError,
    videos=PLACES,
    against=PLACES,
    captions=Place(),
    videomae=Of(str | os.PathLike, "a folder or a repository id"),
    also=Several(Text(ALSO)),
)
def evaluate(
    videos: Sequence[str | Path],
    *,
    against: Sequence[str | Path] = (),
    captions: str | Path | None = None,
    judge: bool = False,
    videomae: str | Path | None = None,
    paired: bool = False,
    also: str | Sequence[str] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Table | Comparison:
    """Measure videos, and compare them with a reference.

    Videos of several settings are never pooled: recordings belong together by their guidance, other files by their folder. Each
    setting has a table of its own; without a reference they are compared with the first, in pairs where captions and seeds are the
    same.

    General metrics are measured of any video. What needs the judge is measured where `judge` says that the videos are of the
    digits world. Sets are compared in the judge's features then, and in VideoMAE's where its weights are given.

    Args:
        videos: files, folders, patterns, recordings, names of recordings that ship. Of a folder that holds recordings these
            count, and not the films beside them.
        against: the same for the reference.
        captions: a file with what each video was to show, for the diversity of each caption's videos and for the judge: .txt
            with a line a video, in order, or .json with a list of them or a table by file name. A recording brings its own.
        judge: the videos are of the digits world.
        videomae: folder or repository id of VideoMAE's weights.
        paired: video i of both sides was made from the same seed, so differences are taken video by video. Pairs of which one
            video has no value of a metric (no latents, no caption, too few frames) are left out of its difference and told. All
            that is given is then one side, whatever made it.
        also: metrics of the extra `metrics`, which take longer: "niqe", how far frames are from pristine pictures;
            "perceptual_change", how much is seen to change from frame to frame; "perceptual_distance", how far the two videos
            of each pair look apart, where there are pairs.
        resamples, seed: of the bootstrap.

    Returns:
        A table, or with several settings a `Comparison` of their tables; both print as text and have `save(path)`.

    Raises:
        MetricError: something that cannot be read or measured, or `paired` for different numbers of videos.
    """
    if not videos:
        raise MetricError("nothing to evaluate: give files, folders, or patterns such as 'out/*.mp4'.")
    wanted = {"judge": judge, "videomae": _videomae(videomae), "also": [also] if isinstance(also, str) else also or ()}
    options = {"resamples": resamples, "seed": seed}
    other = measure(against, **wanted) if against else None
    settings = groups(videos)
    if len(settings) < 2 or paired or captions is not None:
        mine = measure(videos, captions=captions, **wanted)
        if len(settings) > 1:
            told = "paired=True" if paired else "captions="
            mine.notes.append(f"{len(settings)} settings in one table, as {told} takes the videos in their order")
        return _table(mine, other, paired, options)
    measured = {name: measure(places, **wanted) for name, places in settings.items()}
    name, first = next(iter(measured.items()))
    for reason in passed_over(videos):
        first.leave_out(reason)
    tables = {name: _table(first, other, False, options)}
    for one, found in list(measured.items())[1:]:
        tables[one] = _table(found, other or first, other is None and found.pairs_with(first), options)
        if other is None:
            tables[one].against = f"compared with {name}{', in pairs' * found.pairs_with(first)}"
    return Comparison(tables)


def _table(mine: Measured, other: Measured | None, paired: bool, options: dict[str, Any]) -> Table:
    """One side measured, beside the other where there is one.

    Raises:
        MetricError: `paired` for different numbers of videos.
    """
    if paired and (other is None or other.count != mine.count):
        raise MetricError(
            f"paired videos come in equal numbers, got {mine.count} and {other.count if other else 'no reference'}."
        )
    rows = [*_rows(mine, other, paired, options), *_groups(mine, options)]
    if other is None:
        return Table(rows, mine.count, 0, mine.left_out, list(mine.notes))
    rows += _sets(mine, other, options)
    if paired and "perceptual_distance" in mine.also and len(apart := finite(distances(mine, other))):
        rows.append(Row("perceptual_distance", bootstrap(apart, **options)))
    left_out = [*mine.left_out, *(f"reference: {x}" for x in other.left_out)]
    return Table(rows, mine.count, other.count, left_out, [*mine.notes, *(f"reference: {x}" for x in other.notes)])


def _videomae(source: str | Path | None) -> Any:
    if source is None:
        return None
    from stg_lab.metrics.videomae import load_videomae

    return load_videomae(source)


def _rows(mine: Measured, other: Measured | None, paired: bool, options: dict[str, Any]) -> Iterator[Row]:
    """Means over videos, and their differences from the reference's; videos where a metric has no value do not count."""
    for name, values in mine.values.items():
        value = finite(values)
        if not len(value):
            continue
        interval = _share if name.startswith("caption_accuracy") else bootstrap
        beside = other.values.get(name, []) if other else []
        theirs = finite(beside)
        if not len(theirs):
            yield Row(name, interval(value, **options))
            continue
        apart = _paired(mine, name, values, beside, options) if paired else difference(value, theirs, **options)
        yield Row(name, interval(value, **options), interval(theirs, **options), apart)


def _paired(
    mine: Measured, name: str, values: list[float], beside: list[float], options: dict[str, Any]
) -> Interval | None:
    """The mean difference over the pairs where both videos have a value; None where there is no such pair."""
    apart = finite(np.subtract(values, beside))
    if len(apart) < len(values):
        mine.leave_out(
            f"{len(values) - len(apart)} of {len(values)} pairs from the difference in {name}, where a video has none"
        )
    return bootstrap(apart, **options) if len(apart) else None


def _share(values: ndarray, **_: Any) -> Interval:
    return share(values)


def _groups(mine: Measured, options: dict[str, Any]) -> Iterator[Row]:
    """What compares the videos with each other."""
    for source, features in mine.stacked().items():
        if len(features) > 1:
            vendi = bootstrap(
                _of(sets.vendi_score, features), len(features), centred=True, within=(1, len(features)), **options
            )
            yield Row(f"vendi_score: {source}", vendi)
        if mine.repeated:
            yield Row(
                f"feature_diversity: {source}",
                bootstrap(finite(diversity.feature_diversity(features, mine.captions)), **options),
            )
    if mine.repeated and mine.same_size:
        values = diversity.pixel_diversity(np.stack(mine.videos), mine.captions)
        yield Row("pixel_diversity", bootstrap(finite(values), **options))


def _sets(mine: Measured, other: Measured, options: dict[str, Any]) -> Iterator[Row]:
    """What compares the set of videos with the set of references, in each kind of features."""
    theirs = other.stacked()
    for source, x in mine.stacked().items():
        y = theirs[source]
        if min(len(x), len(y)) < 2:
            mine.leave_out(f"set metrics: they need two videos or more on either side, got {len(x)} and {len(y)}")
            continue
        yield Row(f"frechet_distance: {source}", _distance(mine, x, y, options))
        yield Row(f"nearest: {source}", bootstrap(sets.nearest(x, y)[0], **options))
        if min(len(x), len(y)) <= sets.K:
            mine.leave_out(f"precision, recall, density, coverage: they need more than {sets.K} videos on either side")
            continue
        yield Row(f"density: {source}", bootstrap(sets.density(x, y), **options))
        for metric in (sets.precision, sets.recall, sets.coverage):
            yield Row(f"{metric.__name__}: {source}", share(metric(x, y)))


def _distance(mine: Measured, x: ndarray, y: ndarray, options: dict[str, Any]) -> Interval:
    if min(len(x), len(y)) >= FEWEST:
        of = _of(sets.frechet_distance, x, y)
        return bootstrap(of, len(x), centred=True, within=(0, math.inf), **options)
    mine.leave_out(
        f"intervals of frechet_distance: they need {FEWEST} videos or more on either side, got {len(x)} and {len(y)}"
    )
    return Interval(sets.frechet_distance(x, y), math.nan, math.nan, len(x))


def _of(statistic: Callable[..., float], features: ndarray, *reference: ndarray) -> Statistic:
    """A statistic of features as a function of clip indices."""
    return lambda i: statistic(features[i], *reference)
