"""The video VAE of Open-Sora 1.2: an image VAE for every frame, and a temporal VAE on top."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.vae import AutoencoderMixin, DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn

from stg_lab.errors import CallError
from stg_lab.opensora.lengths import CLIP_FRAMES, latent_frames, video_frames
from stg_lab.opensora.temporal import TemporalAutoencoder

#: What latents of the image VAE are multiplied with before the temporal one sees them. The image VAE is fine-tuned from SDXL's, whose
#: own factor is another one.
IMAGE_FACTOR = 0.18215
#: Bounds of a logarithmic variance.
LOGVAR = (-30.0, 20.0)


class FrameAutoencoder(nn.Module):
    """Frames by the image VAE, some at a time."""

    def __init__(self, module: AutoencoderKL, at_once: int) -> None:
        super().__init__()
        self.module = module
        self.at_once = at_once

    def encode(self, video: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A sample of the posterior of each frame of `(batch, channel, frame, y, x)`."""
        return IMAGE_FACTOR * self._each(video, lambda x: self.module.encode(x).latent_dist.sample(generator))

    def decode(self, z: Tensor) -> Tensor:
        return self._each(z / IMAGE_FACTOR, lambda x: self.module.decode(x).sample)

    def _each(self, x: Tensor, change: Any) -> Tensor:
        pictures = x.transpose(1, 2).flatten(0, 1)
        changed = torch.cat([change(some) for some in pictures.split(self.at_once)])
        return changed.unflatten(0, (len(x), -1)).transpose(1, 2)


class AutoencoderKLOpenSora(ModelMixin, ConfigMixin, AutoencoderMixin):
    """Videos in [-1, 1] to latents of an eighth of the size and, clip by clip of 17 frames, 5 frames for 17 (Open-Sora 1.2).

    Latents are shifted and scaled to about unit variance here, so that nothing outside has to. The defaults are the released
    checkpoint's sizes. `enable_slicing()` encodes and decodes one video at a time, `enable_tiling()` tiles each frame.

    Args:
        block_out_channels, layers_per_block, norm_num_groups: of the image VAE.
        filters: of the temporal VAE's first stage; `channel_multipliers` are those of its stages.
        num_res_blocks, num_groups: of a stage; of its group norms.
        micro_batch_size: frames that go through the image VAE at once; it decides about memory alone.
        latents_mean, latents_std: what each latent channel is shifted by, then divided by; the checkpoint's `shift` and `scale`.
    """

    config: Any
    scale: Tensor  # (1, channel, 1, 1, 1)
    shift: Tensor

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        latent_channels: int = 4,
        block_out_channels: Sequence[int] = (128, 256, 512, 512),
        layers_per_block: int = 2,
        norm_num_groups: int = 32,
        filters: int = 128,
        channel_multipliers: Sequence[int] = (1, 2, 2, 4),
        num_res_blocks: int = 4,
        num_groups: int = 32,
        micro_batch_size: int = 4,
        latents_mean: Sequence[float] = (-0.10, 0.34, 0.27, 0.98),
        latents_std: Sequence[float] = (3.85, 2.32, 2.33, 3.06),
    ) -> None:
        super().__init__()
        levels = len(block_out_channels)
        frames = AutoencoderKL(
            in_channels=in_channels, out_channels=in_channels, latent_channels=latent_channels,
            block_out_channels=tuple(block_out_channels), layers_per_block=layers_per_block,
            norm_num_groups=norm_num_groups, down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
        )  # fmt: skip
        self.spatial_vae = FrameAutoencoder(frames, micro_batch_size)
        halved = (False, True, True)
        widths = [filters * multiplier for multiplier in channel_multipliers]
        self.temporal_vae = TemporalAutoencoder(
            latent_channels, latent_channels, widths, halved, num_res_blocks, num_groups
        )
        self.register_buffer("scale", torch.tensor(latents_std).view(1, -1, 1, 1, 1))
        self.register_buffer("shift", torch.tensor(latents_mean).view(1, -1, 1, 1, 1))
        self.use_slicing = False

    @property
    def use_tiling(self) -> bool:
        """Whether the image VAE tiles each frame."""
        return self.spatial_vae.module.use_tiling

    @use_tiling.setter
    def use_tiling(self, value: bool) -> None:
        self.spatial_vae.module.use_tiling = value

    @apply_forward_hook
    def encode(self, x: Tensor, return_dict: bool = True, generator: torch.Generator | None = None) -> Any:
        """The posterior of latents `(batch, channel, latent frame, y, x)`.

        The image VAE's own posterior is sampled on the way, so that it is another one every time.

        Args:
            x: video in [-1, 1], `(batch, channel, frame, y, x)`.
            generator: for that sample; None for torch's own.
        """
        moments = torch.cat([self._moments(part, generator) for part in self._slices(x)])
        posterior = DiagonalGaussianDistribution(moments)
        return AutoencoderKLOutput(latent_dist=posterior) if return_dict else (posterior,)

    def _moments(self, video: Tensor, generator: torch.Generator | None) -> Tensor:
        z = self.spatial_vae.encode(video, generator)
        moments = torch.cat([self.temporal_vae.encode(clip) for clip in z.split(CLIP_FRAMES, dim=2)], dim=2)
        mean, logvar = moments.chunk(2, dim=1)
        scale, shift = self.scale.to(mean.dtype), self.shift.to(mean.dtype)
        return torch.cat([(mean - shift) / scale, logvar.clamp(*LOGVAR) - 2 * scale.log()], dim=1)

    @apply_forward_hook
    def decode(self, z: Tensor, num_frames: int | None = None, return_dict: bool = True) -> Any:
        """Video in about [-1, 1], `(batch, channel, frame, y, x)`.

        Args:
            z: latents `(batch, channel, latent frame, y, x)`.
            num_frames: how many frames they were made of, which they do not tell where that is not a multiple of 17; None for
                the longest video that they can be, and one picture of one latent frame.

        Raises:
            CallError: so many frames have other latents.
        """
        num_frames = video_frames(z.shape[2]) if num_frames is None else num_frames
        if latent_frames(num_frames) != z.shape[2]:
            raise CallError(
                f"{num_frames} frames have {latent_frames(num_frames)} latent frames, got {z.shape[2]}, which can be "
                f"{video_frames(z.shape[2])} frames."
            )
        video = torch.cat([self._decode(part, num_frames) for part in self._slices(z)])
        return DecoderOutput(sample=video) if return_dict else (video,)

    def _decode(self, z: Tensor, num_frames: int) -> Tensor:
        z = z * self.scale.to(z.dtype) + self.shift.to(z.dtype)
        clips = z.split(latent_frames(CLIP_FRAMES), dim=2)
        left = [num_frames - CLIP_FRAMES * number for number in range(len(clips))]
        frames = [
            self.temporal_vae.decode(clip, min(CLIP_FRAMES, count)) for clip, count in zip(clips, left, strict=True)
        ]
        return self.spatial_vae.decode(torch.cat(frames, dim=2))

    def _slices(self, x: Tensor) -> Sequence[Tensor]:
        return x.split(1) if self.use_slicing else (x,)

    def forward(self, sample: Tensor, return_dict: bool = True, generator: torch.Generator | None = None) -> Any:
        """A video encoded, sampled and decoded."""
        latents = self.encode(sample, generator=generator).latent_dist.sample(generator)
        return self.decode(latents, sample.shape[2], return_dict=return_dict)
