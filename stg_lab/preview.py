"""Latents to pictures without a model: a linear map per latent pixel.

Each latent pixel becomes one block of pixels, `time x height x width x RGB`, by a matrix. For the digits world's codec the
map is exact; for a learned VAE a least-squares fit gives a quick preview. A recording carries its preview, so it can be
looked at where no model is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Preview:
    """A linear decoder from latents to RGB.

    `first` maps the channels of the first latent frame to one picture's block `(height * width * 3)`; `rest` maps every
    later latent frame to `time` blocks, `(time * height * width * 3)`. Values land in [-1, 1] before they are shown.
    """

    first: np.ndarray  # (s * s * 3, channel)
    first_bias: np.ndarray  # (s * s * 3,)
    rest: np.ndarray  # (t * s * s * 3, channel)
    rest_bias: np.ndarray
    spatial: int
    temporal: int
    exact: bool  # whether this is the model's own decoder, not an approximation
    r2: float = 1.0  # share of the decoded pictures' variance that the map explains, on pixels it was not fitted on

    def decode(self, latents: np.ndarray, *, clip: bool = True) -> np.ndarray:
        """Latents `(sample, channel, frame, y, x)` to video `(sample, frame, height, width, 3)`, float32 in [0, 1].

        Without clipping the map is affine, so that pictures of latents add up as the latents do.
        """
        z = np.moveaxis(np.asarray(latents, np.float32), 1, -1)  # [sample, frame, y, x, channel]
        first = z[:, :1] @ self.first.T + self.first_bias
        video = self._unfold(first, 1)
        if z.shape[1] > 1:
            rest = z[:, 1:] @ self.rest.T + self.rest_bias
            video = np.concatenate([video, self._unfold(rest, self.temporal)], axis=1)
        video = video / 2 + 0.5
        return (np.clip(video, 0, 1) if clip else video).astype(np.float32)

    def _unfold(self, blocks: np.ndarray, t: int) -> np.ndarray:
        n, frames, y, x, _ = blocks.shape
        s = self.spatial
        blocks = blocks.reshape(n, frames, y, x, t, s, s, 3).transpose(0, 1, 4, 2, 5, 3, 6, 7)
        return blocks.reshape(n, frames * t, y * s, x * s, 3)

    def to_dict(self) -> dict[str, np.ndarray | int | bool]:
        """Arrays and numbers by name, for a file."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def fit_preview(latents: np.ndarray, video: np.ndarray) -> Preview:
    """The linear map from latents to RGB that fits one decoded video best, by least squares.

    One picture for each latent frame, one pixel for each latent pixel: small, but hundreds of them cost milliseconds where
    a learned decoder takes seconds.

    Args:
        latents: `(sample, channel, frame, y, x)`.
        video: what they decode to, `(sample, frame, height, width, 3)` in [0, 1].

    Raises:
        ValueError: the two do not belong together.
    """
    from sklearn.linear_model import LinearRegression

    n, channels, frames, y, x = latents.shape
    if len(video) != n or video.shape[1] < frames or video.shape[2] < y or video.shape[3] < x:
        raise ValueError(f"latents {latents.shape} do not decode to a video {video.shape}.")
    inputs = np.moveaxis(latents, 1, -1).reshape(-1, channels)
    targets = 2 * _thumbnails(video, frames, y, x).reshape(-1, 3) - 1
    held_out = np.arange(len(inputs)) % 5 == 0
    tried = LinearRegression().fit(inputs[~held_out], targets[~held_out])
    model = LinearRegression().fit(inputs, targets)
    matrix, bias = model.coef_.astype(np.float32), model.intercept_.astype(np.float32)
    r2 = float(tried.score(inputs[held_out], targets[held_out]))
    return Preview(matrix, bias, matrix, bias, spatial=1, temporal=1, exact=False, r2=r2)


def _thumbnails(video: np.ndarray, frames: int, y: int, x: int) -> np.ndarray:
    """The picture in the middle of each latent frame's stretch of time, each pixel the mean of a latent pixel's block."""
    chosen = video[:, _middles(video.shape[1], frames)]
    h, w = chosen.shape[2] // y, chosen.shape[3] // x
    chosen = chosen[:, :, : y * h, : x * w].reshape(len(video), frames, y, h, x, w, 3)
    return chosen.mean((3, 5))


def _middles(length: int, frames: int) -> list[int]:
    """The picture in the middle of each latent frame's stretch of a video: stretches are even; or, after a first latent frame of one
    picture, even; or that in each of several clips (Open-Sora)."""
    causal = (length - 1) % max(frames - 1, 1) == 0 and length != frames
    if causal:
        step = (length - 1) // max(frames - 1, 1)
        return [0, *range(1 + (step - 1) // 2, length, step)][:frames]
    clips = math.gcd(length, frames) if length % frames else 1
    if clips > 1:
        each = _middles(length // clips, frames // clips)
        return [clip * (length // clips) + middle for clip in range(clips) for middle in each]
    step = length // frames
    return [step * frame + (step - 1) // 2 for frame in range(frames)]
