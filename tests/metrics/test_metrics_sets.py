"""Set metrics and intervals, against closed forms, scipy, and second implementations by brute force."""

import math

import numpy as np
import pytest
from scipy import linalg, stats

from stg_lab import metrics
from stg_lab.errors import MetricError
from stg_lab.metrics import sets

rng = np.random.default_rng(0)


def with_moments(mean, covariance, n=400):
    """Points whose sample mean and covariance are exactly these."""
    x = np.random.default_rng(1).normal(size=(n, len(mean)))
    x -= x.mean(0)
    x @= np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T
    values, vectors = np.linalg.eigh(np.asarray(covariance, float))
    return x @ (vectors * np.sqrt(values.clip(0))).T + mean


def by_sqrtm(x, y):
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    return ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a + b - 2 * linalg.sqrtm(a @ b).real)


@pytest.mark.parametrize("d", [2, 8, 40])
def test_frechet_distance_is_that_of_scipys_matrix_root(d):
    x, y = rng.normal(size=(150, d)) @ rng.normal(size=(d, d)), 1 + rng.normal(size=(90, d)) @ rng.normal(size=(d, d))
    assert metrics.frechet_distance(x, y) == pytest.approx(by_sqrtm(x, y), rel=1e-8)
    assert metrics.frechet_distance(x, y) == pytest.approx(metrics.frechet_distance(y, x), rel=1e-10)


def test_frechet_distance_of_gaussians_with_axes_in_common_is_closed():
    # Commuting covariances: |m - m'|^2 + sum (s - s')^2.
    x, y = with_moments([0, 0, 0], np.diag([1.0, 4.0, 9.0])), with_moments([3, 0, 4], np.diag([4.0, 4.0, 1.0]))
    assert metrics.frechet_distance(x, y) == pytest.approx(25 + 1 + 0 + 4, rel=1e-10)
    assert metrics.frechet_distance(x, x) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("clips", "d"), [(200, 1), (200, 12), (9, 12)])
def test_frechet_distance_to_one_reference_is_the_same_for_every_set(clips, d):
    """Also for sets of too few clips to have a covariance of full rank, and for the reference itself."""
    rng = np.random.default_rng(7)
    reference = rng.normal(size=(300, d)) @ rng.normal(size=(d, d))
    to = sets.FrechetTo(reference)
    for _ in range(3):
        x = rng.normal(size=(clips, d)) * 1.5 + 1
        assert to(x) == pytest.approx(metrics.frechet_distance(x, reference), rel=1e-5)
    assert to(reference) == pytest.approx(0, abs=1e-5 * to.spread)


def test_frechet_distance_needs_no_full_rank():
    # Two segments at right angles: no overlap, so the traces add up.
    x, y = with_moments([0, 0, 0], np.diag([4.0, 0, 0])), with_moments([0, 0, 0], np.diag([0, 9.0, 0]))
    assert metrics.frechet_distance(x, y) == pytest.approx(13, rel=1e-10)
    few = rng.normal(size=(5, 64))  # rank 4 of 64
    assert metrics.frechet_distance(few, few + 1) == pytest.approx(64, rel=1e-9)
    assert metrics.frechet_distance(np.array([[0.0], [2.0]]), np.array([[1.0], [5.0]])) == pytest.approx(4 + 2)


def brute(x, y, k):
    """The four counts with loops and sorted lists, straight from the papers."""

    def ball(points, i):
        return sorted(math.dist(points[i], p) for j, p in enumerate(points) if j != i)[k - 1]

    rx, ry = [ball(x, i) for i in range(len(x))], [ball(y, j) for j in range(len(y))]
    near = [[math.dist(a, b) for b in y] for a in x]
    return {
        "precision": [any(near[i][j] <= ry[j] for j in range(len(y))) for i in range(len(x))],
        "recall": [any(near[i][j] <= rx[i] for i in range(len(x))) for j in range(len(y))],
        "density": [sum(near[i][j] <= ry[j] for j in range(len(y))) / k for i in range(len(x))],
        "coverage": [any(near[i][j] <= ry[j] for i in range(len(x))) for j in range(len(y))],
    }


@pytest.mark.parametrize("k", [1, 3, 5])
def test_counts_of_neighbours_are_those_of_the_papers(k):
    x, y = rng.normal(size=(25, 3)), 0.8 + 0.6 * rng.normal(size=(31, 3))
    for name, expected in brute(x.tolist(), y.tolist(), k).items():
        np.testing.assert_allclose(getattr(metrics, name)(x, y, k), expected, err_msg=name)


def test_counts_at_the_ends():
    x = rng.normal(size=(60, 4))
    for name in ("precision", "recall", "coverage"):
        assert getattr(metrics, name)(x, x).mean() == 1
        assert getattr(metrics, name)(x, x + 100).mean() == 0
    one_mode = x[:1] + 1e-6 * rng.normal(size=(60, 4))
    assert metrics.precision(one_mode, x).mean() == 1
    assert metrics.recall(one_mode, x).mean() < 0.1
    assert metrics.coverage(one_mode, x).mean() < 0.3


def test_vendi_score_counts_kinds():
    kinds = np.eye(7)[np.repeat(np.arange(4), 5)]  # four orthogonal kinds, five of each, in seven dimensions
    assert metrics.vendi_score(kinds) == pytest.approx(4)
    assert metrics.vendi_score(np.ones((9, 3))) == pytest.approx(1)
    assert metrics.vendi_score(np.eye(6)) == pytest.approx(6)
    x = rng.normal(size=(20, 50))  # fewer clips than features; both ways must agree
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    values = np.linalg.eigvals(unit @ unit.T / 20).real
    assert metrics.vendi_score(x) == pytest.approx(math.exp(stats.entropy(values)))
    assert metrics.vendi_score(np.vstack([x] * 4)) == pytest.approx(metrics.vendi_score(x))


def test_nearest_finds_copies():
    reference = rng.normal(size=(40, 6))
    distance, index = metrics.nearest(reference[[7, 30]] + 1e-3, reference)
    assert index.tolist() == [7, 30]
    np.testing.assert_allclose(distance, 1e-3 * math.sqrt(6), rtol=1e-9)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: metrics.frechet_distance(np.ones((1, 3)), np.ones((4, 3))), "with 2 clips or more, got (1, 3)"),
        (lambda: metrics.frechet_distance(np.ones((4, 2)), np.ones((4, 3))), "length 2 cannot be compared with"),
        (lambda: metrics.coverage(np.ones((9, 2)), np.ones((5, 2))), "need at least 6 clips in each set, got 5"),
        (lambda: metrics.vendi_score(np.zeros((3, 2))), "needs features with a direction"),
        (
            lambda: metrics.nearest(np.array([[np.nan]]), np.ones((2, 1))),
            "1 of 1 clips have features that are not finite",
        ),
        (lambda: metrics.bootstrap(lambda i: 0.0), "needs count=..."),
        (lambda: metrics.share(np.array([0.5])), "0 or 1"),
        (lambda: metrics.bootstrap(np.array([])), "at least one clip"),
        (lambda: metrics.bootstrap(np.array([1.0, np.nan])), "one finite value a clip"),
        (lambda: metrics.paired_difference(np.ones(3), np.ones(4)), "equal shapes"),
        (lambda: metrics.paired_difference(np.ones(3), lambda i: 0.0), "two arrays or two functions"),
    ],
)
def test_what_cannot_be_measured_is_refused(call, says):
    with pytest.raises(MetricError) as caught:
        call()
    assert says in str(caught.value)


def test_bootstrap_intervals_of_means_are_those_of_the_normal_law_and_of_scipy():
    values = rng.normal(3, 2, size=400)
    got = metrics.bootstrap(values)
    half = 1.96 * values.std() / 20
    assert got.value == pytest.approx(values.mean())
    assert got.high - got.low == pytest.approx(2 * half, rel=0.08)
    theirs = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=2000, rng=5).confidence_interval
    assert (got.low, got.high) == pytest.approx((theirs.low, theirs.high), abs=0.03)
    assert got == metrics.bootstrap(lambda i: values[i].mean(), 400)
    assert got != metrics.bootstrap(values, seed=1)


def test_bootstrap_intervals_hold_the_truth_as_often_as_they_say():
    draws = np.random.default_rng(3).exponential(size=(300, 60))
    held = [(i := metrics.bootstrap(x, resamples=300)).low <= 1 <= i.high for x in draws]
    assert 0.88 <= np.mean(held) <= 0.97


def test_a_centred_interval_holds_a_frechet_distance_that_resampling_inflates():
    x, y = rng.normal(size=(60, 10)), rng.normal(size=(2000, 10))

    def distance(i):
        return metrics.frechet_distance(x[i], y)

    plain, centred = (metrics.bootstrap(distance, 60, resamples=200, centred=c) for c in (False, True))
    assert plain.low > plain.value  # every resample holds copies, so all lie farther away
    assert centred.low < centred.value < centred.high
    assert centred.high - centred.low == pytest.approx(plain.high - plain.low)


@pytest.mark.parametrize(("right", "of"), [(0, 10), (5, 10), (48, 50)])
def test_shares_have_wilsons_intervals(right, of):
    got = metrics.share(np.arange(of) < right)
    z = stats.norm.ppf(0.975)
    # Wilson: the p at which the score test just fails to reject, (share - p)^2 = z^2 p (1 - p) / n.
    for p in (got.low, got.high):
        assert (right / of - p) ** 2 == pytest.approx(z * z * p * (1 - p) / of, abs=1e-12)
    assert got.low <= got.value <= got.high


def test_paired_differences_profit_from_equal_seeds():
    seeds = rng.normal(size=200)
    a, b = seeds + 0.1 + 0.01 * rng.normal(size=200), seeds
    paired, loose = metrics.paired_difference(a, b), metrics.difference(a, b)
    assert paired.value == pytest.approx((a - b).mean())
    assert loose.value == pytest.approx(paired.value)
    assert 0.09 < paired.low < paired.high < 0.11
    assert loose.low < 0 < loose.high
    same = metrics.paired_difference(lambda i: a[i].mean(), lambda i: b[i].mean(), 200)
    assert (same.low, same.high) == pytest.approx((paired.low, paired.high))
    half = 1.96 * math.sqrt(a.var() / 200 + b.var() / 200)
    assert loose.high - loose.low == pytest.approx(2 * half, rel=0.1)


def test_diversity_is_the_mean_distance_within_captions():
    x = np.array([[0.0, 0], [3, 4], [100, 0], [100, 1], [7, 7]])
    got = metrics.feature_diversity(x, ["a", "a", "b", "b", "alone"])
    np.testing.assert_allclose(got, [5, 5, 1, 1, np.nan])
    video = np.zeros((2, 2, 8, 8, 3)) + np.array([0.2, 0.5])[:, None, None, None, None]
    np.testing.assert_allclose(metrics.pixel_diversity(video, ["a", "a"]), 0.3, rtol=1e-6)
    with pytest.raises(MetricError, match="every caption given stands alone"):
        metrics.feature_diversity(x, list("abcde"))


def test_groups_are_drawn_whole():
    """A statistic sees every group whole or not at all; groups of one are the plain bootstrap."""
    values, seen = rng.normal(size=12), []
    metrics.bootstrap(lambda i: seen.append(i) or values[i].mean(), 12, group=4, resamples=20)
    assert len(seen) == 21
    assert all((i.reshape(-1, 4) == i[::4, None] + np.arange(4)).all() and (i[::4] % 4 == 0).all() for i in seen)
    assert metrics.bootstrap(values, group=1) == metrics.bootstrap(values)
    with pytest.raises(MetricError, match="whole groups of 5 clips, got 12"):
        metrics.bootstrap(values, group=5)
