"""One pass over videos: the values and features of each, so that no more than one long video is in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from stg_lab.errors import MetricError
from stg_lab.metrics.groups import oddities
from stg_lab.metrics.read import Clip, clips, passed_over
from stg_lab.metrics.table import METRICS
from stg_lab.suites import read_file

#: Metrics that need more than one frame or more than a few pixels; where a video has fewer, they are left out.
FRAMES = {"flow_motion": 2, "flicker": 2, "smoothness": 3, "perceptual_change": 2}
SIDE = {"spectral_slope": 16, "niqe": 128, "perceptual_change": 32}
KEPT_PIXELS = 2**18  # of a clip: smaller ones are kept whole for the diversity in pixels


@dataclass
class Measured:
    """What one pass over some videos leaves: values and features by name, one a video; NaN where a video has no value."""

    values: dict[str, list[float]] = field(default_factory=dict)
    features: dict[str, list[ndarray]] = field(default_factory=dict)
    captions: list[str] = field(default_factory=list)
    videos: list[ndarray] = field(default_factory=list)  # small ones only
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    places: Sequence[str | Path] = ()
    also: Sequence[str] = ()
    made_from: list[tuple[str | None, int | None]] = field(default_factory=list)  # caption and seed
    count: int = 0

    @property
    def repeated(self) -> bool:
        """Whether every video has a caption and some caption has several videos."""
        return len(self.captions) == self.count and len(set(self.captions)) < self.count

    @property
    def same_size(self) -> bool:
        """Whether all videos were kept and are of one size."""
        return len(self.videos) == self.count and len({video.shape for video in self.videos}) == 1

    def pairs_with(self, other: Measured) -> bool:
        """Whether video i of both was made from the same caption and seed, by what recordings say."""
        return self.made_from == other.made_from and all(seed is not None for _, seed in self.made_from)

    def stacked(self) -> dict[str, Float[ndarray, "clip d"]]:
        """The features by their source."""
        return {source: np.stack(rows) for source, rows in self.features.items()}

    def add(self, name: str, value: float) -> None:
        """A value of the video that is being measured. Its place is the video's, whatever earlier ones lacked."""
        values = self.values.setdefault(name, [])
        _fill(values, self.count)
        values.append(float(value))

    def end(self) -> None:
        """All videos are measured: those at the end may lack a value too."""
        for values in self.values.values():
            _fill(values, self.count)

    def leave_out(self, reason: str) -> None:
        if reason not in self.left_out:
            self.left_out.append(reason)


def measure(
    places: Sequence[str | Path],
    *,
    judge: bool = False,
    videomae: Any = None,
    captions: str | Path | None = None,
    also: Sequence[str] = (),
) -> Measured:
    """Measure every video of some places.

    Args:
        places: files, folders, patterns, recordings.
        judge: whether they are of the digits world.
        videomae: a model of `load_videomae`, or None.
        captions: a file of captions, as for `evaluate`.
        also: names of metrics of the extra `metrics`.

    Raises:
        MetricError: something that cannot be read or measured, or captions that do not fit the videos.
    """
    told = None if captions is None else read_file(Path(captions), MetricError)
    found = Measured(places=places, also=also)
    for reason in passed_over(places):
        found.leave_out(reason)
    for clip in clips(places):
        caption = clip.caption if told is None else _caption(told, clip, found.count, captions)
        try:
            _measure_one(found, clip, caption, judge, videomae, also)
        except MetricError as error:
            raise MetricError(f"{clip.name}: {error}") from None
        found.made_from.append((caption, clip.seed))
        found.notes += oddities(clip.name, clip.video) if clip.latents is None else ()
        found.count += 1
    found.end()
    if isinstance(told, list) and len(told) != found.count:
        raise MetricError(f"{captions} has {len(told)} captions for {found.count} videos; give one a video, in order.")
    return found


def _measure_one(
    found: Measured, clip: Clip, caption: str | None, judge: bool, videomae: Any, also: Sequence[str]
) -> None:
    video = clip.video[None]
    for metric in METRICS.values():
        if metric.of == "video" or (metric.of == "extra" and metric.name in also) or (metric.of == "digits" and judge):
            frames, side = FRAMES.get(metric.name, 1), SIDE.get(metric.name, 8)
            if video.shape[1] < frames or min(video.shape[2:4]) < side:
                found.leave_out(f"{metric.name} of videos below {frames} frames or {side} x {side} pixels")
                found.add(metric.name, np.nan)
                continue
            value = metric.load()(video)
            found.add(metric.name, (value[0] if isinstance(value, tuple) else value)[0])
    if clip.latents is not None:
        found.add("latent_variance", METRICS["latent_variance"].load()(clip.latents[None])[0])
    if caption is not None:
        found.captions.append(caption)
    if judge:
        from stg_lab.metrics import judged

        found.features.setdefault("judge", []).append(judged.judge_features(video)[0])
        found.features.setdefault("texture", []).append(judged.texture_features(video)[0])
        if caption is not None:
            for name, right in judged.caption_accuracy(video, [caption]).items():
                found.add(f"caption_accuracy: {name}", right[0])
            for name, p in judged.caption_probability(video, [caption]).items():
                found.add(f"caption_probability: {name}", p[0])
    if videomae is not None:
        from stg_lab.metrics.videomae import videomae_features

        found.features.setdefault("VideoMAE", []).append(videomae_features([clip.video], videomae)[0])
    if clip.video.size <= KEPT_PIXELS:
        found.videos.append(clip.video)


def distances(mine: Measured, other: Measured) -> list[float]:
    """How far the two videos of each pair look apart, read once more; NaN where they are of different shapes, which is told.

    Raises:
        MetricError: too small, or the extra `metrics` is not installed.
    """
    from stg_lab.metrics.perceptual import perceptual_distance

    found = []
    for a, b in zip(clips(mine.places), clips(other.places), strict=True):
        alike = a.video.shape == b.video.shape
        found.append(float(perceptual_distance(a.video[None], b.video[None])[0]) if alike else np.nan)
        if not alike:
            mine.leave_out("perceptual_distance of pairs whose videos differ in size or length")
    return found


def _fill(values: list[float], count: int) -> None:
    values += [np.nan] * (count - len(values))


def _caption(told: list[str] | dict[str, str], clip: Clip, number: int, path: Any) -> str:
    name = Path(clip.name).name
    if isinstance(told, dict):
        if name not in told:
            raise MetricError(f"{path} has no caption for {name}.")
        return told[name]
    if number >= len(told):
        raise MetricError(f"{path} has {len(told)} captions, fewer than there are videos; give one a video, in order.")
    return told[number]


def finite(values: Sequence[float] | ndarray) -> Float[ndarray, " clip"]:
    """The values that are numbers."""
    array = np.asarray(values, np.float64)
    return array[np.isfinite(array)]
