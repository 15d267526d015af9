"""Tiny stock pipelines of every family, with random weights at which every part matters, called with embeddings.

Each is built from the classes and the scheduler settings of the real checkpoint, at sizes where a step takes milliseconds.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLCogVideoX,
    AutoencoderKLMochi,
    AutoencoderKLTemporalDecoder,
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
    DDIMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    LattePipeline,
    LatteTransformer3DModel,
    MochiPipeline,
    MochiTransformer3DModel,
    StableVideoDiffusionPipeline,
    UNetSpatioTemporalConditionModel,
)
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from kit.pipelines import Rig, generators, randomise, tiny_wan

STEPS = 3


class Member(Rig):
    """A tiny pipeline with the call that it is made with; embeddings stand in for prompts."""

    scale = 3.0

    def arguments(self, changes: dict[str, Any]) -> dict[str, Any]:
        return {"num_inference_steps": STEPS, "output_type": "latent", **self.call, **changes}

    def stock(self, *, seed: int = 0, count: int = 1, **changes: Any) -> Any:
        output = self.pipe(**{"generator": generators(seed, count), **self.arguments(changes)})
        return output.frames

    def two(self) -> dict[str, Any]:
        """Arguments for a batch of two different prompts (or pictures)."""
        doubled = {k: torch.cat([v, v.flip(-1)]) for k, v in self.call.items() if k.endswith("_embeds")}
        doubled |= {k: torch.cat([v, v]) for k, v in self.call.items() if k.endswith("_mask")}
        if "prompt" in self.call:
            doubled["prompt"] = [self.call["prompt"], "a blue two growing"]
        if "image" in self.call:
            doubled["image"] = [self.call["image"], self.call["image"].rotate(180)]
        return doubled


def noise(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def embeds(
    tokens: int,
    width: int,
    *,
    mask: bool | None = None,
    names: tuple[str, str] = ("prompt_embeds", "prompt_attention_mask"),
) -> dict[str, Tensor]:
    """Positive and negative prompt embeddings `(1, tokens, width)`, and masks if asked for."""
    given = {names[0]: noise(1, tokens, width, seed=1), f"negative_{names[0]}": noise(1, tokens, width, seed=2)}
    if mask is not None:
        kind = torch.bool if mask else torch.int64
        ones = torch.ones(1, tokens, dtype=kind)
        given |= {names[1]: ones, f"negative_{names[1]}": ones.clone()}
        given[names[1]][:, -1] = 0  # padding
    return given


def prepared(module: nn.Module, seed: int = 0) -> Any:
    randomise(module, seed)
    return module.eval()


def wan() -> Member:
    return Member(
        tiny_wan(),
        {"prompt": "a red seven moving left", "height": 16, "width": 16, "num_frames": 5, "max_sequence_length": 8},
    )


def mochi() -> Member:
    transformer = MochiTransformer3DModel(
        patch_size=2, num_attention_heads=2, attention_head_dim=8, num_layers=3, pooled_projection_dim=16, in_channels=12,
        qk_norm="rms_norm", text_embed_dim=16, time_embed_dim=4, activation_fn="swiglu", max_sequence_length=16,
    )  # fmt: skip
    vae = AutoencoderKLMochi(
        latent_channels=12, out_channels=3, encoder_block_out_channels=(32, 32, 32, 32),
        decoder_block_out_channels=(32, 32, 32, 32), layers_per_block=(1, 1, 1, 1, 1),
    )  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(invert_sigmas=True)
    pipe = MochiPipeline(scheduler, prepared(vae), None, None, prepared(transformer))
    return Member(pipe, {**embeds(6, 16, mask=True), "height": 16, "width": 32, "num_frames": 7})


def cogvideox(scheduler: Callable[..., Any] = CogVideoXDDIMScheduler) -> Member:
    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=4, time_embed_dim=2, text_embed_dim=32,
        num_layers=3, sample_width=4, sample_height=2, sample_frames=9, patch_size=2, temporal_compression_ratio=4,
        max_text_seq_length=6, use_rotary_positional_embeddings=False,
    )  # fmt: skip
    vae = AutoencoderKLCogVideoX(
        in_channels=3, out_channels=3, block_out_channels=(8, 8, 8, 8), latent_channels=4, layers_per_block=1,
        norm_num_groups=2, temporal_compression_ratio=4,
        down_block_types=("CogVideoXDownBlock3D",) * 4, up_block_types=("CogVideoXUpBlock3D",) * 4,
    )  # fmt: skip
    settings = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    pipe = CogVideoXPipeline(None, None, prepared(vae), prepared(transformer), scheduler(**settings))
    return Member(pipe, {**embeds(6, 32), "height": 16, "width": 32, "num_frames": 9})


def latte() -> Member:
    transformer = LatteTransformer3DModel(
        sample_size=4, num_layers=2, patch_size=2, attention_head_dim=8, num_attention_heads=2, caption_channels=16,
        in_channels=4, out_channels=8, cross_attention_dim=16, attention_bias=True, activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000, norm_type="ada_norm_single", norm_elementwise_affine=False, norm_eps=1e-6, video_length=3,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(8,) * 4, norm_num_groups=2, latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip
    scheduler = DDIMScheduler(beta_start=1e-4, beta_end=0.02, beta_schedule="linear", clip_sample=False)
    pipe = LattePipeline(None, None, prepared(vae), prepared(transformer), scheduler)
    call = {
        **embeds(6, 16),
        "height": 32,
        "width": 64,
        "video_length": 3,
        "negative_prompt": None,
        "clean_caption": False,
    }
    return Member(pipe, call)


def svd() -> Member:
    unet = UNetSpatioTemporalConditionModel(
        sample_size=8, in_channels=8, out_channels=4, block_out_channels=(32, 64), layers_per_block=1,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        num_attention_heads=(2, 2), cross_attention_dim=8, projection_class_embeddings_input_dim=24,
        addition_time_embed_dim=8, num_frames=3,
    )  # fmt: skip
    vae = AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32), down_block_types=("DownEncoderBlock2D",) * 2, latent_channels=4,
    )  # fmt: skip
    encoder = CLIPVisionModelWithProjection(
        CLIPVisionConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, image_size=224,
                         patch_size=56, projection_dim=8)
    )  # fmt: skip
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction",
        use_karras_sigmas=True, timestep_type="continuous", sigma_min=0.002, sigma_max=700.0, timestep_spacing="leading",
        steps_offset=1,
    )  # fmt: skip
    pipe = StableVideoDiffusionPipeline(
        prepared(vae), prepared(encoder), prepared(unet), scheduler, CLIPImageProcessor(crop_size=224, size=224)
    )
    picture = Image.fromarray((np.indices((16, 32)).sum(0)[..., None] * [3, 5, 2]).astype(np.uint8))
    call = {"image": picture, "height": 16, "width": 32, "num_frames": 3, "max_guidance_scale": 3.0}
    return Member(pipe, call)


ZOO: dict[str, Callable[[], Member]] = {
    "wan": wan,
    "mochi": mochi,
    "cogvideox": cogvideox,
    "cogvideox-dpm": functools.partial(cogvideox, CogVideoXDPMScheduler),
    "latte": latte,
    "svd": svd,
}


def member(name: str) -> Member:
    """A fresh tiny pipeline of a family."""
    made = ZOO[name]()
    made.pipe.set_progress_bar_config(disable=True)
    return made
