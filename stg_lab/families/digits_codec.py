"""What the embedded models add to their families: the pixel codec's own sizes and its exact preview."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from stg_lab.preview import Preview


def has_pixel_codec(pipe: Any) -> bool:
    """Whether the pipeline's VAE is one of the digits world's lossless codecs."""
    return type(getattr(pipe, "vae", None)).__name__ in ("PixelCodec", "FrameCodec")


def codec_defaults(pipe: Any) -> dict[str, Any]:
    """Size, length and caption length that an embedded model was trained on, by its pipeline's names; nothing for other models."""
    if not has_pixel_codec(pipe):
        return {}
    c, takes = pipe.vae.config, inspect.signature(pipe.__call__).parameters
    known = {"height": c.sample_size, "width": c.sample_size}
    known |= dict.fromkeys(("num_frames", "video_length", "decode_chunk_size"), c.sample_frames)
    if hasattr(pipe, "tokenizer"):
        known["max_sequence_length"] = pipe.tokenizer.model_max_length
    return {name: value for name, value in known.items() if name in takes}


def codec_preview(pipe: Any) -> Preview | None:
    """The codec as a matrix: it only rearranges pixels, so the preview is the decoder itself."""
    if not has_pixel_codec(pipe):
        return None
    s, t, mean, std = _layout(pipe.vae)
    z = len(mean)
    # Channel (time, rgb, row, column) of a latent pixel is output (time, row, column, rgb) of its block.
    channel = np.arange(z).reshape(t, 3, s, s).transpose(0, 2, 3, 1).ravel()
    rest = np.zeros((z, z), np.float32)
    rest[np.arange(z), channel] = std[channel]
    bias = mean[channel]
    first, first_bias = rest.reshape(t, z // t, z).mean(0), bias.reshape(t, z // t).mean(0)
    return Preview(first, first_bias, rest, bias, spatial=s, temporal=t, exact=True)


def _layout(vae: Any) -> tuple[int, int, np.ndarray, np.ndarray]:
    """Factors of a codec in space and in time, and of each channel the mean and standard deviation that were taken out."""
    c = vae.config
    if "latents_std" in c:
        mean, std = np.asarray(c.latents_mean, np.float32), np.asarray(c.latents_std, np.float32)
        return c.scale_factor_spatial, c.scale_factor_temporal, mean, std
    mean, std = (np.full(c.latent_channels, x, np.float32) for x in (c.pixel_mean, c.pixel_std))
    return 2 ** (len(c.block_out_channels) - 1), 1, mean, std
