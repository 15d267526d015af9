"""Guidance vectors taken apart: how long in each frame and channel, which part lies along what, where in the picture.

A guidance vector is `cond - branch`; that of `guided` is `guided - cond`, the whole push. All lengths are root mean
squares, so they do not depend on a video's size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from stg_lab.errors import RecordingError
from stg_lab.given import Flag, takes
from stg_lab.guidance import COND, GUIDED, UNCOND
from stg_lab.recording import Recording, Source, recording_of
from stg_lab.recording.layout import LATENT_DIMS

CFG_VECTOR, X0 = "cfg", "x0"
ONTO = (COND, X0, CFG_VECTOR)


def vector_names(recording: Source) -> list[str]:
    """The branches that have a guidance vector: all but `cond`.

    Raises:
        RecordingError: there is none.
    """
    recording = recording_of(recording)
    names = [name for name in recording.branches if name != COND]
    if COND not in recording.branches or not names:
        raise RecordingError(
            f"this recording has no guidance vector, only: {', '.join(recording.branches)}. "
            "Record one with guidance=lab.CFG(4) or lab.Probe(lab.skip([5]))."
        )
    return names


def at_step(recording: Recording, step: int) -> tuple[np.ndarray, np.ndarray]:
    """The conditional prediction and all guidance vectors of one step, float64.

    Returns:
        `(sample, channel, frame, y, x)` and `(vector, sample, channel, frame, y, x)`; NaN where a branch was not computed.
    """
    order = ("sample", *LATENT_DIMS)
    now = recording.ds.prediction.isel(step=step).load()
    take = {name: now.sel(branch=name).transpose(*order).values.astype(np.float64) for name in recording.branches}
    cond = take[COND]
    vectors = [take[name] - cond if name == GUIDED else cond - take[name] for name in vector_names(recording)]
    return cond, np.stack(vectors)


def each_step(
    recording: Recording, measure: Callable[[int, np.ndarray, np.ndarray], dict[str, Any]]
) -> dict[str, np.ndarray]:
    """Measure every step by itself, so that one step's predictions are in memory at a time; steps become axis 1."""
    rows = [measure(k, *at_step(recording, k)) for k in range(recording.steps)]
    return {name: np.stack([row[name] for row in rows], axis=1) for name in rows[0]}


def labels(recording: Recording) -> dict[str, Any]:
    """Coordinates that every result here has."""
    ds = recording.ds
    found = {"vector": vector_names(recording), "step": ds.step.values, "sigma": ("step", ds.sigma.values)}
    return found | {name: ("sample", ds[name].values) for name in ("caption", "seed") if name in ds.coords}


def vector_lengths(recording: Source) -> xr.Dataset:
    """Root-mean-square length of every guidance vector, whole, in each latent frame, and in each latent channel.

    Args:
        recording: any recording with at least one branch beside `cond`.

    Returns:
        Dataset with dims `(vector, step, sample, ...)`, in the units of the model's prediction:

        - `norm (vector, step, sample)`: over everything;
        - `frames (..., frame)`: in each latent frame. The mean of their squares over the frames is `norm` squared;
        - `channels (..., channel)`: in each latent channel; the same holds.

        NaN where a branch was not computed.

    Raises:
        RecordingError: the recording has no guidance vector.
    """
    recording = recording_of(recording)

    def measure(_step: int, _cond: np.ndarray, vectors: np.ndarray) -> dict[str, Any]:
        squares = vectors**2  # [vector, sample, channel, frame, y, x]
        frames, channels = squares.mean((2, 4, 5)), squares.mean((3, 4, 5))
        return {"norm": frames.mean(2) ** 0.5, "frames": frames**0.5, "channels": channels**0.5}

    found = each_step(recording, measure)
    dims = {"norm": (), "frames": ("frame",), "channels": ("channel",)}
    data = {name: (("vector", "step", "sample", *dims[name]), values) for name, values in found.items()}
    result = xr.Dataset(data, labels(recording))
    for name, where in (("norm", ""), ("frames", " in each frame"), ("channels", " in each channel")):
        result[name].attrs.update(long_name=f"RMS of the guidance vector{where}", units="1")
    return result


def vector_parts(recording: Source) -> xr.Dataset:
    """The parts of every guidance vector along a direction and orthogonal to it.

    Three directions are looked at:

    - `cond`: the conditional prediction, as the model gives it;
    - `x0`: the conditional one-step prediction, the video that the model is aiming for. A vector changes x0 in proportion,
      so a positive part along it raises the contrast of that video (adaptive projected guidance: Sadat et al. 2024);
    - `cfg`: CFG's vector `cond - uncond` (as in the paper's eq. 21 between its spatial and temporal vectors).

    Args:
        recording: any recording with at least one branch beside `cond`.

    Returns:
        Dataset with dims `(vector, onto, step, sample)`, in the units of the model's prediction:

        - `parallel`: RMS of the part along the direction, negative where it points against it;
        - `orthogonal`: RMS of what remains. `parallel**2 + orthogonal**2` is the vector's mean square (Pythagoras);
        - `cosine`: of the angle between the two.

        NaN where a branch was not computed, where there is no `uncond`, and along x0 where a step starts with no signal.

    Raises:
        RecordingError: the recording has no guidance vector.
    """
    recording = recording_of(recording)
    names = vector_names(recording)
    a, b, x_t = recording.ds.x0_sample.values, recording.ds.x0_prediction.values, recording.ds.x_t

    def measure(step: int, cond: np.ndarray, vectors: np.ndarray) -> dict[str, Any]:
        nowhere = np.full_like(cond, np.nan)
        noisy = x_t.isel(step=step).transpose("sample", *LATENT_DIMS).values.astype(np.float64)
        x0 = np.sign(b[step]) * (a[step] * noisy + b[step] * cond) if np.isfinite(b[step]) else nowhere
        cfg = vectors[names.index(UNCOND)] if UNCOND in names else nowhere
        parts = [_split(vectors, direction) for direction in (cond, x0, cfg)]
        return {name: np.stack([part[name] for part in parts], axis=1) for name in parts[0]}

    rows = [measure(k, *at_step(recording, k)) for k in range(recording.steps)]
    data = {name: (("vector", "onto", "step", "sample"), np.stack([r[name] for r in rows], 2)) for name in rows[0]}
    result = xr.Dataset(data, labels(recording) | {"onto": list(ONTO)})
    result.parallel.attrs.update(long_name="RMS of the part along the direction, signed", units="1")
    result.orthogonal.attrs.update(long_name="RMS of the part orthogonal to the direction", units="1")
    result.cosine.attrs.update(long_name="cosine to the direction", units="1")
    return result


def _split(vectors: np.ndarray, direction: np.ndarray) -> dict[str, np.ndarray]:
    """Signed RMS of the part along, RMS of the rest, cosine, each `(vector, sample)`; a direction of zero has no part."""
    axes = (2, 3, 4, 5)
    count = float(np.prod(direction.shape[1:]))
    length = ((direction**2).sum((1, 2, 3, 4), keepdims=True)) ** 0.5
    unit = direction / np.where(length == 0, 1, length)
    along = (vectors * unit).sum(axes)
    rest = vectors - along[..., None, None, None, None] * unit
    whole = (vectors**2).sum(axes) ** 0.5
    cosine = np.where(whole == 0, np.nan, along / np.where(whole == 0, 1, whole))
    return {"parallel": along / count**0.5, "orthogonal": (rest**2).mean(axes) ** 0.5, "cosine": cosine}


@takes(pixels=Flag())
def vector_map(recording: Source, *, pixels: bool = False) -> xr.DataArray:
    """Where in the picture every guidance vector points: its RMS at each place of each frame.

    Args:
        recording: any recording with at least one branch beside `cond`.
        pixels: look at decoded pixels. Then it is how much the vector at weight 1 changes each pixel of the one-step
            prediction, RMS over red, green and blue, in units of the picture's range from 0 to 1, before clipping.

    Returns:
        `(vector, step, sample, frame, y, x)`, RMS over the latent channels; with pixels `(vector, step, sample, picture,
        height, width)`.

    Raises:
        RecordingError: no guidance vector, or `pixels=True` and a recording that cannot be shown without a model.
    """
    recording = recording_of(recording)
    b = recording.ds.x0_prediction.values

    def measure(step: int, _cond: np.ndarray, vectors: np.ndarray) -> dict[str, Any]:
        if not pixels:
            return {"there": (vectors**2).mean(2) ** 0.5}
        shown = np.stack([change_of_pixels(recording, v, b[step]) for v in vectors])
        return {"there": (shown.astype(np.float64) ** 2).mean(-1) ** 0.5}

    values = each_step(recording, measure)["there"]
    place = ("picture", "height", "width") if pixels else ("frame", "y", "x")
    name = "RMS of the change of the one-step prediction" if pixels else "RMS of the guidance vector over the channels"
    attrs = {"long_name": name, "units": "1"}
    return xr.DataArray(values, labels(recording), ("vector", "step", "sample", *place), "where", attrs)


def change_of_pixels(recording: Recording, vector: np.ndarray, factor: float) -> np.ndarray:
    """How a vector at weight 1 changes the decoded one-step prediction, `(sample, picture, height, width, 3)`, unclipped."""
    if not np.isfinite(factor):  # a step that starts with no signal
        vector, factor = np.full_like(vector, np.nan), 1.0
    moved = (factor * vector).astype(np.float32)
    return recording.preview(moved, clip=False) - recording.preview(np.zeros_like(moved), clip=False)
