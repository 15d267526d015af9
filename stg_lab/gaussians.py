"""Guidance in two dimensions: a mixture of Gaussians whose scores are known exactly, so that every effect is guidance's own.

Noise is added as `x_t = x_0 + sigma * noise` (Karras et al. 2022, EDM). Flow matching's `(1 - s) x_0 + s * noise` is the same
path with `sigma = s / (1 - s)`, seen through a zoom. The idea of studying guidance by a weak model on a mixture in the plane
is that of Karras et al. 2024 (Autoguidance, section 3); this mixture and its measures are the lab's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from stg_lab.errors import CallError
from stg_lab.given import Called, Having, Named, Number, Of, Refused, Several, Whole, real, shown, takes

#: (points, noise level) -> the expected clean points E[x_0 | x_t].
Denoiser = Callable[[Tensor, float], Tensor]


@dataclass(frozen=True)
class Mixture:
    """A mixture of Gaussians in the plane, float64.

    Attributes:
        weights: `(mode,)`, adding up to 1.
        means: `(mode, 2)`.
        covariances: `(mode, 2, 2)`.
        labels: `(mode,)`, the class of each mode.

    >>> one = Mixture(torch.ones(1), torch.zeros(1, 2), torch.eye(2)[None], torch.zeros(1))
    >>> one.denoise(torch.tensor([[2.0, 0.0]]), sigma=1.0).tolist()  # halfway to the mean, since noise is as wide as the data
    [[1.0, 0.0]]

    Raises:
        CallError: shapes that do not fit, or weights that do not add up to 1.
    """

    weights: Tensor
    means: Tensor
    covariances: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        for name in ("weights", "means", "covariances"):
            object.__setattr__(self, name, getattr(self, name).to(torch.float64))
        modes = len(self.weights)
        shapes = [tuple(x.shape) for x in (self.means, self.covariances, self.labels)]
        if shapes != [(modes, 2), (modes, 2, 2), (modes,)]:
            raise CallError(
                f"{modes} modes need means ({modes}, 2), covariances ({modes}, 2, 2), labels ({modes},); got {shapes}."
            )
        if not torch.isclose(self.weights.sum(), torch.ones((), dtype=torch.float64)) or (self.weights < 0).any():
            raise CallError(
                f"weights are shares that add up to 1, got {self.weights.tolist()}; divide them by their sum."
            )

    def __repr__(self) -> str:
        return f"Mixture({len(self.weights)} modes, classes {sorted(set(self.labels.int().tolist()))})"

    def only(self, keep: Tensor) -> Mixture:
        """The mixture of some modes alone: `keep` is a boolean per mode.

        Raises:
            CallError: no mode is left.
        """
        if not keep.any():
            raise CallError("no mode is left; keep at least one.")
        weights = self.weights[keep]
        return Mixture(weights / weights.sum(), self.means[keep], self.covariances[keep], self.labels[keep])

    def given(self, label: int) -> Mixture:
        """The density of one class, p(x | label).

        Raises:
            CallError: there is no such class.
        """
        classes = sorted(set(self.labels.int().tolist()))
        if label not in classes:
            raise CallError(f"class {label} is not there; choose one of {classes}.")
        return self.only(self.labels == label)

    def blurred(self, width: float) -> Mixture:
        """Every mode broadened by a Gaussian of standard deviation `width`: what a model has learnt that cannot draw as sharp."""
        return replace(self, covariances=self.covariances + width**2 * torch.eye(2, dtype=torch.float64))

    def moved(self, x: float, y: float) -> Mixture:
        """The mixture at another place."""
        return replace(self, means=self.means + torch.tensor([x, y], dtype=torch.float64))

    def log_modes(self, x: Tensor, sigma: float = 0.0) -> Tensor:
        """log(weight * density) of each mode at noise level `sigma`: `(point, 2)` -> `(point, mode)`."""
        covariance = self.blurred(sigma).covariances
        apart = x.to(torch.float64)[:, None] - self.means
        distance = torch.einsum("pmi,mij,pmj->pm", apart, torch.linalg.inv(covariance), apart)
        return self.weights.log() - 0.5 * (distance + torch.logdet(covariance)) - math.log(2 * math.pi)

    def log_density(self, x: Tensor, sigma: float = 0.0) -> Tensor:
        """log p(x; sigma), the density of the data with noise of level `sigma`: `(point, 2)` -> `(point,)`."""
        return self.log_modes(x, sigma).logsumexp(1)

    def score(self, x: Tensor, sigma: float) -> Tensor:
        """The gradient of `log_density` with respect to `x`, in closed form: `(point, 2)` -> `(point, 2)`."""
        x = x.to(torch.float64)
        share = self.log_modes(x, sigma).softmax(1)  # how probably each mode made the point
        pull = torch.einsum("mij,pmj->pmi", torch.linalg.inv(self.blurred(sigma).covariances), self.means - x[:, None])
        return (share[..., None] * pull).sum(1)

    def denoise(self, x: Tensor, sigma: float) -> Tensor:
        """E[x_0 | x_t = x], the best guess of the clean point, by Tweedie's formula: `x + sigma**2 * score`."""
        return x + sigma**2 * self.score(x, sigma)

    def draw(self, count: int, *, seed: int = 0) -> Tensor:
        """Points from the mixture itself, `(count, 2)`."""
        generator = torch.Generator().manual_seed(seed)
        mode = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        noise = torch.randn(count, 2, 1, generator=generator, dtype=torch.float64)
        return self.means[mode] + (torch.linalg.cholesky(self.covariances)[mode] @ noise)[..., 0]

    def picture(self, extent: float, size: int) -> np.ndarray:
        """The square root of the density on a grid, which shows thin parts too: `(size, size)` from 0 to 1, rows from the top.

        Args:
            extent: half the side of the square around the origin.
            size: cells along a side.
        """
        line = torch.linspace(-extent, extent, size, dtype=torch.float64)
        y, x = torch.meshgrid(line.flip(0), line, indexing="ij")
        level = (0.5 * self.log_density(torch.stack([x, y], -1).view(-1, 2))).exp().view(size, size)
        return (level / level.max()).numpy()


@dataclass(frozen=True)
class Points:
    """Points in the plane, a finite tensor `(point, 2)`; a kind of `stg_lab.given`."""

    def read(self, value: Any) -> Tensor:
        real = isinstance(value, Tensor) and not value.is_complex() and value.ndim == 2 and value.shape[1] == 2
        if real and len(value) and bool(value.isfinite().all()):
            return value
        raise Refused("a tensor of finite points (point, 2)")


MIXTURE = Of(Mixture, "a mixture, such as stg_lab.gaussians.two_arms()")
SWEPT = Having(("sizes", "points", "strays", "modes", "width"), "a dataset of stg_lab.gaussians.sweep")
POINTS, ABOVE, COUNT = Points(), Number(0, above=True), Whole(1, 10_000_000)


@takes(beads=Whole(1, 10_000), turns=ABOVE, length=ABOVE, thickness=ABOVE)
def two_arms(beads: int = 9, *, turns: float = 0.85, length: float = 0.11, thickness: float = 0.035) -> Mixture:
    """Two spiral arms wound around each other, class 0 and class 1, each a chain of `beads` Gaussians of equal weight.

    Every bead is a mode, of standard deviation `length` along its arm and `thickness` across. Arms end 1.6 from the middle.

    >>> two_arms()
    Mixture(18 modes, classes [0, 1])
    """
    reach, turn = 1.6, 2 * math.pi * turns
    place = torch.linspace(0.28, 1.0, beads, dtype=torch.float64)
    arms = []
    for label in (0, 1):
        angle = turn * place + math.pi * label
        outward = torch.stack([angle.cos(), angle.sin()], 1)
        onward = torch.stack([-angle.sin(), angle.cos()], 1)
        along = outward + turn * place[:, None] * onward  # the arm's direction, d(means)/d(place)
        line = torch.einsum("mi,mj->mij", along, along) / (along**2).sum(1)[:, None, None]
        covariances = length**2 * line + thickness**2 * (torch.eye(2, dtype=torch.float64) - line)
        arms.append((reach * place[:, None] * outward, covariances, torch.full((beads,), label)))
    means, covariances, labels = (torch.cat(parts) for parts in zip(*arms, strict=True))
    return Mixture(torch.full((2 * beads,), 1 / (2 * beads)), means, covariances, labels)


@takes(model=MIXTURE, weak=MIXTURE)
def guided(model: Mixture, weak: Mixture, scale: float | Tensor) -> Denoiser:
    """The one equation: `cond + scale (cond - weak)`, in terms of E[x_0 | x_t].

    Args:
        model: the density that the model has learnt for what is asked for.
        weak: the weak model; the mixture of all classes makes CFG, whose scale is one more in diffusers' convention.
        scale: a number, or `(point, 1)` for one a point.
    """

    if not isinstance(scale, Tensor) and not math.isfinite(math.nan if (number := real(scale)) is None else number):
        raise CallError(
            f"scale is a finite number, or a tensor (point, 1), got {shown(scale)}. Type for example scale=1.0."
        )

    def denoise(x: Tensor, sigma: float) -> Tensor:
        cond = model.denoise(x, sigma)
        return cond + scale * (cond - weak.denoise(x, sigma))

    return denoise


@takes(steps=Whole(1, 100_000), high=ABOVE, low=ABOVE)
def noise_levels(steps: int = 32, *, high: float = 10.0, low: float = 0.01) -> list[float]:
    """Noise levels from `high` down to `low` and then 0, `steps + 1` in all, closer together below (EDM, eq. 5 with rho = 7).

    Raises:
        CallError: fewer than two steps, or levels that do not go down.
    """
    if steps < 2 or not 0 < low < high:
        raise CallError(
            f"noise levels take 2 steps or more and 0 < low < high, got {steps} steps from {high} to {low}."
        )
    ends = high ** (1 / 7), low ** (1 / 7)
    return [(ends[0] + k / (steps - 1) * (ends[1] - ends[0])) ** 7 for k in range(steps)] + [0.0]


@takes(count=COUNT)
def noise(count: int, *, seed: int = 0) -> Tensor:
    """Standard normal points `(count, 2)`, the same for the same seed."""
    return torch.randn(count, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@takes(denoise=Called("points and a noise level"), start=POINTS, levels=Several(Number(0), lone=False))
def trajectory(denoise: Denoiser, start: Tensor, levels: Sequence[float]) -> Tensor:
    """The probability-flow ODE `dx/dsigma = (x - denoise(x, sigma)) / sigma`, by Heun's method (EDM, algorithm 1).

    Args:
        denoise: a mixture's `denoise`, or a guided one.
        start: `(point, 2)`, `levels[0]` times standard normal noise.
        levels: noise levels from high to low.

    Returns:
        `(level, point, 2)`: where each point is at each level; the samples are the last.
    """
    if not all(a > b for a, b in pairwise(levels)):
        raise CallError(
            f"levels go down, from noise to 0, got {shown(levels)}. Type for example levels=noise_levels(32)."
        )
    x, path = start, [start]
    for sigma, lower in pairwise(levels):
        slope = (x - denoise(x, sigma)) / sigma
        ahead = x + (lower - sigma) * slope
        if lower > 0:
            slope = (slope + (ahead - denoise(ahead, lower)) / lower) / 2
        x = x + (lower - sigma) * slope
        path.append(x)
    return torch.stack(path)


@takes(points=POINTS, truth=MIXTURE)
def strays(points: Tensor, truth: Mixture) -> Tensor:
    """Which points lie where the true density is lower than at 99 % of true points: `(point, 2)` -> boolean `(point,)`."""
    edge = truth.log_density(truth.draw(20_000, seed=1)).quantile(0.01)
    return truth.log_density(points) < edge


@takes(points=POINTS, truth=MIXTURE)
def measure(points: Tensor, truth: Mixture) -> dict[str, float]:
    """How good and how varied samples are, against the true density.

    Args:
        points: `(point, 2)`.
        truth: what they should have come from.

    Returns:
        - `strays`: share of the points that are `strays`; 0.01 is right;
        - `modes`: effective number of modes, the exponential of the entropy of how the points share out among the modes;
        - `width`: mean squared distance from the nearest mode, in that mode's own standard deviations, over that of true points;
          1 is right, below 1 points crowd the middle of their modes.
    """
    true = truth.draw(20_000, seed=1)
    share = truth.log_modes(points).softmax(1).mean(0)
    entropy = -torch.xlogy(share, share).sum()
    return {
        "strays": float(strays(points, truth).double().mean()),
        "modes": float(entropy.exp()),
        "width": float(_apart(points, truth) / _apart(true, truth)),
    }


def _apart(points: Tensor, truth: Mixture) -> Tensor:
    apart = points[:, None] - truth.means
    return torch.einsum("pmi,mij,pmj->pm", apart, torch.linalg.inv(truth.covariances), apart).amin(1).mean()


@takes(
    model=MIXTURE,
    truth=MIXTURE,
    weak=Named(MIXTURE),
    scales=Several(Number(), lone=False),
    count=COUNT,
    steps=Whole(1, 100_000),
)
def sweep(
    model: Mixture,
    weak: Mapping[str, Mixture],
    truth: Mixture,
    *,
    scales: Sequence[float] = (0, 0.5, 1, 1.5, 2, 3, 4, 6, 8, 12),
    count: int = 600,
    steps: int = 32,
    seed: int = 0,
) -> xr.Dataset:
    """Samples from the same noise with several weak models at several scales, and how good they are.

    Args:
        model: what is guided.
        weak: weak models by name.
        truth: what samples should have come from.
        scales: weights of `model - weak`; 0 is no guidance.
        count: how many points each.
        steps: of the sampler.
        seed: of the noise.

    Returns:
        Dataset with `points` `(weak, scale, sigma, point, axis)`, and `strays`, `modes` and `width` `(weak, scale)`, see
        `measure`.

    Raises:
        CallError: no weak model or no scale.
    """
    if not weak or not len(scales):
        raise CallError(
            "a sweep needs a weak model and a scale, for example weak={'blurred': model.blurred(0.2)}, scales=[0, 1]."
        )
    levels = noise_levels(steps)
    start = levels[0] * noise(count, seed=seed)
    each = torch.tensor(scales, dtype=torch.float64).repeat_interleave(count)[:, None]  # all scales are one batch
    points, scores = [], []
    for one in weak.values():
        path = trajectory(guided(model, one, each), start.repeat(len(scales), 1), levels)
        path = path.unflatten(1, (len(scales), count)).transpose(0, 1)
        points.append(path.to(torch.float32).numpy())
        scores.append([list(measure(ends, truth).values()) for ends in path[:, -1]])
    dims, table = ("weak", "scale"), np.array(scores)
    return xr.Dataset(
        {
            "points": ((*dims, "sigma", "point", "axis"), np.stack(points)),
            **{name: (dims, table[..., k]) for k, name in enumerate(("strays", "modes", "width"))},
        },
        coords={"weak": list(weak), "scale": list(map(float, scales)), "sigma": levels, "axis": ["x", "y"]},
    )
