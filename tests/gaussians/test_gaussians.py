"""The mixture's closed forms against differentiation and simulation, the sampler against the mixture, guidance against algebra."""

import math

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from stg_lab import gaussians
from stg_lab.errors import CallError
from stg_lab.gaussians import Mixture, guided, measure, noise, noise_levels, sweep, trajectory, two_arms

POINTS = 1.5 * noise(40, seed=3)


@pytest.fixture(scope="module")
def arms():
    return two_arms()


def single(mean=(0.0, 0.0), deviation=1.0):
    return Mixture(torch.ones(1), torch.tensor([mean]), deviation**2 * torch.eye(2)[None], torch.zeros(1))


@pytest.mark.parametrize("sigma", [0.0, 0.1, 2.0])
def test_the_density_is_that_of_torchs_own_mixture(arms, sigma):
    widened = arms.covariances + sigma**2 * torch.eye(2)
    theirs = MixtureSameFamily(Categorical(arms.weights), MultivariateNormal(arms.means, widened))
    torch.testing.assert_close(arms.log_density(POINTS, sigma), theirs.log_prob(POINTS))


@pytest.mark.parametrize("sigma", [0.05, 0.3, 2.0, 10.0])
def test_the_score_is_the_gradient_of_the_log_density(arms, sigma):
    x = POINTS.clone().requires_grad_()
    [gradient] = torch.autograd.grad(arms.log_density(x, sigma).sum(), x)
    torch.testing.assert_close(arms.score(POINTS, sigma), gradient)


def test_the_score_is_what_finite_differences_find(arms):
    small, sigma = 1e-5, 0.3
    for axis in (0, 1):
        shift = small * torch.eye(2, dtype=torch.float64)[axis]
        rise = arms.log_density(POINTS + shift, sigma) - arms.log_density(POINTS - shift, sigma)
        torch.testing.assert_close(arms.score(POINTS, sigma)[:, axis], rise / (2 * small), rtol=1e-5, atol=1e-6)


def test_the_denoiser_of_one_gaussian_is_the_known_shrinkage():
    mixture, sigma = single((0.5, -1.0), 0.7), 1.3
    mean = mixture.means[0]
    expected = mean + 0.7**2 / (0.7**2 + sigma**2) * (POINTS - mean)
    torch.testing.assert_close(mixture.denoise(POINTS, sigma), expected, rtol=1e-6, atol=1e-6)


def test_the_denoiser_is_the_mean_of_clean_points_that_could_have_been(arms):
    """By Bayes' rule over many clean points, without any formula of Gaussians' products."""
    clean, sigma, x = arms.draw(200_000), 0.5, torch.tensor([[0.4, 0.6], [-1.0, 0.2]], dtype=torch.float64)
    for point, found in zip(x, arms.denoise(x, sigma), strict=True):
        weight = torch.softmax(-((point - clean) ** 2).sum(1) / (2 * sigma**2), 0)
        torch.testing.assert_close(found, weight @ clean, rtol=0, atol=0.01)


def test_classes_are_parts_of_the_whole(arms):
    both = 0.5 * arms.given(0).log_density(POINTS, 0.2).exp() + 0.5 * arms.given(1).log_density(POINTS, 0.2).exp()
    torch.testing.assert_close(arms.log_density(POINTS, 0.2).exp(), both)


def test_blurring_is_adding_noise_and_moving_is_moving(arms):
    torch.testing.assert_close(arms.blurred(0.3).log_density(POINTS, 0.4), arms.log_density(POINTS, 0.5))
    moved = arms.moved(0.2, -0.1)
    torch.testing.assert_close(moved.score(POINTS, 0.3), arms.score(POINTS - torch.tensor([0.2, -0.1]), 0.3))


def test_drawn_points_have_the_mixtures_mean_and_covariance(arms):
    assert_moments(arms.given(0).draw(20_000), arms.given(0), 0.02)


def test_unguided_samples_have_the_mixtures_mean_and_covariance(arms):
    truth = arms.given(0)
    levels = noise_levels()
    assert_moments(trajectory(truth.denoise, levels[0] * noise(4000), levels)[-1], truth, 0.05)


def assert_moments(points, mixture, near):
    mean = mixture.weights @ mixture.means
    second = mixture.covariances + torch.einsum("mi,mj->mij", mixture.means, mixture.means)
    covariance = torch.einsum("m,mij->ij", mixture.weights, second) - torch.outer(mean, mean)
    torch.testing.assert_close(points.mean(0), mean, rtol=0, atol=near)
    torch.testing.assert_close(torch.cov(points.T), covariance, rtol=0, atol=near)


def test_the_sampler_follows_the_known_path_of_one_gaussian():
    """The flow of a Gaussian at 0 only shrinks: x(sigma) = x(start) sqrt(s^2 + sigma^2) / sqrt(s^2 + start^2)."""
    levels = noise_levels(400)
    start = levels[0] * noise(20)
    path = trajectory(single(deviation=0.5).denoise, start, levels)
    for k in (100, 250, 400):
        shrunk = math.sqrt(0.25 + levels[k] ** 2) / math.sqrt(0.25 + levels[0] ** 2)
        torch.testing.assert_close(path[k], start * shrunk, rtol=1e-3, atol=1e-3)


def test_guidance_by_a_blurred_gaussian_is_a_gaussian_of_known_precision():
    """For one mode the guided score is linear, with precision (1 + w) / v - w / v_weak at every noise level."""
    model, weak, w, sigma = single(deviation=0.6), single(deviation=1.1), 1.5, 0.4
    precision = (1 + w) / (0.36 + sigma**2) - w / (1.21 + sigma**2)
    score = (guided(model, weak, w)(POINTS, sigma) - POINTS) / sigma**2
    torch.testing.assert_close(score, -precision * POINTS, rtol=1e-5, atol=1e-6)


def test_scale_zero_is_the_model_itself(arms):
    truth = arms.given(0)
    assert torch.equal(guided(truth, arms, 0.0)(POINTS, 0.3), truth.denoise(POINTS, 0.3))


def test_measures_know_right_from_wrong(arms):
    truth = arms.given(0)
    right = measure(truth.draw(4000, seed=5), truth)
    assert right["strays"] == pytest.approx(0.01, abs=0.006)
    assert right["modes"] == pytest.approx(9, abs=0.1)
    assert right["width"] == pytest.approx(1, abs=0.05)
    assert measure(arms.given(1).draw(500), truth)["strays"] > 0.9
    assert measure(truth.only(torch.arange(9) == 4).draw(500), truth)["modes"] < 2
    assert measure(truth.means, truth)["width"] == pytest.approx(0, abs=1e-9)


def test_a_sweep_is_the_runs_it_is_made_of(arms):
    truth = arms.given(0)
    model, weak = truth.blurred(0.1), truth.blurred(0.2)
    swept = sweep(model, {"blurred": weak, "all": arms}, truth, scales=(0, 2), count=50, steps=8)
    levels = noise_levels(8)
    alone = trajectory(guided(model, weak, 2.0), levels[0] * noise(50), levels)
    found = torch.from_numpy(swept.points.sel(weak="blurred", scale=2).values)
    torch.testing.assert_close(found, alone.float())
    assert swept.modes.sel(weak="blurred", scale=2) == pytest.approx(measure(alone[-1], truth)["modes"])
    assert (swept.points.sel(scale=0, weak="all") == swept.points.sel(scale=0, weak="blurred")).all()


def test_what_cannot_be_is_refused(arms):
    with pytest.raises(CallError, match=r"class 2 is not there; choose one of \[0, 1\]"):
        arms.given(2)
    with pytest.raises(CallError, match="no mode is left"):
        arms.only(torch.zeros(18, dtype=torch.bool))
    with pytest.raises(CallError, match="divide them by their sum"):
        Mixture(torch.ones(2), torch.zeros(2, 2), torch.eye(2).expand(2, 2, 2), torch.zeros(2))
    with pytest.raises(CallError, match=r"2 modes need means \(2, 2\)"):
        Mixture(torch.ones(2) / 2, torch.zeros(3, 2), torch.eye(2).expand(2, 2, 2), torch.zeros(2))
    with pytest.raises(CallError, match="got 1 steps"):
        noise_levels(1)
    with pytest.raises(CallError, match="needs a weak model and a scale"):
        sweep(arms, {}, arms)


def test_it_is_a_public_module():
    import stg_lab as lab

    assert lab.gaussians is gaussians
