"""What the embedded models add to their families: the pixel codec's own sizes and its exact preview."""

from __future__ import annotations

from typing import Any

import numpy as np

from stg_lab.preview import Preview


def has_pixel_codec(pipe: Any) -> bool:
    """Whether the pipeline's VAE is the digits world's lossless codec."""
    return type(getattr(pipe, "vae", None)).__name__ == "PixelCodec"


def codec_defaults(pipe: Any) -> dict[str, Any]:
    """Size, length and caption length that an embedded model was trained on; nothing for other models."""
    if not has_pixel_codec(pipe):
        return {}
    c = pipe.vae.config
    return {
        "height": c.sample_size,
        "width": c.sample_size,
        "num_frames": c.sample_frames,
        "max_sequence_length": pipe.tokenizer.model_max_length,
    }


def codec_preview(pipe: Any) -> Preview | None:
    """The codec as a matrix: it only rearranges pixels, so the preview is the decoder itself."""
    if not has_pixel_codec(pipe):
        return None
    c = pipe.vae.config
    s, t, z = c.scale_factor_spatial, c.scale_factor_temporal, c.z_dim
    # Channel (time, rgb, row, column) of a latent pixel is output (time, row, column, rgb) of its block.
    channel = np.arange(z).reshape(t, 3, s, s).transpose(0, 2, 3, 1).ravel()
    rest = np.zeros((z, z), np.float32)
    rest[np.arange(z), channel] = np.asarray(c.latents_std, np.float32)[channel]
    bias = np.asarray(c.latents_mean, np.float32)[channel]
    first, first_bias = rest.reshape(t, z // t, z).mean(0), bias.reshape(t, z // t).mean(0)
    return Preview(first, first_bias, rest, bias, spatial=s, temporal=t, exact=True)
