"""How much a video moves, and how smoothly: by optical flow for any video, by the ink for the digits world.

One unit for all three measures of amount: the path of what moves, over the whole clip, as a share of the frame's height. So
they are comparable with each other, and with a clip of other frame count or size.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from stg_lab.digits import world
from stg_lab.errors import MetricError
from stg_lab.metrics.pixels import Video, checked, luma

FASTEST = 0.05  # share of the pixels whose flow counts, as in VBench's dynamic degree
SMALLEST = 128  # pixels: smaller frames are enlarged to this, so that the flow's windows fit them


def flow_motion(video: Video) -> Float[ndarray, " batch"]:
    """Dynamic degree by optical flow (Farneback 2003, in OpenCV): the length of the fastest 5 % of a frame's flow vectors, their
    mean, summed over the frame pairs, in frame heights.

    The statistic of VBench's dynamic degree (Huang et al. 2024), which takes RAFT's flow and thresholds it. From 0 up; neither
    high nor low is better by itself.

    Raises:
        MetricError: not a video of two frames or more in [0, 1].
    """
    return np.array([sum(_fastest(a, b) for a, b in pairwise(clip)) for clip in _grey(checked(video, frames=2))])


def _fastest(a: ndarray, b: ndarray) -> float:
    """The fastest flow between two frames, in frame heights."""
    length = np.linalg.norm(flow(a, b), axis=-1).ravel()
    count = max(1, int(len(length) * FASTEST))
    return float(np.partition(length, -count)[-count:].mean()) / a.shape[0]


def flow(a: ndarray, b: ndarray) -> Float[ndarray, "height width 2"]:
    """Dense flow (x, y) in pixels from one uint8 grey picture to the next, by Farneback's method."""
    import cv2

    return cv2.calcOpticalFlowFarneback(
        a, b, None, pyr_scale=0.5, levels=3, winsize=21, iterations=5, poly_n=7, poly_sigma=1.5, flags=0
    )  # type: ignore[call-overload]


def _grey(video: ndarray) -> list[ndarray]:
    """Each clip as uint8 grey frames; small frames enlarged by a whole number."""
    import cv2

    zoom = -(-SMALLEST // min(video.shape[2:4]))
    size = (video.shape[3] * zoom, video.shape[2] * zoom)
    grey = (luma(video).clip(0, 1) * 255 + 0.5).astype(np.uint8)
    if zoom == 1:
        return list(grey)
    return [np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC) for frame in clip]) for clip in grey]


def smoothness(video: Video) -> Float[ndarray, " batch"]:
    """Motion smoothness after VBench (Huang et al. 2024): how well each inner frame is guessed from its two neighbours.

    (255 - mean absolute error of the guess) / 255, from 0 to 1; higher is smoother. VBench guesses with the network AMT; here
    the neighbours are moved half way along the flow between them and averaged.

    Raises:
        MetricError: not a video of three frames or more in [0, 1].
    """
    scores = []
    for clip in _grey(checked(video, frames=3)):
        wrong = [np.abs(between(a, c) - b).mean() for a, b, c in zip(clip[:-2], clip[1:-1], clip[2:], strict=True)]
        scores.append(1 - np.mean(wrong) / 255)
    return np.array(scores)


def between(a: ndarray, c: ndarray) -> Float[ndarray, "height width"]:
    """The picture half way between two grey pictures: each moved half of the flow to the other, their mean; 0 to 255."""
    import cv2

    height, width = a.shape
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    guesses = []
    for here, there in ((a, c), (c, a)):
        half = flow(here, there) / 2
        guesses.append(
            cv2.remap(here, x - half[..., 0], y - half[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        )
    return (guesses[0].astype(np.float64) + guesses[1]) / 2


def pose_motion(clips: world.Clips, frames: int = world.FRAMES) -> Float[ndarray, " batch"]:
    """Dynamic degree of rendered clips from their known geometry: the truth that the other two are calibrated against.

    Between two frames a point p of the digit (as seen from its middle, in complex numbers) goes from t + s e^(ia) p to
    t' + s' e^(ia') p, so the root mean square of all points' steps is

        sqrt(|t' - t|^2 + rho^2 |s' e^(ia') - s e^(ia)|^2),     rho^2 the mean of |p|^2 over the ink

    Its sum over the frame pairs, in frame heights.

    Args:
        clips: what was drawn.
        frames: in how many frames, two or more.
    """
    if frames < 2:
        raise MetricError(f"motion needs two frames or more, got {frames}.")
    pose = world.pose(clips, torch.linspace(0, 1, frames).expand(len(clips), frames))
    shape = torch.polar(pose.scale, pose.angle)
    step = (pose.x.diff() ** 2 + pose.y.diff() ** 2 + _ink_spread(clips)[:, None] * shape.diff().abs() ** 2).sqrt()
    return step.sum(1).double().numpy() / world.SIZE


def _ink_spread(clips: world.Clips) -> Float[torch.Tensor, " batch"]:
    """Mean squared distance of each clip's ink from its digit's middle, in pixels of the frame, at scale 1."""
    masks = world.scans(clips)[:, 0]
    side = masks.shape[-1]
    axis = ((torch.arange(side) + 0.5) / side - 0.5) * clips.size[:, None] * world.PADDED
    v, u = axis[:, :, None], axis[:, None, :] - clips.slant[:, None, None] * axis[:, :, None]
    return (masks * (u**2 + v**2)).sum((1, 2)) / masks.sum((1, 2))


def ink_motion(video: Video) -> Float[ndarray, " batch"]:
    """Dynamic degree of clips of the digits world from the path of their ink.

    Each frame's ink is taken as a Gaussian with its mean m and covariance C; its step to the next frame is the Wasserstein
    distance sqrt(|m - m'|^2 + tr(C + C' - 2 (C C')^(1/2))), the least root mean square step that could have made it. Summed over
    the frame pairs, in frame heights. Moving and growing are measured exactly, turning as far as the digit is not round.

    Raises:
        MetricError: not a video of two frames or more in [0, 1].
    """
    mean, covariance = ink_moments(checked(video, frames=2))
    one, two = covariance[:, :-1], covariance[:, 1:]
    trace = np.trace(one @ two, axis1=-2, axis2=-1)
    root = np.sqrt(np.maximum(trace + 2 * np.sqrt(np.maximum(np.linalg.det(one) * np.linalg.det(two), 0)), 0))
    shape = np.trace(one + two, axis1=-2, axis2=-1) - 2 * root
    step = np.sqrt(((mean[:, 1:] - mean[:, :-1]) ** 2).sum(-1) + np.maximum(shape, 0))
    return step.sum(1) / video.shape[2]


def ink(video: ndarray) -> Float[ndarray, "batch frame height width"]:
    """Where the digit is, from 0 to 1: brighter than the background, which is read off each clip's rim."""
    bright = video.max(-1)
    rim = np.concatenate([bright[:, :, 0], bright[:, :, -1], bright[:, :, :, 0], bright[:, :, :, -1]], axis=2)
    ground = np.median(rim, axis=(1, 2))[:, None, None, None]
    return np.clip((bright - ground - 0.15) / 0.4, 0, 1)


def ink_moments(video: ndarray) -> tuple[Float[ndarray, "batch frame 2"], Float[ndarray, "batch frame 2 2"]]:
    """Mean (x, y) and covariance of each frame's ink, in pixels; a frame without ink has its ink in the middle."""
    weight = ink(video).astype(np.float64) + 1e-6
    weight /= weight.sum((2, 3), keepdims=True)
    y, x = np.mgrid[: video.shape[2], : video.shape[3]] + 0.5
    place = np.stack([x, y], -1)
    mean = np.einsum("bfhw,hwi->bfi", weight, place)
    second = np.einsum("bfhw,hwi,hwj->bfij", weight, place, place)
    return mean, second - mean[..., :, None] * mean[..., None, :]
