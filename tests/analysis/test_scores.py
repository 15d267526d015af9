"""Scores of guidance vectors: closed forms, and every score by a second way to compute it."""

import numpy as np
import pytest
import xarray as xr
from scipy.stats import spearmanr

from stg_lab.analysis import rank_correlation
from stg_lab.guidance import scores as s

SHAPE = (3, 4, 5, 6, 7)  # sample, channel, frame, y, x


def noise(seed, shape=SHAPE):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


C, U, P, X, Y = (noise(seed) for seed in range(5))


def spectral(g, axes):
    """Share of a spectrum that is not at frequency zero along some axes of one sample."""
    power = np.abs(np.fft.fftn(g.astype(np.float64), axes=axes)) ** 2
    constant = power[tuple(slice(0, 1) if axis in axes else slice(None) for axis in range(g.ndim))]
    return 1 - constant.sum() / power.sum()


def gradient(x):
    """Sharpness of one sample, written out."""
    down = [np.mean((frame[1:] - frame[:-1]) ** 2) for frame in x.astype(np.float64).reshape(-1, *x.shape[-2:])]
    right = [np.mean((frame[:, 1:] - frame[:, :-1]) ** 2) for frame in x.astype(np.float64).reshape(-1, *x.shape[-2:])]
    return np.mean(down) + np.mean(right)


def angle(a, b):
    """Cosine by the correlation that is left when no mean is taken away."""
    a, b = (v.astype(np.float64).ravel() for v in (a, b))
    return np.dot(a / np.linalg.norm(a), b / np.linalg.norm(b))


def test_every_score_has_a_second_way_to_compute_it():
    found = s.scores(C, P, U, X, Y)
    assert list(found) == list(s.SCORES)
    for i in range(len(C)):
        g, cfg = C[i] - P[i], C[i] - U[i]
        expected = {
            "rms": np.sqrt(np.mean(g.astype(np.float64) ** 2)),
            "l2": np.linalg.norm(g.ravel()),
            "ratio": np.linalg.norm(g.ravel()) / np.linalg.norm(cfg.ravel()),
            "cosine_cfg": angle(g, cfg),
            "cosine_cond": angle(g, C[i]),
            "x0_distance": np.linalg.norm((Y[i] - X[i]).ravel()) / np.linalg.norm(X[i].ravel()),
            "spatial_energy": spectral(g, (2, 3)),
            "temporal_energy": spectral(g, (1,)),
            "sharpness_lost": 1 - gradient(Y[i]) / gradient(X[i]),
        }
        for name, value in expected.items():
            assert found[name][i] == pytest.approx(value, rel=1e-5), name


def test_a_sample_does_not_depend_on_its_batch():
    whole = s.scores(C, P, U, X, Y)
    alone = s.scores(*(a[1:2] for a in (C, P, U, X, Y)))
    assert all(whole[name][1] == alone[name][0] for name in s.SCORES)


def test_a_vector_along_cfg_has_cosine_one_and_its_share_of_the_length():
    found = s.scores(C, C - 0.25 * (C - U), U, X, Y)
    assert np.allclose(found["cosine_cfg"], 1)
    assert np.allclose(found["ratio"], 0.25)
    assert np.allclose(s.scores(C, 2 * C, U, X, Y)["cosine_cond"], -1)


@pytest.mark.parametrize(("axes", "shape"), [((2,), (2, 3, 1, 4, 4)), ((3, 4), (2, 3, 5, 1, 1))])
def test_what_is_constant_has_no_energy_that_varies(axes, shape):
    constant = np.broadcast_to(noise(7, shape), (2, 3, 5, 4, 4))
    assert (s.varying(constant, axes) < 1e-30).all()
    assert np.allclose(s.varying(constant - constant.mean(tuple({2, 3, 4} - set(axes)), keepdims=True), axes), 0)
    zero_mean = noise(8) - noise(8).mean(axes, keepdims=True)
    assert np.allclose(s.varying(zero_mean, axes), 1)


def test_energies_of_a_constant_and_an_alternating_part_are_their_shares():
    frames = np.array([1.0, -1.0, 1.0, -1.0])[None, None, :, None, None]
    g = np.ones((1, 2, 4, 3, 3)) * 3 + 4 * frames  # 9 constant, 16 alternating
    assert s.varying(g, (2,)) == pytest.approx(16 / 25)
    assert s.varying(g, (3, 4)) == pytest.approx(0)


def test_sharpness_of_a_ramp_is_its_slope_squared_and_blur_loses_it():
    ramp = np.broadcast_to(np.arange(6.0) * 0.5, (1, 1, 2, 5, 6))
    assert s.sharpness(ramp) == pytest.approx(0.25)
    assert s.scores(C[:1], P[:1], None, ramp, 0.5 * ramp)["sharpness_lost"] == pytest.approx(0.75)
    assert s.sharpness(np.ones((2, 1, 2, 5, 6))).tolist() == [0, 0]


def test_sharpness_can_be_measured_on_decoded_frames():
    def decode(latents):
        return np.repeat(np.moveaxis(latents, 1, -1)[..., :1], 3, axis=-1) * 2

    assert np.allclose(s.sharpness(X, decode), 4 * s.sharpness(X[:, :1]))


def test_what_has_no_direction_and_no_reference_is_nan():
    nothing = s.scores(C, C, U, X, X)
    assert (nothing["l2"] == 0).all()
    assert (nothing["x0_distance"] == 0).all()
    assert (nothing["sharpness_lost"] == 0).all()
    assert all(np.isnan(nothing[n]).all() for n in ("cosine_cfg", "cosine_cond", "spatial_energy", "temporal_energy"))
    without = s.scores(C, P, None, X, Y)
    assert np.isnan(without["ratio"]).all()
    assert np.isnan(without["cosine_cfg"]).all()
    assert np.isfinite(without["cosine_cond"]).all()


def test_every_score_says_what_it_is():
    for score in s.SCORES.values():
        assert all(score.attrs().values())


# ---- rank correlation ----


def arrays(seed, samples=40, noise_level=1.0, shape=(6, 3)):
    draw = np.random.default_rng(seed)
    truth = draw.standard_normal(shape)[..., None]
    pair = [truth + noise_level * draw.standard_normal((*shape, samples)) for _ in range(2)]
    return [xr.DataArray(a, dims=("layer", "part", "sample"), coords={"layer": range(shape[0])}) for a in pair]


def test_rank_correlation_is_spearmans_of_the_means():
    a, b = arrays(0)
    found = rank_correlation(a, b)
    expected = spearmanr(a.mean("sample").values.ravel(), b.mean("sample").values.ravel()).statistic
    assert float(found.rho) == pytest.approx(expected)
    assert int(found.models) == 18
    assert found.low <= found.rho <= found.high


def test_the_interval_is_that_of_an_explicit_bootstrap():
    a, b = arrays(1, samples=12)
    draw, drawn = np.random.default_rng(99), []
    for _ in range(4000):
        chosen = draw.integers(12, size=12)
        drawn.append(spearmanr(*(x.values[..., chosen].mean(-1).ravel() for x in (a, b))).statistic)
    found = rank_correlation(a, b)
    assert float(found.low) == pytest.approx(np.quantile(drawn, 0.025), abs=0.02)
    assert float(found.high) == pytest.approx(np.quantile(drawn, 0.975), abs=0.02)


def test_ranks_do_not_care_for_scale_and_the_interval_shrinks_with_samples():
    a, _ = arrays(2)
    same = rank_correlation(a, np.exp(a.mean("sample")) * xr.ones_like(a))
    assert float(same.rho) == pytest.approx(1)
    widths = []
    for samples in (5, 400):
        found = rank_correlation(*arrays(3, samples=samples))
        widths.append(float(found.high - found.low))
    assert widths[1] < widths[0] / 2


def test_weak_models_that_one_of_the_two_lacks_are_left_out():
    a, b = arrays(4)
    b = b.where(b.layer != 2)
    expected = spearmanr(*(x.sel(layer=[0, 1, 3, 4, 5]).mean("sample").values.ravel() for x in (a, b))).statistic
    found = rank_correlation(a, b)
    assert float(found.rho) == pytest.approx(expected)
    assert int(found.models) == 15
    assert float(rank_correlation(a, b.isel(layer=[0, 1, 3, 4, 5])).rho) == pytest.approx(expected)


def test_each_step_has_its_own_correlation():
    a, b = arrays(5)
    both = rank_correlation(xr.concat([a, a], "step"), xr.concat([b, -a], "step"))
    assert both.rho.values == pytest.approx([float(rank_correlation(a, b).rho), -1])


def test_what_does_not_fit_is_told():
    a, b = arrays(6)
    with pytest.raises(ValueError, match="no dimension sample"):
        rank_correlation(a.mean("sample"), b)
    with pytest.raises(ValueError, match="in common"):
        rank_correlation(a, b.assign_coords(layer=range(10, 16)))
