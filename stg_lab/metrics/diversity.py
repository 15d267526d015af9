"""How different the samples of one caption are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from stg_lab.errors import MetricError
from stg_lab.given import shown
from stg_lab.metrics.arrays import check_captions, numbers
from stg_lab.metrics.pixels import Video, checked
from stg_lab.metrics.sets import distances


def feature_diversity(features: Float[ndarray, "clip d"], captions: Sequence[str]) -> Float[ndarray, " clip"]:
    """Mean distance of each clip to the other clips of its caption, in features.

    The mean over clips is the diversity of the set, in units of the features, from 0 (all samples of a caption alike) up;
    higher is more diverse.

    Args:
        features: one row a clip.
        captions: one a clip; clips of equal captions are compared. Captions with one clip only count as NaN.

    Raises:
        MetricError: not one caption a clip, or no caption has two clips.
    """
    x = numbers("features are", features, "(clip, feature)").astype(np.float64)
    if x.ndim != 2 or not len(x) or not np.isfinite(x).all():
        raise MetricError(f"features are finite numbers of shape (clip, feature), got {shown(features)}.")
    names = np.asarray(check_captions(captions, len(x)))
    out = np.full(len(x), np.nan)
    for name in np.unique(names):
        group = np.flatnonzero(names == name)
        if len(group) > 1:
            out[group] = distances(x[group], x[group]).sum(1) / (len(group) - 1)
    if np.isnan(out).all():
        raise MetricError("diversity needs two clips or more of the same caption; every caption given stands alone.")
    return out


def pixel_diversity(video: Video, captions: Sequence[str]) -> Float[ndarray, " clip"]:
    """The same in pixels: root mean square difference of the two videos, from 0 to 1.

    Args and errors as for `feature_diversity`, of videos.
    """
    x = checked(video)
    flat = x.reshape(len(x), -1)
    return feature_diversity(flat, captions) / np.sqrt(flat.shape[1])
