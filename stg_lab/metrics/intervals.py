"""95 % intervals: the bootstrap (Efron 1979) for means and for any statistic of a set, Wilson's for shares."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from stg_lab.errors import MetricError
from stg_lab.given import Flag, Number, Several, Whole, shown, takes
from stg_lab.metrics.arrays import numbers

RESAMPLES = 2000
AT_ONCE = 1_000_000  # clips of all resamples that are held at a time
Statistic = Callable[[Int[ndarray, " clip"]], float]


@dataclass(frozen=True)
class Interval:
    """A figure, the 95 % interval around it, and the number of clips that it rests on.

    NaN to NaN for a single clip, or where too few allow an interval.
    """

    value: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        if self.count == 1:
            return f"{self.value:.4g} (one clip)"
        if math.isnan(self.low):
            return f"{self.value:.4g} (too few clips for an interval)"
        return f"{self.value:.4g} ({self.low:.4g} to {self.high:.4g})"


@takes(MetricError, count=Whole(1), centred=Flag(), group=Whole(1), within=Several(Number(endless=True), lone=False))
def bootstrap(
    of: Float[ndarray, " clip"] | Statistic,
    count: int | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    centred: bool = False,
    group: int = 1,
    within: tuple[float, float] = (-math.inf, math.inf),
) -> Interval:
    """A mean or a statistic with its 95 % percentile interval: clips are drawn anew with replacement, `resamples` times.

    Args:
        of: one value a clip, whose mean is wanted; or a function from clip indices to a number, such as
            `lambda i: frechet_distance(features[i], reference)`.
        count: how many clips a function draws from.
        resamples: how often clips are drawn anew.
        seed: decides which.
        centred: shift the interval by the difference between the figure and the resamples' mean. For statistics of which
            drawing with replacement changes the level and not only the spread: the Frechet distance rises, because a resample
            holds fewer different clips, and the Vendi score falls.
        group: how many clips in a row belong together, such as those of one caption, and are drawn together or not at all.
        within: the least and the greatest value that the statistic can have; a shifted interval is cut off there.

    Raises:
        MetricError: no clips, values that are not finite, or a function without `count`, or a last group that is not whole.
    """
    if len(within) != 2 or not within[0] < within[1]:
        raise MetricError(f"within is (least, greatest), got {shown(within)}. Leave it out for no bounds.")
    if callable(of):
        if count is None:
            raise MetricError("bootstrap(function) needs count=..., the number of clips to draw from.")
        clips, statistics = count, lambda index: np.array([of(i) for i in index])
    else:
        values = numbers("bootstrap takes", of, "(clip,)").astype(np.float64)
        if values.ndim != 1 or not np.isfinite(values).all():
            raise MetricError(f"bootstrap needs one finite value a clip, got an array of shape {values.shape}.")
        clips, statistics = len(values), lambda index: values[index].mean(1)
    if clips < 1 or resamples < 1:
        raise MetricError(f"bootstrap needs at least one clip and one resample, got {clips} and {resamples}.")
    if clips % group:
        raise MetricError(f"bootstrap needs whole groups of {group} clips, got {clips} clips.")
    groups = np.arange(clips).reshape(-1, group)
    value = statistics(groups.reshape(1, -1))[0]
    if len(groups) == 1:
        return Interval(float(value), math.nan, math.nan, clips)  # one clip says nothing of others
    rng = np.random.default_rng(seed)
    at_once = min(resamples, max(1, AT_ONCE // clips))
    sizes = [at_once] * (resamples // at_once) + [resamples % at_once] * (resamples % at_once > 0)
    drawn = np.concatenate(
        [statistics(groups[rng.integers(len(groups), size=(size, len(groups)))].reshape(size, -1)) for size in sizes]
    )
    low, high = np.percentile(drawn, [2.5, 97.5]) + (value - drawn.mean() if centred else 0.0)
    low, high = np.clip((low, high), *within)
    return Interval(float(value), float(low), float(high), clips)


def share(right: Bool[ndarray, " clip"]) -> Interval:
    """The share of clips that are right, with Wilson's 95 % interval (1927).

    For values that are 0 or 1. The bootstrap cannot do it near the ends: where all of ten clips are right, so are all of
    every resample, and its interval is empty.

    Raises:
        MetricError: no clips, or values other than 0 and 1.
    """
    from scipy.stats import binomtest

    right = np.asarray(right) if hasattr(right, "dtype") else right
    flags = isinstance(right, np.ndarray) and right.dtype == bool
    values = numbers("a share takes", np.asarray(right, np.uint8) if flags else right, "(clip,)").astype(np.float64)
    if values.ndim != 1 or not len(values) or not np.isin(values, (0, 1)).all():
        raise MetricError(f"a share needs one value a clip, 0 or 1, got an array of shape {values.shape}.")
    if len(values) == 1:
        return Interval(float(values[0]), math.nan, math.nan, 1)
    low, high = binomtest(int(values.sum()), len(values)).proportion_ci(0.95, method="wilson")
    return Interval(float(values.mean()), float(low), float(high), len(values))


def paired_difference(
    a: Float[ndarray, " clip"] | Statistic, b: Float[ndarray, " clip"] | Statistic, count: int | None = None, **options
) -> Interval:
    """`a - b` with its interval where clip i of both was made from the same seed: both are drawn anew together.

    Args:
        a, b: two arrays of one value a clip, or two functions of clip indices.
        count: how many clips functions draw from.
        **options: `resamples`, `seed`, `centred` as for `bootstrap`.

    Raises:
        MetricError: arrays of different lengths, or an array beside a function.
    """
    if callable(a) and callable(b):
        return bootstrap(lambda i: a(i) - b(i), count, **options)
    if callable(a) or callable(b):
        raise MetricError("paired_difference needs two arrays or two functions, not one of each.")
    x, y = (numbers("paired_difference takes", z, "(clip,)").astype(np.float64) for z in (a, b))
    if x.shape != y.shape:
        raise MetricError(f"paired values need equal shapes, one value a seed, got {x.shape} and {y.shape}.")
    return bootstrap(x - y, **options)


@takes(MetricError)
def difference(
    a: Float[ndarray, " clip"], b: Float[ndarray, " clip2"], *, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Difference of the means of two sets that share no seeds: each is drawn anew by itself. `count` is the smaller one's.

    Raises:
        MetricError: no clips, or values that are not finite.
    """
    rng = np.random.default_rng(seed)
    means = []
    for given in (a, b):
        values = numbers("difference takes", given, "(clip,)").astype(np.float64)
        if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
            raise MetricError(f"a difference of means needs finite values, got an array of shape {values.shape}.")
        drawn = np.array([values[rng.integers(len(values), size=len(values))].mean() for _ in range(resamples)])
        means.append((values.mean(), drawn, len(values)))
    (one, drawn_one, n), (two, drawn_two, m) = means
    low, high = np.percentile(drawn_one - drawn_two, [2.5, 97.5])
    return Interval(float(one - two), float(low), float(high), min(n, m))
