"""A lossless pixel codec that stands where Wan's VAE stands.

`WanPipeline` asks its VAE for a config (`z_dim`, `latents_mean`, `latents_std`, `scale_factor_temporal`,
`scale_factor_spatial`) and for `decode`. This codec has the form of Wan's own VAE, the first frame alone and then groups
of frames, but only rearranges pixels: no weights, nothing lost, nothing to train. One-step x0 predictions of the
diffusion model therefore *are* pictures.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, EncoderOutput
from jaxtyping import Float
from torch import Tensor


class PixelCodec(ModelMixin, ConfigMixin):
    """Space-time-to-depth, `(batch, 3, 1 + t k, s h, s w)` to `(batch, 3 t s s, 1 + k, h, w)`, and back.

    The first frame has no partners, so it is repeated to fill its group; decoding averages the copies, which is exact
    for encoded frames.

    Args:
        scale_factor_spatial: s, pixels per latent pixel along height and width.
        scale_factor_temporal: t, frames per latent frame after the first.
        latents_mean, latents_std: one number for all channels; the pipeline feeds `(z - mean) / std` to its model.
        sample_size, sample_frames: height = width and number of frames that the model was trained on.
    """

    config: Any

    @register_to_config
    def __init__(
        self,
        scale_factor_spatial: int = 2,
        scale_factor_temporal: int = 2,
        z_dim: int | None = None,
        latents_mean: list[float] | None = None,
        latents_std: list[float] | None = None,
        sample_size: int = 32,
        sample_frames: int = 9,
    ) -> None:
        super().__init__()
        channels = 3 * scale_factor_temporal * scale_factor_spatial**2
        if z_dim not in (None, channels):
            raise ValueError(f"z_dim is {z_dim}, but these factors make {channels} channels. Leave z_dim out.")
        self.register_to_config(
            z_dim=channels,
            latents_mean=latents_mean or [0.0] * channels,
            latents_std=latents_std or [1.0] * channels,
        )
        # A model without any tensor has no dtype or device, and the pipeline asks for both.
        self.register_buffer("anchor", torch.zeros(1))

    def encode(self, x: Float[Tensor, "batch 3 frames height width"], return_dict: bool = True):
        """Pixels in [-1, 1] to raw latents (not yet shifted by `latents_mean`).

        Raises:
            ValueError: frames are not `1 + k t`, or height or width is not a multiple of s.
        """
        s, t = self.config.scale_factor_spatial, self.config.scale_factor_temporal
        batch, channels, frames, height, width = x.shape
        if (frames - 1) % t or height % s or width % s:
            raise ValueError(
                f"the codec needs 1 + k * {t} frames and sides divisible by {s}, got {frames} frames of {height} x {width}."
            )
        x = torch.cat([x[:, :, :1].expand(-1, -1, t, -1, -1), x[:, :, 1:]], dim=2)
        x = x.reshape(batch, channels, -1, t, height // s, s, width // s, s)
        z = x.permute(0, 3, 1, 5, 7, 2, 4, 6).flatten(1, 4)  # [batch, (t c s s), latent frame, h, w]
        return EncoderOutput(latent=z) if return_dict else (z,)

    def decode(self, z: Float[Tensor, "batch z frames height width"], return_dict: bool = True):
        """Raw latents to pixels; the inverse of `encode`."""
        s, t = self.config.scale_factor_spatial, self.config.scale_factor_temporal
        batch, _, frames, height, width = z.shape
        x = z.reshape(batch, t, 3, s, s, frames, height, width).permute(0, 2, 5, 1, 6, 3, 7, 4)
        x = x.reshape(batch, 3, frames, t, height * s, width * s)
        first, rest = x[:, :, 0].mean(dim=2, keepdim=True), x[:, :, 1:].flatten(2, 3)
        video = torch.cat([first, rest], dim=2)
        return DecoderOutput(sample=video) if return_dict else (video,)
