"""Spectra of guidance vectors: whether they act on large shapes or fine detail, on what stays or what moves."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from stg_lab.analysis.vectors import each_step, labels
from stg_lab.recording import Source, recording_of


def vector_spectra(recording: Source) -> xr.Dataset:
    """Power spectra of every guidance vector, over space (rings of equal frequency) and over the latent frames.

    The mean over the channels (and over frames, or places) of the squared Fourier coefficients, scaled so that the powers of
    a spectrum add up to the vector's mean square (Parseval). No window is applied: a video's borders count as a jump.

    Args:
        recording: any recording with at least one branch beside `cond`.

    Returns:
        Dataset with dims `(vector, step, sample, ...)`, in squared units of the model's prediction:

        - `space (..., radius)`: power in each ring of the 2-D spectrum; `radius` is in cycles per latent pixel, and a ring
          is as wide as one cycle over the shorter side. The corners of the spectrum are in rings beyond 0.5;
        - `space_modes (radius)`: how many Fourier modes a ring holds. `space / space_modes` is flat for white noise;
        - `time (..., frequency)`: power at each temporal frequency in cycles per latent frame, both signs together; the
          first, 0, is what does not change over the frames;
        - `time_modes (frequency)`: 1 or 2, as above;
        - `space_mean`, `time_mean (vector, step, sample)`: the mean frequency, weighted by power.

        NaN where a branch was not computed.

    Raises:
        RecordingError: the recording has no guidance vector.
    """
    recording = recording_of(recording)
    sizes = recording.ds.sizes
    ring, radius = rings(sizes["y"], sizes["x"])
    frequency, both = np.fft.rfftfreq(sizes["frame"]), _modes_in_time(sizes["frame"])

    def measure(_step: int, _cond: np.ndarray, vectors: np.ndarray) -> dict[str, Any]:
        flat = np.abs(np.fft.fft2(vectors, norm="forward")) ** 2  # [vector, sample, channel, frame, y, x]
        flat = flat.mean((2, 3)).reshape(*vectors.shape[:2], -1)
        space = np.stack([flat[..., ring.ravel() == r].sum(-1) for r in range(len(radius))], -1)
        time = (np.abs(np.fft.rfft(vectors, axis=3, norm="forward")) ** 2).mean((2, 4, 5)) * both
        return {"space": space, "time": time}

    found = each_step(recording, measure)
    dims = {"space": "radius", "time": "frequency"}
    data: dict[str, Any] = {n: (("vector", "step", "sample", dims[n]), values) for n, values in found.items()}
    data["space_modes"] = ("radius", np.bincount(ring.ravel()))
    data["time_modes"] = ("frequency", both.astype(int))
    result = xr.Dataset(data, labels(recording) | {"radius": radius, "frequency": frequency})
    result["space_mean"] = _mean_frequency(result.space, result.radius)
    result["time_mean"] = _mean_frequency(result.time, result.frequency)
    result.radius.attrs.update(long_name="spatial frequency", units="cycles per latent pixel")
    result.frequency.attrs.update(long_name="temporal frequency", units="cycles per latent frame")
    result.space.attrs.update(long_name="power in a ring of spatial frequencies", units="1")
    result.time.attrs.update(long_name="power at a temporal frequency", units="1")
    return result


def rings(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The ring of each mode of a 2-D Fourier transform `(height, width)`, and each ring's radius in cycles per pixel."""
    distance = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :])
    side = min(height, width)
    found, ring = np.unique(np.floor(distance * side + 0.5), return_inverse=True)
    radius = found / side
    return ring.reshape(height, width), radius


def _modes_in_time(frames: int) -> np.ndarray:
    """How many modes of a full transform each frequency of a real one stands for."""
    both = np.full(frames // 2 + 1, 2.0)
    both[0] = 1
    if frames % 2 == 0:
        both[-1] = 1
    return both


def _mean_frequency(power: xr.DataArray, frequency: xr.DataArray) -> xr.DataArray:
    dim = str(frequency.name)
    total = power.sum(dim, skipna=False)
    mean = (power * frequency).sum(dim, skipna=False) / total.where(total > 0)
    mean.attrs.update(long_name="mean frequency, weighted by power")
    return mean
