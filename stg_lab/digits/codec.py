"""Lossless pixel codecs that stand where a pipeline's VAE stands.

They only rearrange pixels: no weights, nothing lost, nothing to train. One-step x0 predictions of the diffusion model
therefore *are* pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution, EncoderOutput
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from jaxtyping import Float
from torch import Tensor


class PixelCodec(ModelMixin, ConfigMixin):
    """Space-time-to-depth in the form of Wan's VAE: `(batch, 3, 1 + t k, s h, s w)` to `(batch, 3 t s s, 1 + k, h, w)`, and back.

    `WanPipeline` asks its VAE for a config (`z_dim`, `latents_mean`, `latents_std`, `scale_factor_temporal`,
    `scale_factor_spatial`) and for `decode`. As with Wan's own VAE the first frame stands alone, then come groups of frames.
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


class FrameCodec(ModelMixin, ConfigMixin):
    """Frame by frame where `AutoencoderKL` stands: `(batch, 3, s h, s w)` to `(batch, 3 s s, h, w)`, and back.

    `LattePipeline` asks its VAE for a config (`block_out_channels`, whose length says the factor s, and `scaling_factor`)
    and for `decode`. It subtracts no mean, so the codec itself shifts and scales pixels to unit variance.

    Args:
        block_out_channels: 3, then four times as many for each halving of the picture: (3, 12) for s = 2.
        latent_channels, scaling_factor: follow from the rest; in the config because pipelines look for them there.
        pixel_mean, pixel_std: of the world's pixels in [-1, 1]; latents are `(pixel - mean) / std`, rearranged.
        sample_size, sample_frames: height = width and number of frames that the model was trained on.
        force_upcast: whether half precision is too little, which pipelines ask; rearranging needs no more.
    """

    config: Any

    @register_to_config
    def __init__(
        self,
        block_out_channels: Sequence[int] = (3, 12),
        latent_channels: int | None = None,
        scaling_factor: float = 1.0,
        pixel_mean: float = 0.0,
        pixel_std: float = 1.0,
        sample_size: int = 32,
        sample_frames: int = 9,
        force_upcast: bool = False,
    ) -> None:
        super().__init__()
        channels = [3 * 4**level for level in range(len(block_out_channels))]
        if not channels or list(block_out_channels) != channels or latent_channels not in (None, channels[-1]):
            raise ValueError(
                f"block_out_channels are {tuple(block_out_channels)} and latent_channels {latent_channels}, but pixels that "
                "are only rearranged make (3, 12), (3, 12, 48) and so on, the last being the latents' channels. Leave "
                "latent_channels out."
            )
        if scaling_factor != 1.0:
            raise ValueError(f"scaling_factor is {scaling_factor}, but pixel_std does the scaling here: leave it at 1.")
        self.register_to_config(latent_channels=channels[-1])
        self.factor = 2 ** (len(channels) - 1)
        self.register_buffer("anchor", torch.zeros(1))  # for dtype and device, as above

    def encode(self, x: Float[Tensor, "batch 3 height width"], return_dict: bool = True):
        """Pixels in [-1, 1] to latents, as a distribution without spread.

        Raises:
            ValueError: height or width is not a multiple of s.
        """
        s, c = self.factor, self.config
        height, width = x.shape[-2:]
        if height % s or width % s:
            raise ValueError(f"the codec needs sides divisible by {s}, got {height} x {width}.")
        z = F.pixel_unshuffle((x - c.pixel_mean) / c.pixel_std, s)
        latents = DiagonalGaussianDistribution(torch.cat([z, torch.zeros_like(z)], dim=1), deterministic=True)
        return AutoencoderKLOutput(latent_dist=latents) if return_dict else (latents,)

    def decode(self, z: Float[Tensor, "batch z height width"], return_dict: bool = True):
        """Latents to pixels; the inverse of `encode`."""
        c = self.config
        x = F.pixel_shuffle(z, self.factor) * c.pixel_std + c.pixel_mean
        return DecoderOutput(sample=x) if return_dict else (x,)
