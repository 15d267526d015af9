"""Videos -> scores: quality, motion, diversity, captions kept, and distances between sets, each with its interval.

    from stg_lab import metrics

    metrics.flicker(video)                                        # (batch,), one value a clip
    metrics.bootstrap(metrics.flow_motion(video))                 # their mean with its 95 % interval
    metrics.frechet_distance(metrics.judge_features(video), metrics.judge_features(real))
    print(metrics.evaluate(["out/*.mp4"], against=["real/"]))     # what `stg-lab evaluate` prints

`metrics.METRICS` lists them with unit, range and source. Names are imported when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stg_lab.metrics.diversity import feature_diversity, pixel_diversity
    from stg_lab.metrics.files import Row, Table, evaluate
    from stg_lab.metrics.intervals import Interval, bootstrap, difference, paired_difference, share
    from stg_lab.metrics.judged import (
        caption_accuracy,
        caption_probability,
        judge_features,
        nearest_scan,
        texture_features,
    )
    from stg_lab.metrics.motion import flow_motion, ink_motion, pose_motion, smoothness
    from stg_lab.metrics.natural import niqe
    from stg_lab.metrics.packaged import real_clips
    from stg_lab.metrics.perceptual import perceptual_change, perceptual_distance
    from stg_lab.metrics.pixels import (
        clipped,
        contrast,
        flicker,
        laplacian_variance,
        latent_variance,
        saturation,
        spectral_slope,
    )
    from stg_lab.metrics.read import read_video
    from stg_lab.metrics.sets import (
        coverage,
        density,
        frechet_distance,
        nearest,
        precision,
        recall,
        vendi_score,
    )
    from stg_lab.metrics.table import METRICS, Metric
    from stg_lab.metrics.vbench import vbench_scores
    from stg_lab.metrics.videomae import load_videomae, videomae_distance, videomae_features

_WHERE = {
    "diversity": ("feature_diversity", "pixel_diversity"),
    "files": ("Row", "Table", "evaluate"),
    "intervals": ("Interval", "bootstrap", "difference", "paired_difference", "share"),
    "judged": ("caption_accuracy", "caption_probability", "judge_features", "nearest_scan", "texture_features"),
    "motion": ("flow_motion", "ink_motion", "pose_motion", "smoothness"),
    "natural": ("niqe",),
    "packaged": ("real_clips",),
    "perceptual": ("perceptual_change", "perceptual_distance"),
    "pixels": (
        "clipped",
        "contrast",
        "flicker",
        "laplacian_variance",
        "latent_variance",
        "saturation",
        "spectral_slope",
    ),
    "read": ("read_video",),
    "sets": ("coverage", "density", "frechet_distance", "nearest", "precision", "recall", "vendi_score"),
    "table": ("METRICS", "Metric"),
    "vbench": ("vbench_scores",),
    "videomae": ("load_videomae", "videomae_distance", "videomae_features"),
}
_MODULE_OF = {name: module for module, names in _WHERE.items() for name in names}

__all__ = list(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'stg_lab.metrics' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"stg_lab.metrics.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value
