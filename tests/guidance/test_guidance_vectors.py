"""Arithmetic on guidance vectors against plain loops over samples and frames, in float64."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kit.vectors import branches, samples

import stg_lab as lab
from stg_lab.guidance.vectors import along_first_direction, clip_norm, inner, norm, orthogonal, parallel, rescale, std

VIDEO = st.sampled_from([(1, 2, 3, 2, 1), (2, 1, 2, 2, 3)])
AB = branches("a", "b")
FRAMES = branches("a", "b", shapes=VIDEO)


def close(x, y):
    return np.allclose(x, y, rtol=1e-9, atol=1e-9)


def projected(a, b):
    """The part of a flat vector along another, by definition."""
    return np.zeros_like(a) if not b.any() else b * (a @ b) / (b @ b)


@given(AB)
def test_lengths_and_products_are_those_of_each_sample(v):
    a, b = v["a"], v["b"]
    assert close(inner(a, b).ravel(), [x @ y for x, y in samples(a, b)])
    assert close(norm(a).ravel(), [math.sqrt(x @ x) for (x,) in samples(a)])
    assert close(std(a).ravel(), [np.std(x) for (x,) in samples(a)])
    for result in (inner(a, b), norm(a), std(a)):
        assert result.shape == (len(a), *[1] * (a.ndim - 1))


@given(AB)
def test_per_batch_is_one_vector_of_all_samples(v):
    a, b = v["a"], v["b"]
    assert close(inner(a, b, "batch"), a.ravel() @ b.ravel())
    assert close(norm(a, "batch"), np.linalg.norm(a))
    assert close(std(a, "batch"), a.std())
    assert inner(a, b, "batch").shape == std(a, "batch").shape == (1,) * a.ndim


@given(AB)
def test_a_vector_is_its_parallel_and_its_orthogonal_part(v):
    a, b = v["a"], v["b"]
    along, across = parallel(a, b), orthogonal(a, b)
    for x, y, p, o in samples(a, b, along, across):
        assert close(p, projected(x, y))
        assert close(o, x - projected(x, y))
        assert abs(o @ y) <= 1e-9 * (1 + np.linalg.norm(x) * np.linalg.norm(y))
    assert close(orthogonal(across, b), across)


@pytest.mark.parametrize("axis", [1, 2])
@given(v=FRAMES)
def test_per_frame_every_frame_is_a_vector_of_its_own(v, axis):
    a, b = v["a"], v["b"]
    across = orthogonal(a, b, "frame", frame=axis)
    for i, f in np.ndindex(a.shape[0], a.shape[axis]):
        x, y, o = (np.take(z[i], f, axis - 1).ravel() for z in (a, b, across))
        assert close(o, x - projected(x, y))


@given(AB, st.floats(1e-3, 50))
def test_clipping_shortens_and_never_turns(v, longest):
    clipped = clip_norm(v["a"], longest)
    for x, c in samples(v["a"], clipped):
        length = np.linalg.norm(x)
        assert close(c, x if length <= longest else x * longest / length)
        assert length > longest or np.array_equal(c, x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("wrap", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])
def test_nothing_changes_the_precision(dtype, wrap):
    """A bound of 0.1 in float64 is not the float32 0.1, and float32 numbers do not become float64."""
    a, b = (wrap(np.random.default_rng(k).standard_normal((2, 3)).astype(dtype)) for k in (0, 1))
    made = [
        clip_norm(a, 0.1),
        orthogonal(a, b),
        rescale(a, b, 0.3),
        rescale(a, b, 0.3, "batch"),
        along_first_direction(a, b),
    ]
    assert {x.dtype for x in made} == {a.dtype}
    for (x,) in samples(np.asarray(made[0])):
        assert np.linalg.norm(x.astype(np.float64)) == pytest.approx(0.1, rel=1e-6 if dtype == np.float32 else 1e-14)


@given(AB, st.floats(0, 1), st.sampled_from(["sample", "batch"]))
def test_rescaling_gives_the_deviation_it_names(v, phi, per):
    """Lin et al. 2023: phi * x * std(cond) / std(x) + (1 - phi) * x; what has no deviation is left alone."""
    cond, x = v["a"], v["b"] + np.arange(v["b"][0].size).reshape(v["b"][0].shape)
    ours = rescale(x, cond, phi, per)
    for i in range(len(x)):
        over = slice(None) if per == "batch" else i
        expected = phi * x[i] * cond[over].std() / x[over].std() + (1 - phi) * x[i]
        assert close(ours[i], expected if x[over].std() > 1e-6 else ours[i])


# ---- tangential damping against an SVD ----


def by_svd(weak, cond):
    """The two rows' right singular vectors; of the weak row only the first is kept."""
    v = np.linalg.svd(np.stack([cond, weak]), full_matrices=False)[2]
    return (weak @ v[0]) * v[0]


@given(AB)
def test_the_first_singular_direction_is_that_of_an_svd(v):
    kept = along_first_direction(v["a"], v["b"])
    for weak, cond, k in samples(v["a"], v["b"], kept):
        s = np.linalg.svd(np.stack([cond, weak]), compute_uv=False)
        if s[0] - s[1] > 1e-3 * s[0]:  # else the direction is anyone's choice
            assert np.allclose(k, by_svd(weak, cond), rtol=1e-7, atol=1e-7)
        assert np.linalg.norm(k) <= np.linalg.norm(weak) * (1 + 1e-9) + 1e-12


@pytest.mark.parametrize(
    ("weak", "cond", "kept"),
    [
        ([0, 0], [0, 0], [0, 0]),
        ([3, 4], [0, 0], [3, 4]),
        ([0, 0], [3, 4], [0, 0]),
        ([3, 4], [3, 4], [3, 4]),
        ([3, 4], [-6, -8], [3, 4]),
        ([1, 0], [0, 2], [0, 0]),  # the longer of two orthogonal ones is the first direction
        ([2, 0], [0, 1], [2, 0]),
        ([1, 0], [0, 1], [1, 0]),  # no first direction: nothing is taken away
        ([1, 1], [1, -1], [1, 1]),
    ],
)
@pytest.mark.parametrize("size", [1e-12, 1.0, 1e6])
@pytest.mark.parametrize("wrap", [np.array, torch.tensor], ids=["numpy", "torch"])
def test_tangential_damping_of_special_pairs(weak, cond, kept, size, wrap):
    """In float32, and at every size: lengths enter as ratios alone."""
    weak, cond = (wrap(np.array([x], dtype=np.float32) * np.float32(size)) for x in (weak, cond))
    assert np.allclose(np.asarray(along_first_direction(weak, cond)) / size, [kept], atol=1e-6)


# ---- nothing divides by zero ----

ZERO, ONE = np.zeros((2, 3)), np.array([[1.0, 2, 3], [0, 0, 0]])
FLAT = np.array([[4.0, 4, 4], [1, 2, 3]])


@pytest.mark.parametrize("wrap", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])
def test_zero_vectors_give_numbers_and_are_left_as_they_are(wrap):
    zero, one, flat = wrap(ZERO), wrap(ONE), wrap(FLAT)
    with np.errstate(all="raise"):
        for a in (zero, one, flat):
            for b in (zero, one, flat):
                for result in (parallel(a, b), orthogonal(a, b), rescale(a, b, 0.5), along_first_direction(a, b)):
                    assert np.isfinite(np.asarray(result)).all()
        assert np.array_equal(orthogonal(one, zero), ONE)
        assert np.array_equal(clip_norm(zero, 1.0), ZERO)
        assert np.array_equal(rescale(flat, one, 1.0)[0], FLAT[0])
        assert np.array_equal(rescale(zero, one, 1.0, "batch"), ZERO)


@pytest.mark.parametrize("wrap", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])
def test_samples_that_are_single_numbers_stay_apart(wrap):
    """torch reads a sum over no dimension as one over all."""
    a, b = wrap(np.array([1.0, 2, -3])), wrap(np.array([2.0, 0, 5]))
    assert np.array_equal(inner(a, b), [2, 0, -15])
    assert np.array_equal(orthogonal(a, b), [0, 2, 0])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: inner(ONE, ONE, "row"), "'sample', 'frame' or 'batch', got 'row'"),
        (lambda: inner(ONE, ONE, "frame"), r"video of five dimensions, and this has the shape \(2, 3\)"),
    ],
)
def test_an_inner_product_that_cannot_be_is_refused(make, says):
    with pytest.raises(lab.GuidanceError, match=says):
        make()
