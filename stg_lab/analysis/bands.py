"""What a weak model keeps of the picture and what it loses, coarse and fine parts apart."""

from __future__ import annotations

import numpy as np
import xarray as xr

from stg_lab.errors import RecordingError
from stg_lab.given import takes
from stg_lab.guidance import COND
from stg_lab.recording import Recording, Source, recording_of


@takes()
def kept(recording: Source, *, cut: float = 4.0) -> xr.Dataset:
    """How each branch's one-step prediction compares with that of `cond`, below and above a spatial frequency.

    A weak model of the kind that guidance wants is alike where the picture is coarse (the same idea) and unlike, or weaker, where
    it is fine (drawn worse). One number for sharpness cannot tell that: noise counts as sharp.

    Args:
        recording: one whose latents can be shown without a model.
        cut: cycles across the picture; frequencies below are `coarse`, the rest is `fine`.

    Returns:
        Dataset with dims `(branch, step, sample)` and, for the first two, `(band,)`, which is `coarse` or `fine`:

        - `alike`: correlation of the branch's x0 with that of `cond` in the band, over all frames and colours, from -1 to 1;
        - `power`: RMS of the branch's x0 in the band over that of `cond`: below 1 it is fainter, above 1 it has more there;
        - `distance`: RMS of their difference over the RMS of `cond`'s x0, each frame's mean colour left out.

        A branch that was not computed at a step is NaN there.

    Raises:
        RecordingError: a cut that leaves a band empty, or a recording whose latents cannot be shown without a model.
    """
    recording = recording_of(recording)
    names = [b for b in recording.branches if b != COND]
    width = recording.ds.sizes["x"]
    if not 0 < cut <= width / 2:
        raise RecordingError(f"cut is in cycles across the picture, above 0 and at most {width // 2} here, got {cut}.")
    rows = []
    for k in range(recording.steps):
        cond = _bands(recording, COND, k, cut)
        rows.append([_compared(cond, _bands(recording, name, k, cut)) for name in names])
    values = np.array(rows).transpose(2, 3, 1, 0, 4)  # (what, band, branch, step, sample)
    dims = ("band", "branch", "step", "sample")
    return xr.Dataset(
        {"alike": (dims, values[0]), "power": (dims, values[1]), "distance": (dims[1:], values[2, 0])},
        coords={"band": ["coarse", "fine"], "branch": names, "step": recording.ds.step.values},
        attrs={"cut": cut},
    )


def _bands(recording: Recording, branch: str, step: int, cut: float) -> np.ndarray:
    """x0 as pictures without their mean, `(band, sample, value)`; unclipped, so that pictures add up as predictions do."""
    video = recording.preview(recording.x0(branch).isel(step=step).values, clip=False).astype(np.float64)
    waves = np.fft.rfft2(video, axes=(2, 3))
    height, width = video.shape[2:4]
    cycles = np.hypot(np.fft.fftfreq(height)[:, None] * height, np.fft.rfftfreq(width)[None] * width)[..., None]
    parts = [np.where((cycles < cut) & (cycles > 0), waves, 0), np.where(cycles >= cut, waves, 0)]
    pictures = [np.fft.irfft2(part, s=(height, width), axes=(2, 3)) for part in parts]
    return np.stack(pictures).reshape(2, len(video), -1)


def _compared(cond: np.ndarray, other: np.ndarray) -> list[np.ndarray]:
    """`alike`, `power` and `distance`, each `(band, sample)`; the last is the same for both bands, which add up."""
    inner, own, theirs = (cond * other).sum(-1), (cond**2).sum(-1), (other**2).sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = np.sqrt(((cond - other) ** 2).sum((0, 2)) / own.sum(0))
        return [inner / np.sqrt(own * theirs), np.sqrt(theirs / own), np.stack([distance, distance])]
