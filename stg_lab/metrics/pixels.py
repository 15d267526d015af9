"""Metrics of single videos that look at pixels alone: each `(batch, frame, height, width, 3)` in [0, 1] -> `(batch,)`."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from stg_lab.errors import MetricError
from stg_lab.given import shown
from stg_lab.metrics.arrays import numbers

Video = Float[ndarray, "batch frame height width 3"]
LUMA = np.array([0.299, 0.587, 0.114])  # Rec. 601


def checked(video: ndarray, *, frames: int = 1, side: int = 8) -> ndarray:
    """The video as float32, or a refusal that says what was given.

    Raises:
        MetricError: another shape, fewer than `frames` frames, sides below `side` pixels, or values outside [0, 1].
    """
    x = numbers("a metric takes videos of", video, "(batch, frame, height, width, 3)")
    if x.ndim != 5 or x.shape[-1] != 3 or 0 in x.shape:
        raise MetricError(f"a metric takes videos of shape (batch, frame, height, width, 3), got {x.shape}.")
    if x.shape[1] < frames or min(x.shape[2:4]) < side:
        raise MetricError(
            f"this metric needs {frames} frames or more of at least {side} x {side} pixels, got {x.shape[1]} of "
            f"{x.shape[2]} x {x.shape[3]}."
        )
    x = x.astype(np.float32, copy=False)
    low, high = float(x.min()), float(x.max())
    if not (low >= -1e-3 and high <= 1 + 1e-3):
        raise MetricError(f"a metric takes values in [0, 1], got {low:g} to {high:g}; divide bytes by 255.")
    return x


def luma(video: ndarray) -> ndarray:
    """Brightness of each pixel, Rec. 601, without the last dimension."""
    return video @ LUMA.astype(np.float32)


def flicker(video: Video) -> Float[ndarray, " batch"]:
    """Temporal flickering by VBench's definition (Huang et al. 2024): (255 - mean absolute difference of neighbours) / 255.

    From 0 to 1, 1 for a still video; higher is steadier. Motion lowers it too, so VBench takes it on still scenes only.

    Raises:
        MetricError: not a video of two frames or more in [0, 1].
    """
    x = checked(video, frames=2)
    return 1 - np.abs(np.diff(x, axis=1)).mean((1, 2, 3, 4), dtype=np.float64)


def laplacian_variance(video: Video) -> Float[ndarray, " batch"]:
    """Sharpness: the variance of the Laplacian of the brightness (Pech-Pacheco et al. 2000), mean over frames.

    In squared brightness, 0 for flat pictures, higher is sharper; noise counts as sharp, and it depends on the resolution.

    Raises:
        MetricError: not a video in [0, 1] of at least 8 x 8 pixels.
    """
    y = luma(checked(video)).astype(np.float64)
    inner = y[..., 1:-1, 1:-1]
    laplacian = y[..., :-2, 1:-1] + y[..., 2:, 1:-1] + y[..., 1:-1, :-2] + y[..., 1:-1, 2:] - 4 * inner
    return laplacian.var((2, 3)).mean(1)


def spectral_slope(video: Video) -> Float[ndarray, " batch"]:
    """Sharpness: b of the power spectrum P(f) ~ f**b of the brightness (Field 1987), least squares in log-log, mean over frames.

    Power is averaged over rings of equal frequency, after a Hann window; f from 2 cycles a picture to half the sampling rate.
    About -2 for natural pictures, 0 for white noise; lower is blurrier. Flat frames have no spectrum and count as NaN.

    Raises:
        MetricError: not a video in [0, 1] of at least 16 x 16 pixels.
    """
    y = luma(checked(video, side=16)).astype(np.float64)
    height, width = y.shape[2:]
    window = np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1])
    mean = (y * window).sum((2, 3), keepdims=True) / window.sum()
    power = np.abs(np.fft.rfft2((y - mean) * window)) ** 2
    short = min(height, width)
    cycles = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]) * short
    rings = np.arange(2, short // 2 + 1)
    profile = np.stack([power[..., np.round(cycles) == ring].mean(-1) for ring in rings], -1)  # [batch, frame, ring]
    axis = np.log(rings) - np.log(rings).mean()
    with np.errstate(divide="ignore", invalid="ignore"):
        level = np.log(profile)
        slopes = (level * axis).sum(-1) / (axis**2).sum()
    flat = y.std((2, 3)) < 1e-4  # what is left of a flat frame is rounding
    return np.where(flat, np.nan, slopes).mean(1)


def saturation(video: Video) -> Float[ndarray, " batch"]:
    """Mean chroma: the largest less the smallest of R, G, B (the C of HSV), over all pixels.

    From 0 (grey) to 1. Chroma, not HSV's ratio S, which is all noise where a picture is dark. High guidance scales raise it.

    Raises:
        MetricError: not a video in [0, 1].
    """
    x = checked(video)
    return (x.max(-1) - x.min(-1)).mean((1, 2, 3), dtype=np.float64)


def clipped(video: Video) -> Float[ndarray, " batch"]:
    """Share of channel values at the ends of the range, below 1/255 or above 254/255: what over-saturation burns out.

    From 0 to 1; lower is better.

    Raises:
        MetricError: not a video in [0, 1].
    """
    x = checked(video)
    return ((x < 1 / 255) | (x > 254 / 255)).mean((1, 2, 3, 4))


def contrast(video: Video) -> Float[ndarray, " batch"]:
    """RMS contrast (Peli 1990): the standard deviation of the brightness over each frame, mean over frames; from 0 to 0.5.

    Raises:
        MetricError: not a video in [0, 1].
    """
    return luma(checked(video)).std((2, 3), dtype=np.float64).mean(1)


def latent_variance(latents: Float[ndarray, "batch channel frame y x"]) -> Float[ndarray, " batch"]:
    """Variance of each clip's final latents over everything, from 0 up: it grows when a large guidance scale overshoots.

    Raises:
        MetricError: not of shape `(batch, channel, frame, y, x)`.
    """
    z = numbers("latents are", latents, "(batch, channel, frame, y, x)").astype(np.float64)
    if z.ndim != 5 or 0 in z.shape:
        raise MetricError(f"latents need the shape (batch, channel, frame, y, x), got {z.shape}.")
    if not np.isfinite(z).all():
        raise MetricError(f"latents are finite, got {shown(latents)} with NaN or infinity in it.")
    return z.var((1, 2, 3, 4))
