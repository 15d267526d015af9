"""What the judge of the digits world sees: captions kept or not, its features, and nearness to the training scans."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from stg_lab.digits import judge, world
from stg_lab.digits.captions import CaptionError, Label, parse
from stg_lab.errors import MetricError
from stg_lab.given import Text, takes
from stg_lab.metrics.arrays import check_captions
from stg_lab.metrics.motion import ink, ink_moments
from stg_lab.metrics.pixels import Video, checked

SCAN_SIDE = 20  # pixels of a digit brought to one place and size
_REACH = 2.4  # half of them, in standard deviations of the ink


def caption_accuracy(video: Video, captions: Sequence[str]) -> dict[str, Bool[ndarray, " batch"]]:
    """Whether the judge sees in each clip what its caption asks for: `digit`, `colour`, `motion`, and `all three`.

    The mean of each is an accuracy from 0 to 1; higher is better; the judge's own accuracy on real clips
    (`stg_lab.digits.judge.judge_facts()`) bounds what can be measured.

    Args:
        video: `(batch, frame, height, width, 3)` in [0, 1], five frames or more.
        captions: one a clip, in the language of the digits world.

    Raises:
        MetricError: not a video, too few frames, another number of captions, or a caption outside the language.
    """
    x, labels = _asked(video, captions)
    return judge.right(x, labels)


def caption_probability(video: Video, captions: Sequence[str]) -> dict[str, Float[ndarray, " batch"]]:
    """The judge's calibrated probability that each clip shows what its caption asks for: `digit`, `colour`, `motion`, and
    `all three`.

    From 0 to 1; higher is better. Where most clips are right, the share right hardly moves any more and these still do. Their
    calibration, measured on clips of unseen scans, is on the judge's card (data/judge). Arguments as for `caption_accuracy`.

    Raises:
        MetricError: as `caption_accuracy`.
    """
    x, labels = _asked(video, captions)
    return judge.probabilities(x, labels)


def _asked(video: Video, captions: Sequence[str]) -> tuple[Video, list[Label]]:
    """A video that the judge can read, and the labels of its captions."""
    x = checked(video, frames=judge.FEWEST_FRAMES)
    try:
        return x, [parse(caption) for caption in check_captions(captions, len(x))]
    except CaptionError as error:
        raise MetricError(str(error)) from None


def judge_features(video: Video) -> Float[ndarray, "batch 128"]:
    """The judge's penultimate features, in which the set metrics of the digits world see what clips show.

    Raises:
        MetricError: not a video of five frames or more in [0, 1].
    """
    return judge.embed(checked(video, frames=judge.FEWEST_FRAMES))


def texture_features(video: Video) -> Float[ndarray, "batch 128"]:
    """How the judge's first two layers respond: features in which the set metrics see how well a clip is drawn.

    `judge_features` are trained to be alike for clean and for spoilt clips, so a distance in them is about what clips show, and
    blur or broken strokes hardly change it. In these they do (docs/metrics.md has the figures).

    Raises:
        MetricError: not a video of five frames or more in [0, 1].
    """
    return judge.textures(checked(video, frames=judge.FEWEST_FRAMES))


@takes(MetricError, split=Text())
def nearest_scan(video: Video, split: str = "train") -> tuple[Float[ndarray, " batch"], Int[ndarray, " batch"]]:
    """How much each clip's digit resembles the most similar scan of a split, and which scan that is: memorisation of scans.

    The ink of the middle frame (where turning digits stand upright) and every scan are brought to one place and size by their
    mean and spread; the resemblance is the cosine between the two pictures, from 0 to 1. Compare it with that of real clips of
    another split: only what lies above theirs is memorised.

    Raises:
        MetricError: not a video in [0, 1].
    """
    x = checked(video)
    middle = x[:, x.shape[1] // 2 :][:, :1]
    mine = _normalised(ink(x)[:, x.shape[1] // 2], *ink_moments(middle))
    alike = mine @ _scans(split).T
    index = alike.argmax(1)
    return alike[np.arange(len(x)), index], index


@functools.cache
def _scans(split: str) -> Float[ndarray, "scan pixel"]:
    masks = world.masks(split)[:, 0].numpy()
    pictures = np.repeat(masks[:, None, ..., None], 3, axis=-1)
    return _normalised(masks, *ink_moments(pictures))


def _normalised(pictures: ndarray, mean: ndarray, covariance: ndarray) -> Float[ndarray, "batch pixel"]:
    """Ink with its mean in the middle and its spread at one size, as unit vectors."""
    from scipy.ndimage import map_coordinates

    offsets = (np.arange(SCAN_SIDE) + 0.5) / SCAN_SIDE * 2 - 1
    rows = []
    for picture, centre, spread in zip(pictures, mean[:, 0], covariance[:, 0], strict=True):
        axis = offsets * _REACH * np.sqrt(max(np.trace(spread) / 2, 1.0))
        where = np.meshgrid(centre[1] - 0.5 + axis, centre[0] - 0.5 + axis, indexing="ij")
        rows.append(map_coordinates(picture, where, order=1, mode="constant").ravel())
    x = np.array(rows, np.float64)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)
