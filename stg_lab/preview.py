"""Latents to pictures without a model: a linear map per latent pixel.

Each latent pixel becomes one block of pixels, `time x height x width x RGB`, by a matrix. For the digits world's codec the
map is exact; for a learned VAE a least-squares fit gives a quick preview. A recording carries its preview, so it can be
looked at where no model is.
"""

from __future__ import annotations

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

    def decode(self, latents: np.ndarray) -> np.ndarray:
        """Latents `(sample, channel, frame, y, x)` to video `(sample, frame, height, width, 3)`, float32 in [0, 1]."""
        z = np.moveaxis(np.asarray(latents, np.float32), 1, -1)  # [sample, frame, y, x, channel]
        first = z[:, :1] @ self.first.T + self.first_bias
        video = self._unfold(first, 1)
        if z.shape[1] > 1:
            rest = z[:, 1:] @ self.rest.T + self.rest_bias
            video = np.concatenate([video, self._unfold(rest, self.temporal)], axis=1)
        return np.clip(video / 2 + 0.5, 0, 1).astype(np.float32)

    def _unfold(self, blocks: np.ndarray, t: int) -> np.ndarray:
        n, frames, y, x, _ = blocks.shape
        s = self.spatial
        blocks = blocks.reshape(n, frames, y, x, t, s, s, 3).transpose(0, 1, 4, 2, 5, 3, 6, 7)
        return blocks.reshape(n, frames * t, y * s, x * s, 3)

    def to_dict(self) -> dict[str, np.ndarray | int | bool]:
        """Arrays and numbers by name, for a file."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}
