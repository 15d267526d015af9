"""Guidance in the plane: where samples land, and where guidance vectors point."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from stg_lab.errors import CallError
from stg_lab.figures.style import print_style, said, scaled
from stg_lab.gaussians import MIXTURE, POINTS, Mixture, measure, strays
from stg_lab.given import Named, Number, Refused, takes
from stg_lab.palette import FIXED, SERIES

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

EXTENT = 1.9  # half the side of the square that is shown
WIDEST = 4  # panels in a row


class Pair:
    """A model and a weak one; a kind of `stg_lab.given`."""

    def read(self, value: Any) -> tuple[Mixture, Mixture]:
        if not isinstance(value, tuple | list) or len(value) != 2:
            raise Refused("a pair of mixtures, (model, weak)")
        return MIXTURE.read(value[0]), MIXTURE.read(value[1])


@takes(truth=MIXTURE, panels=Named(POINTS), other=MIXTURE)
def gaussian_samples(truth: Mixture, panels: Mapping[str, Tensor], *, other: Mixture | None = None) -> Figure:
    """Samples over the density that they should have come from, a panel a set.

    Args:
        truth: the density, in blue.
        panels: points `(point, 2)` by title; strays (see `gaussians.measure`) are drawn in red.
        other: a density that was not asked for, in grey.

    Returns:
        A matplotlib figure; below each panel stand its strays and its effective number of modes.

    Raises:
        CallError: no panels.
    """
    if not panels:
        raise CallError("give at least one set of points, for example {'samples': truth.draw(500)}.")
    with print_style():
        figure, axes = _axes(len(panels))
        for axis, (title, points) in zip(axes, panels.items(), strict=True):
            _density(axis, other, "#777777")
            _density(axis, truth, SERIES[0])
            stray = strays(points, truth).numpy()
            at = points.numpy()
            axis.scatter(*at[~stray].T, s=2.2, c="black", linewidths=0)
            axis.scatter(*at[stray].T, s=3.2, c=FIXED["cfg"], linewidths=0)
            found = measure(points, truth)
            axis.set_title(said(title))
            axis.set_xlabel(said(f"{found['strays']:.0%} strays, {found['modes']:.1f} of {len(truth.weights)} modes"))
    return figure


@takes(truth=MIXTURE, pairs=Named(Pair()), sigma=Number(0, above=True))
def gaussian_vectors(truth: Mixture, pairs: Mapping[str, tuple[Mixture, Mixture]], *, sigma: float = 0.3) -> Figure:
    """Guidance vectors `model - weak`, in terms of E[x_0 | x_t], at one noise level.

    Arrows are stretched for each panel by the factor that stands below it, since guidance vectors differ much in length.

    Args:
        truth: the clean density, in blue; arrows stand where noisy points are found.
        pairs: model and weak model by title.
        sigma: the noise level.

    Returns:
        A matplotlib figure.

    Raises:
        CallError: no pairs, or a noise level that is not above 0.
    """
    if not pairs or not sigma > 0:
        raise CallError(
            f"give pairs {{title: (model, weak)}} and a sigma above 0, got {len(pairs)} pairs and sigma {sigma}."
        )
    line = torch.linspace(-EXTENT, EXTENT, 19, dtype=torch.float64)
    x = torch.cartesian_prod(line, line)
    level = truth.log_density(x, sigma)
    x = x[level > level.max() - 4]
    with print_style():
        figure, axes = _axes(len(pairs))
        for axis, (title, (model, weak)) in zip(axes, pairs.items(), strict=True):
            _density(axis, truth, SERIES[0])
            vector = model.denoise(x, sigma) - weak.denoise(x, sigma)
            stretch = 0.35 / float(vector.norm(dim=1).quantile(0.9))
            arrows = (stretch * vector).T.numpy()
            axis.quiver(*x.T.numpy(), *arrows, angles="xy", scale_units="xy", scale=1, width=0.006, color="black")
            axis.set_title(said(title))
            axis.set_xlabel(said(f"σ = {sigma:g}, arrows × {stretch:.2g}"))
    return figure


def _axes(count: int) -> tuple[Figure, list[Any]]:
    import matplotlib.pyplot as plt

    columns = min(count, WIDEST)
    rows = -(-count // columns)
    figure = plt.figure(figsize=(scaled(1.9) * columns, scaled(2.2) * rows), layout="constrained")
    axes = [figure.add_subplot(rows, columns, k + 1) for k in range(count)]
    for axis in axes:
        axis.set(xlim=(-EXTENT, EXTENT), ylim=(-EXTENT, EXTENT), aspect="equal", xticks=[], yticks=[])
        axis.spines[:].set(visible=True, color="#bbbbbb")
    plt.close(figure)  # the figure shows itself as a cell's value, once
    return figure, axes


def _density(axis: Any, mixture: Mixture | None, colour: str) -> None:
    """A tint as strong as the density's square root, so that thin parts are seen."""
    if mixture is None:
        return
    from matplotlib.colors import to_rgb

    level = mixture.picture(EXTENT, 160)
    tint = np.empty((160, 160, 4))
    tint[..., :3], tint[..., 3] = to_rgb(colour), 0.6 * level
    axis.imshow(tint, extent=(-EXTENT, EXTENT) * 2, interpolation="bilinear")
