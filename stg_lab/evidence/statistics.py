"""Estimates with 95 % intervals, and what may be concluded from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from stg_lab.evidence.subjects import PER_CAPTION
from stg_lab.metrics import bootstrap

RESAMPLES = 1000
ROUNDING = 1e-9  # sums of shares that cancel leave 1e-17, which must not decide anything
HOLDS, FAILS, OPEN = "holds here", "does not hold here", "undecided"


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval."""

    value: float
    low: float
    high: float

    def text(self, digits: int = 3) -> str:
        """For a table: "0.912 (0.880 to 0.941)"."""
        return f"{self.value:.{digits}f} ({self.low:.{digits}f} to {self.high:.{digits}f})"

    @property
    def above_zero(self) -> bool | None:
        """True or False where the interval lies on one side of zero, None where it does not or touches it."""
        return True if self.low > ROUNDING else False if self.high < -ROUNDING else None

    @property
    def below_zero(self) -> bool | None:
        """The same for the other side."""
        return None if self.above_zero is None else not self.above_zero

    def as_dict(self) -> dict[str, float]:
        return {"value": self.value, "low": self.low, "high": self.high}


def estimate(
    statistic: Callable[[np.ndarray], float] | np.ndarray,
    count: int | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    centre: bool = True,
) -> Estimate:
    """A statistic of videos with a percentile bootstrap interval (Efron 1979) that resamples whole captions.

    Videos of one caption (or first frame) are alike, so that they are drawn together or not at all.

    Args:
        statistic: from indices of videos to a number; or one value a video, whose mean is wanted.
        count: how many videos there are, caption by caption.
        resamples: how many resamples the interval is read from.
        seed: of the resampling; the same for every estimate, so that differences of estimates are paired.
        centre: move the interval so that the resamples' mean lies on the value. Right for statistics of sets such as the
            Frechet distance, which repetitions in a resample shift by themselves.
    """
    found = bootstrap(statistic, count, group=PER_CAPTION, resamples=resamples, seed=seed, centred=centre)
    return Estimate(found.value, found.low, found.high)


def mean(values: np.ndarray, unit: float = 0.0) -> Estimate:
    """Mean over videos.

    Args:
        values: one a video.
        unit: for what is counted, such as the share of videos that are right: how much one video more would change its own
            value, 1 for a share. Where nearly all are right, resamples hardly differ, and where all are they do not at all,
            though other videos might. So two captions more are drawn from, average ones but for one video that is right more
            and one that is right less; with n videos no interval is then narrower than about 3/n to each side, as by the
            rule of three (Jovanovic and Levy 1997).
    """
    if not unit:
        return estimate(values, centre=False)
    one = unit / PER_CAPTION
    drawn = np.concatenate([values, *(np.full(PER_CAPTION, values.mean() + change) for change in (one, -one))])
    found = estimate(drawn, centre=False)
    wider = (len(drawn) / len(values)) ** 0.5  # the two are no videos more that the mean would rest on
    return Estimate(found.value, *(found.value + wider * (end - found.value) for end in (found.low, found.high)))


def share(values: np.ndarray) -> Estimate:
    """Share of videos of which something is true (1, else 0)."""
    found = mean(values, unit=1.0)
    return replace(found, low=max(found.low, 0.0), high=min(found.high, 1.0))


def difference(one: np.ndarray, other: np.ndarray, unit: float = 0.0) -> Estimate:
    """Mean of `one - other`, video by video: both have the same seeds and captions. `unit` as for `mean`."""
    return mean(np.asarray(one, float) - np.asarray(other, float), unit)


def slope(x: Sequence[float], values: Sequence[np.ndarray], unit: float = 0.0) -> Estimate:
    """Least-squares slope of the means over x, with the same videos' seeds at every x. `unit` as for `mean`, at one x."""
    stacked, centred = np.stack(values).astype(float), np.asarray(x, float) - np.mean(x)
    weights = centred / (centred**2).sum()
    return mean(np.einsum("x,xv->v", weights, stacked), unit * np.abs(weights).max())


def conclude(*needed: bool | None) -> str:
    """The verdict on a claim from what it needs: each True, False, or None where the interval does not decide."""
    if any(one is False for one in needed):
        return FAILS
    return HOLDS if all(needed) else OPEN


def no_worse(difference: Estimate, margin: float) -> bool | None:
    """Whether a difference (higher is better) is no loss of more than a margin."""
    return True if difference.low > -margin else False if difference.high < -margin else None
