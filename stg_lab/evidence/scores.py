"""Every score of a cell's videos: measured once, kept beside them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from stg_lab import metrics
from stg_lab.digits import judge, world
from stg_lab.evidence.cells import Cell, once, videos
from stg_lab.evidence.statistics import Estimate, difference, estimate, mean, share
from stg_lab.evidence.subjects import CAPTIONS_SEED, PER_CAPTION, Subject, subject
from stg_lab.metrics import sets

#: Scores of each video, by column of the tables.
PER_VIDEO = (
    "digit",
    "colour",
    "motion",
    "right",
    "log_probability",
    "diversity",
    "dynamic",
    "sharpness",
    "saturation",
    "flicker",
)
SHARES = ("digit", "colour", "motion", "right")  # of them: true or not of a video
FEATURES = ("features", "texture")
RESAMPLES_OF_SETS = 200
LEAST_PROBABILITY = 1e-3  # what a hopeless video counts as, so that one of them does not outweigh all others
REAL = 1024  # rendered clips, at least, that sets are compared with


@dataclass(frozen=True)
class Scores:
    """Scores of the videos of one setting.

    Attributes:
        name: the setting.
        videos: how many.
        values: numbers of each video by name, `(video,)`; see `PER_VIDEO`.
        features: what the judge answers from, `(video, 128)`: what videos show.
        texture: of its first layers, `(video, 128)`: how well they are drawn (`metrics.texture_features`).
        passes: forward passes of the denoiser for one video.
        cost: the same with prefix reuse, in whole passes: a weak pass counts by the share of the blocks that it runs.
    """

    name: str
    values: dict[str, np.ndarray]
    features: np.ndarray
    texture: np.ndarray
    passes: float
    cost: float = 0.0
    folder: str = ""

    @property
    def videos(self) -> int:
        return len(self.features)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.values[name]

    def mean(self, name: str) -> Estimate:
        """Mean of a score over the videos."""
        return share(self.values[name]) if name in SHARES else mean(self.values[name])

    def minus(self, other: Scores, name: str) -> Estimate:
        """Difference of means, paired by seed."""
        return difference(self.values[name], other.values[name], unit=float(name in SHARES))

    def mended(self, other: Scores) -> np.ndarray:
        """Which videos are right here and not in another setting, `(video,)` of bool; asked the other way round, those broken."""
        return (self["right"] == 1) & (other["right"] == 0)

    def second_difference(self, less: Scores, other: Scores, other_less: Scores, name: str) -> Estimate:
        """How much more this setting gains over one than another does over its own, `(self - less) - (other - other_less)`, paired
        by seed."""
        mine, theirs = self.values[name] - less.values[name], other.values[name] - other_less.values[name]
        return difference(mine, theirs, unit=float(name in SHARES))

    def frechet(self, real: Scores) -> Estimate:
        """Frechet distance to rendered clips in texture features: how well videos are drawn."""
        return self._frechet(self.texture, real.texture)

    def content_distance(self, real: Scores) -> Estimate:
        """Frechet distance to rendered clips in the judge's features: what videos show, and in which proportions."""
        return self._frechet(self.features, real.features)

    def coverage(self, real: Scores) -> Estimate:
        """Share of rendered clips that have one of the videos in their neighbourhood (Naeem et al. 2020, eq. 5).

        Of the first clips, as many as there are videos and asked for the same. A neighbourhood reaches to the third nearest of
        the other clips: of four clips of one caption, the farthest of the other three, unless another caption's come between.
        Where they do not, and videos are as varied as clips, the chance that none of four is nearer than that is 1 in
        C(7, 3) = 35, so that coverage is at most about 0.97.
        """
        clips = real.features[: self.videos]
        return share(metrics.coverage(self.features, clips, k=PER_CAPTION - 1))

    def frechet_minus(self, other: Scores, real: Scores) -> Estimate:
        """Difference of Frechet distances in texture features, paired by seed; negative where this one is nearer to rendered clips."""
        distance = sets.FrechetTo(real.texture)
        return self._of_set(lambda index: distance(self.texture[index]) - distance(other.texture[index]))

    def _frechet(self, features: np.ndarray, real: np.ndarray) -> Estimate:
        distance = sets.FrechetTo(real)
        found = self._of_set(lambda index: distance(features[index]))
        return replace(found, low=max(found.low, 0.0))  # a centred interval does not know that distances have no sign

    def _of_set(self, statistic: Any) -> Estimate:
        return estimate(statistic, self.videos, resamples=RESAMPLES_OF_SETS)


def scored(cell: Cell, root: Path, count: int) -> dict[str, np.ndarray]:
    """Scores of a cell's first videos, for `named_scores`; read from beside them where they were measured before."""
    who = subject(cell.model)
    file = cell.folder(root) / f"scores-{count}-{judge_fingerprint()}.npz"
    return once(file, lambda: measured(videos(cell, root, count), who.labels(count), who))


def measured(video: np.ndarray, labels: list[Any], who: Subject) -> dict[str, np.ndarray]:
    """Every score of videos whose captions come four in a row. Features at half precision, in which they ship: so the numbers
    are the same from there."""
    right, features = judge.right(video, labels), judge.embed(video)
    return {
        **{name: right[name].astype(float) for name in ("digit", "colour", "motion")},
        "right": told_right(video, labels, who),
        "log_probability": log_probability(video, labels, who),
        "diversity": within_captions(features),
        "dynamic": metrics.flow_motion(video),
        "sharpness": metrics.laplacian_variance(video),
        "saturation": metrics.saturation(video),
        "flicker": metrics.flicker(video),
        "features": features.astype(np.float16),
        "texture": metrics.texture_features(video).astype(np.float16),
    }


def asked_of(who: Subject) -> tuple[str, ...]:
    """What a video of this model is asked for; a first frame leaves the motion open."""
    return ("digit", "colour") if who.image else ("digit", "colour", "motion")


def told_right(video: np.ndarray, labels: list[Any], who: Subject) -> np.ndarray:
    """Whether the judge sees all that each video was asked for, 1.0 or 0.0."""
    right = judge.right(video, labels)
    return np.all([right[name] for name in asked_of(who)], axis=0).astype(float)


def log_probability(video: np.ndarray, labels: list[Any], who: Subject) -> np.ndarray:
    """Logarithm of the judge's calibrated probability of all that each video was asked for; at least log 0.001."""
    p = judge.probabilities(video, labels)
    return np.log(np.prod([p[name] for name in asked_of(who)], axis=0).clip(LEAST_PROBABILITY))


def within_captions(features: np.ndarray) -> np.ndarray:
    """How far each video is from the others of its caption in the judge's features, on average."""
    return metrics.feature_diversity(features, [str(i // PER_CAPTION) for i in range(len(features))])


def real_scores(who: Subject, count: int, root: Path) -> Scores:
    """Rendered clips of what `count` videos were asked for, of scans that neither the models nor the judge saw.

    The first `count` show what the videos were asked for one by one, and so do the next, at least `REAL` in all. Videos of
    other captions than the clips' would be far from them however good they are. Kept beside the runs in `root`.
    """
    file = root / who.name / f"rendered-{count}-of-{REAL}-seed-{CAPTIONS_SEED}-{judge_fingerprint()}.npz"

    def measure() -> dict[str, np.ndarray]:
        clips = who.rendered(count, rounds=max(2, -(-REAL // count)))
        return measured(world.render(clips).numpy(), clips.labels, who)

    return named_scores("rendered clips", once(file, measure))


def named_scores(
    name: str, values: Mapping[str, np.ndarray], passes: float = 0.0, cost: float = 0.0, folder: str = ""
) -> Scores:
    """What `measured` gave, by name."""
    features, texture = (values[part].astype(np.float32) for part in FEATURES)
    return Scores(name, {n: v for n, v in values.items() if n not in FEATURES}, features, texture, passes, cost, folder)


def judge_fingerprint() -> str:
    """Changes with the judge, so that scores of another judge are not taken for its own."""
    return hashlib.sha256((judge.judge_folder() / judge.WEIGHTS).read_bytes()).hexdigest()[:8]
