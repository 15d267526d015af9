"""Everything that a one-step prediction needs to be put together again under any scales, without the model.

The guided prediction is `cond + sum of weight * vector`, and x0 and a linear decoder keep that sum. So the decoded pictures
of `cond` and of each vector, added up, are the picture of any guidance. Rescaling (paper, Alg. 4) multiplies the prediction
by one number f, which follows from covariances; it moves the picture towards that of the noisy latents alone:

    picture(f * prediction) = f * picture(prediction) + (1 - f) * picture(a * x_t),     x0 = a * x_t + b * prediction
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from stg_lab.analysis.vectors import at_step, change_of_pixels, labels, vector_names
from stg_lab.given import Whole, takes
from stg_lab.guidance import CFG, COND, GUIDED, UNCOND, Guidance, Moment
from stg_lab.recording import Recording, Source, recording_of
from stg_lab.recording.layout import LATENT_DIMS
from stg_lab.weak import parse
from stg_lab.x0 import OneStep

NOISY = "x_t"


def gram(recording: Source) -> xr.Dataset:
    """Means and covariances of the conditional prediction and all guidance vectors at every step.

    They say the deviation and the length of any weighted sum of them: with weights w over the rows (1 for `cond`), the
    variance is `w @ covariance @ w` and the mean `w @ mean`.

    Returns:
        Dataset with `mean (row, step, sample)` and `covariance (row, column, step, sample)`, over all values of a sample
        that are stepped (not those of a given picture); rows are `cond` and the vectors, `guided` being `guided - cond`. A
        vector that was not computed has NaN.

    Raises:
        RecordingError: the recording has no guidance vector.
    """
    recording = recording_of(recording)
    means, covariances = [], []
    for k in range(recording.steps):
        cond, vectors = at_step(recording, k)
        stepped = np.concatenate([cond[None], vectors])[:, :, :, recording.given_frames :]
        rows = stepped.reshape(len(vectors) + 1, len(cond), -1)
        mean = rows.mean(2)
        centred = rows - mean[..., None]
        means.append(mean)
        covariances.append(np.einsum("asn,bsn->abs", centred, centred) / rows.shape[2])
    names = [COND, *vector_names(recording)]
    coords = {name: value for name, value in labels(recording).items() if name != "vector"}
    data: dict[str, Any] = {
        "mean": (("row", "step", "sample"), np.stack(means, 1)),
        "covariance": (("row", "column", "step", "sample"), np.stack(covariances, 2)),
    }
    return xr.Dataset(data, coords | {"row": names, "column": names})


@takes(samples=Whole(1), shrink=Whole(1))
def mixing_pictures(recording: Source, *, samples: int | None = None, shrink: int = 1) -> xr.DataArray:
    """Decoded pictures that add up to the one-step prediction of any guidance, unclipped.

    With weights w (CFG of scale g: g - 1) and the factor f of rescaling, the picture is
    `f * (cond + sum of w * vector) + (1 - f) * x_t`, to be clipped to [0, 1] at the end.

    Args:
        recording: one that can be shown without a model.
        samples: only the first so many; all by default.
        shrink: average blocks of `shrink x shrink` pixels.

    Returns:
        `(row, step, sample, picture, height, width, rgb)`, float32: `x_t` (the picture of the noisy latents' share of x0),
        `cond`, then every vector but `guided`. NaN where a branch was not computed, or where a step starts with no signal.

    Raises:
        RecordingError: no guidance vector, or this recording has no preview of its latents.
    """
    recording = recording_of(recording)
    names = [name for name in vector_names(recording) if name != GUIDED]
    keep = [vector_names(recording).index(name) for name in names]
    a, b = recording.ds.x0_sample.values, recording.ds.x0_prediction.values
    steps = []
    for k in range(recording.steps):
        cond, vectors = (x[..., :samples, :, :, :, :] for x in at_step(recording, k))
        noisy = recording.ds.x_t.isel(step=k, sample=slice(samples)).transpose("sample", *LATENT_DIMS).values
        x0 = OneStep(a[k], b[k]) if np.isfinite(b[k]) else OneStep(np.nan, np.nan)  # no signal says no x0
        noisy = noisy.astype(np.float64)
        shown = [recording.preview(x.astype(np.float32), clip=False) for x in (x0(noisy, 0.0), x0(noisy, cond))]
        shown += [change_of_pixels(recording, vectors[i], b[k]) for i in keep]
        steps.append(_shrunk(np.stack(shown), shrink))
    dims = ("row", "step", "sample", "picture", "height", "width", "rgb")
    return xr.DataArray(np.stack(steps, 1), {"row": [NOISY, COND, *names]}, dims, "pictures")


def recorded_scales(recording: Source) -> tuple[xr.DataArray, float]:
    """The scales that a run used at each step, and how far it rescaled.

    Returns:
        `(vector, step)`: CFG's scale in diffusers' convention for `uncond` (1 is off), and the weight of every weak model's
        vector (0 is off); and phi of the rescaling. Terms that start from `uncond` or from CFG's result are told as the same
        sum of vectors away from `cond`. Rules, orthogonalization and scales of single frames (of SVD, the last one's is
        told) are not in such a scale: with them, these scales do not rebuild the recorded prediction.

    Raises:
        RecordingError: the recording has no guidance vector.
    """
    recording = recording_of(recording)
    names = [name for name in vector_names(recording) if name != GUIDED]
    kept = recording.settings.get("guidance")
    own = Guidance.from_dict(kept, parse) if kept else Guidance()
    columns = [_weights(_in_force(own, recording, k), recording.moment(k), recording) for k in range(recording.steps)]
    scales = [[column.get(name, 0.0) + float(name == UNCOND) for column in columns] for name in names]
    coords = {name: value for name, value in labels(recording).items() if name in ("step", "sigma")}
    return xr.DataArray(scales, coords | {"vector": names}, ("vector", "step"), "scale"), own.phi


def _in_force(guidance: Guidance, recording: Recording, k: int) -> Guidance:
    """A run's guidance with the scale that the pipeline itself had at step k, unless the guidance had another one there."""
    if not guidance.leaves_cfg(recording.moment(k)):
        return guidance
    own = CFG(max(float(recording.ds.guidance_scale[k]), 1.0))
    return replace(guidance, terms=(own, *(t for t in guidance.terms if t.weak_model is not None)))


def _weights(guidance: Guidance, at: Moment, recording: Recording) -> dict[str, float]:
    """The weight of each vector away from `cond` at a step."""
    branch = {specification: name for name, specification in recording.weak.items()}
    found = {UNCOND: sum(t.weight(at) for t in guidance.terms if t.weak_model is None and t.active(at))}
    cfg = found[UNCOND]
    for term in guidance.terms:
        name = branch.get(str(term.weak_model))
        if name is None or not term.active(at):
            continue
        weight = term.weight(at)
        found[name] = found.get(name, 0.0) + weight
        found[UNCOND] += {COND: 0.0, UNCOND: -weight, "cfg": weight * cfg}[term.reference]
    return found


def _shrunk(pictures: np.ndarray, by: int) -> np.ndarray:
    """`(..., height, width, rgb)` with each `by x by` block averaged; 1 changes nothing."""
    if by == 1:
        return pictures
    *front, height, width, rgb = pictures.shape
    h, w = height // by, width // by
    return pictures[..., : h * by, : w * by, :].reshape(*front, h, by, w, by, rgb).mean((-4, -2))
