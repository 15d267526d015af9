"""Distance between pictures in the features of a network that was fitted to people's judgements: ST-LPIPS.

Ghildyal and Liu 2022, "Shift-tolerant perceptual similarity metric": LPIPS (Zhang et al. 2018) on an AlexNet that is blurred before
every reduction in size, so that a shift by a pixel counts for little. Its weights come with the package `stlpips-pytorch`; only its
file of weights is read, as tensors, and none of its code is run.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from stg_lab.errors import MetricError
from stg_lab.metrics.packaged import packaged
from stg_lab.metrics.pixels import Video, checked

SMALLEST = 32  # pixels
LARGEST = 256  # pixels of the shorter side: larger frames are reduced to it
WEIGHTS = "weights/vST0.0/alex_shift_tolerant.pth"

#: Its five layers: names of the blur before it (on largest values of 3 x 3), of its convolution and that one's margin.
LAYERS = (
    (None, "net.slice1.0", 2),
    ("net.slice2.4", "net.slice2.5", 2),
    ("net.slice3.8", "net.slice3.9", 1),
    (None, "net.slice4.11", 1),
    (None, "net.slice5.13", 1),
)
FIRST_BLUR = "net.slice1.1"  # after the first convolution

Features = list[Float[Tensor, "1 channel y x"]]


def perceptual_distance(video: Video, reference: Video) -> Float[ndarray, " batch"]:
    """ST-LPIPS distance of each video to a reference of the same size, mean over frames; from 0 up, lower is more alike.

    Frames whose shorter side is above 256 pixels are reduced to that. It says how far two videos look apart, not which is better.

    Raises:
        MetricError: not videos of one shape with sides of 32 pixels or more, or the extra `metrics` is not installed.
    """
    x, y = checked(video, side=SMALLEST), checked(reference, side=SMALLEST)
    if x.shape != y.shape:
        raise MetricError(f"a perceptual distance is between videos of one shape, got {x.shape} and {y.shape}.")
    return np.array(
        [
            np.mean([_apart(_features(p), _features(q)) for p, q in zip(a, b, strict=True)])
            for a, b in zip(x, y, strict=True)
        ]
    )


def perceptual_change(video: Video) -> Float[ndarray, " batch"]:
    """How much each video changes from frame to frame, as seen: mean ST-LPIPS distance of neighbouring frames; from 0 up.

    Neither end is better: it grows with motion as with flicker, and a still picture has 0. Frames as for `perceptual_distance`.

    Raises:
        MetricError: not a video of two frames or more with sides of 32 pixels or more, or the extra `metrics` is not installed.
    """
    return np.array([_change(clip) for clip in checked(video, frames=2, side=SMALLEST)])


def _change(clip: Float[ndarray, "frame height width 3"]) -> float:
    before, found = _features(clip[0]), []
    for frame in clip[1:]:
        after = _features(frame)
        found.append(_apart(before, after))
        before = after
    return float(np.mean(found))


@torch.inference_mode()
def _features(frame: Float[ndarray, "height width 3"]) -> Features:
    """The five layers' answers to a frame, each place's vector of length 1."""
    weights = _weights()
    x = torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)[None]
    zoom = LARGEST / min(x.shape[2:])
    if zoom < 1:
        x = F.interpolate(x, scale_factor=zoom, mode="bilinear", antialias=True)
    x = (2 * x - 1 - weights["scaling_layer.shift"]) / weights["scaling_layer.scale"]
    found = []
    for number, (blur, name, margin) in enumerate(LAYERS):
        if blur is not None:
            x = _halved(F.max_pool2d(x, 3, 1), weights[f"{blur}.filt"])
        x = F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=margin)
        x = F.relu(_halved(x, weights[f"{FIRST_BLUR}.filt"]) if number == 0 else x)
        found.append(x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10))
    return found


def _halved(
    x: Float[Tensor, "1 channel y x"], window: Float[Tensor, "channel 1 3 3"]
) -> Float[Tensor, "1 channel y x"]:
    return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), window, stride=2, groups=len(window))


@torch.inference_mode()
def _apart(a: Features, b: Features) -> float:
    """Squared differences, weighted by channel, mean over places, summed over layers (equation 1 of Zhang et al. 2018)."""
    weights = _weights()
    layers = enumerate(zip(a, b, strict=True))
    return sum(float(F.conv2d((p - q) ** 2, weights[f"lin{k}.model.1.weight"]).mean()) for k, (p, q) in layers)


@functools.cache
def _weights() -> dict[str, Tensor]:
    """The network's tensors; a file with anything else in it is refused."""
    path = packaged("stlpips_pytorch", WEIGHTS, "stlpips-pytorch")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds, all about a file that holds no tensors
        raise MetricError(f"the weights of ST-LPIPS could not be read from {path} ({type(error).__name__}).") from None
