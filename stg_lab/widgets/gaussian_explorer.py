"""The explorer of guidance in the plane: samples under a scale and a weak model of choice."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import traitlets
import xarray as xr

from stg_lab.errors import CallError
from stg_lab.gaussians import MIXTURE, SWEPT, Mixture, strays
from stg_lab.given import Number, Text, takes
from stg_lab.palette import colour
from stg_lab.widgets.base import Explorer, Quantised, check_among, module, style
from stg_lab.widgets.still import Still, Strip

EXTENT, GRID = 1.9, 128  # half the side of the square that is shown; cells of the density's picture
FINER = 4  # pixels of a still for each such cell, each way


class GaussianExplorer(Explorer):
    """Samples of a sweep over scales and weak models, all on board. Make it with `gaussian_explorer`.

    Attributes:
        weak: name of the weak model.
        scale: one of the swept scales.
        level: which noise level is shown, from 0, pure noise, to the last, the samples.
        trails: whether the way of each point is drawn.
        playing: whether the noise level runs by itself.
    """

    _esm, _css = module("gaussian_explorer"), style("gaussian_explorer")
    STATE = ("weak", "scale", "level", "trails", "playing")

    weak = traitlets.Unicode("").tag(sync=True)
    scale = traitlets.Float(0.0).tag(sync=True)
    level = traitlets.Int(0).tag(sync=True)
    trails = traitlets.Bool(False).tag(sync=True)
    playing = traitlets.Bool(False).tag(sync=True)

    @traitlets.validate("weak")
    def _check_weak(self, proposal: Any) -> str:
        return check_among("weak", proposal["value"], tuple(self.view["weak"]))

    @traitlets.validate("scale")
    def _check_scale(self, proposal: Any) -> float:
        if proposal["value"] not in self.view["scales"]:
            raise CallError(f"scale {proposal['value']:g} was not swept; choose one of {self.view['scales']}.")
        return proposal["value"]

    @traitlets.validate("level")
    def _check_level(self, proposal: Any) -> int:
        if not 0 <= proposal["value"] < len(self.view["levels"]):
            raise CallError(f"level {proposal['value']} is out of range: 0 to {len(self.view['levels']) - 1}.")
        return proposal["value"]

    def still(self) -> Still:
        """The points of the level that is shown over the density that they should have come from, strays in another colour."""
        w, k = self.view["weak"].index(self.weak), self.view["scales"].index(self.scale)
        truth = self.numbers("truth")[..., None] / 255
        tint = 255 - truth * np.array([195, 105, 35])  # white to the explorer's blue
        pixels = np.kron(tint, np.ones((FINER, FINER, 1)))
        side, extent = len(pixels), self.view["extent"]
        places = (self.numbers("points")[w, k, self.level] * (1, -1) + extent) / (2 * extent) * side
        x, y = np.clip(places, 0, side - 1).astype(int).T
        pixels[y, x] = np.where(self.numbers("stray")[w, k][:, None] > 0, (213, 94, 0), (22, 24, 29))
        strip = Strip("samples", "#16181d", pixels.astype(np.uint8))
        return Still(f"Guidance in the plane, away from {self.weak} at scale {self.scale:g}", [strip])


@takes(swept=SWEPT, truth=MIXTURE, other=MIXTURE, weak=Text(), scale=Number())
def gaussian_explorer(
    swept: xr.Dataset,
    truth: Mixture,
    *,
    other: Mixture | None = None,
    weak: str | None = None,
    scale: float | None = None,
) -> GaussianExplorer:
    """Move through a sweep of `lab.gaussians.sweep`: scale, weak model and noise level, with strays and modes beside.

    Args:
        swept: the sweep.
        truth: the density that samples should have come from, tinted blue.
        other: a density that was not asked for, tinted grey.
        weak: the weak model to show first; the first by default.
        scale: the scale to show first; by default one in the middle.

    Returns:
        A widget; its state (`weak`, `scale`, `level`, `trails`, `playing`) can be set from Python.

    Raises:
        CallError: a weak model or scale that was not swept.
    """
    every = list(range(swept.sizes["sigma"] - 1, -1, -2))[::-1]  # half of the levels, the last among them
    kept = swept.isel(sigma=every)
    scales = [float(s) for s in swept.scale.values]
    names = [str(name) for name in swept.weak.values]
    ends = swept.points.isel(sigma=-1).values
    view = {
        "weak": names,
        "colours": [colour(name, names) for name in names],
        "scales": scales,
        "levels": [float(s) for s in kept.sigma.values],
        "modes": len(truth.weights),
        "extent": EXTENT,
    }
    arrays: dict[str, Any] = {
        "points": Quantised(kept.points.values),
        "stray": strays(torch.from_numpy(ends).flatten(0, 2), truth).numpy().reshape(ends.shape[:-1]).astype("u1"),
        "truth": _bytes(truth),
        **({"other": _bytes(other)} if other else {}),
        **{name: swept[name].values for name in ("strays", "modes", "width")},
    }
    first = {"weak": weak or names[0], "scale": scales[len(scales) // 2] if scale is None else float(scale)}
    return GaussianExplorer(view, None, arrays, **first, level=len(every) - 1)


def _bytes(mixture: Mixture) -> np.ndarray:
    return (255 * mixture.picture(EXTENT, GRID)).round().astype("u1")
