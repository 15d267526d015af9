"""What a pipeline call will do, told from its arguments alone: its samples, the shape of its latents, its steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SPACE = (
    "vae_scale_factor_spatial",
    "vae_spatial_scale_factor",
    "vae_spatial_compression_ratio",
    "vae_scale_factor",
)
TIME = ("vae_scale_factor_temporal", "vae_temporal_scale_factor", "vae_temporal_compression_ratio")


def factors(pipe: Any) -> tuple[int | None, int | None]:
    """How much smaller latents are than pixels, in space and in time; every pipeline keeps the numbers under names of its own.
    None where it has none."""
    space, time = (next((getattr(pipe, n) for n in names if hasattr(pipe, n)), None) for names in (SPACE, TIME))
    return space, time


def samples(call: Mapping[str, Any], argument: str) -> int:
    """How many samples a call makes.

    Args:
        call: its arguments.
        argument: the name of the one that says how many each prompt (or picture) gets; "" where there is none.
    """
    prompt, embeds, image = (call.get(name) for name in ("prompt", "prompt_embeds", "image"))
    each = (call.get(argument) if argument else None) or 1
    if prompt is not None:
        return each * (len(prompt) if isinstance(prompt, list) else 1)
    if embeds is not None:
        return each * embeds.shape[0]
    if isinstance(image, list):
        return each * len(image)
    return each * (len(image) if image is not None and getattr(image, "ndim", 0) == 4 else 1)


def channels(pipe: Any, denoiser: Any) -> int:
    """Channels of the latents: the VAE's own number, since a denoiser may take more."""
    vae = getattr(pipe, "vae", None)
    config = denoiser.config if vae is None else vae.config
    names = ("latent_channels", "z_dim", "in_channels")
    return int(next(config[n] for n in names if config.get(n)))


def pixels(pipe: Any, denoiser: Any, call: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width of a call, which takes what it was not given from the pipeline or from its denoiser."""
    config, (space, _) = denoiser.config, factors(pipe)

    def size(name: str) -> int:
        latent = config.get(f"sample_{name}") or config.get("sample_size") or 0
        return int(call.get(name) or getattr(pipe, f"default_{name}", 0) or latent * (space or 1))

    return size("height"), size("width")


def frames(denoiser: Any, call: Mapping[str, Any]) -> int:
    """Frames of a call, likewise."""
    given = call.get("num_frames") or call.get("video_length")
    return int(given or denoiser.config.get("sample_frames") or denoiser.config.get("num_frames") or 1)


def shift(scheduler: Any, tokens: float, base: tuple[int, float, float]) -> float:
    """`mu` for schedulers that shift their steps by how many tokens there are: a straight line through two points.

    Args:
        base: what the pipeline takes for base_image_seq_len, base_shift and max_shift where the scheduler does not say.
    """
    config = scheduler.config
    first, low, high = (
        config.get(n, b) for n, b in zip(("base_image_seq_len", "base_shift", "max_shift"), base, strict=True)
    )
    slope = (high - low) / (config.get("max_image_seq_len", 4096) - first)
    return tokens * slope + low - slope * first
