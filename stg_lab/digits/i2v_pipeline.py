"""Building `digits-i2v`: a stock `StableVideoDiffusionPipeline` around small, real parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import EulerDiscreteScheduler, StableVideoDiffusionPipeline, UNetSpatioTemporalConditionModel
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModelWithProjection

from stg_lab.digits.codec import FrameCodec
from stg_lab.digits.pipeline import PIXEL_MEAN, PIXEL_STD
from stg_lab.digits.world import FRAMES, SIZE

#: Lowest and highest noise level of the sampler. At 500 a Bayes-optimal reader who knows the first frame still has 0.04 of
#: the 2 bits that tell moving left, right, up and down apart (at 50: 1.6 bits; at 200: 0.25), so pure noise is a fair start.
#: 0.02 is 1/250 of the pixels' range in latents: below it nothing is left to see.
SIGMA_MIN, SIGMA_MAX = 0.02, 500.0


@dataclass(frozen=True)
class ImageArchitecture:
    """Sizes of `digits-i2v`: convolutions alone at 16 x 16, attention at 8 x 8 and in the middle.

    Attributes:
        channels: at 16 x 16 and at 8 x 8; multiples of 32, as the group norms want.
        layers: residual blocks on the way down at each of the two; the way up has one more of each.
        head_dim: channels of an attention head.
        image_dim: width of the image encoder and of its embedding.
    """

    channels: tuple[int, int] = (64, 96)
    layers: tuple[int, int] = (1, 2)
    head_dim: int = 32
    image_dim: int = 64
    image_layers: int = 2


def build_i2v(architecture: ImageArchitecture = ImageArchitecture(), *, seed: int = 0) -> Any:
    """An untrained `digits-i2v`, a `StableVideoDiffusionPipeline`: 9 frames of 32 x 32 as 9 latent frames of 16 x 16.

    Args:
        seed: decides the weights.
    """
    torch.manual_seed(seed)
    a = architecture
    codec = FrameCodec(pixel_mean=PIXEL_MEAN, pixel_std=PIXEL_STD, sample_size=SIZE, sample_frames=FRAMES)
    channels, ids = codec.config.latent_channels, a.image_dim
    unet: Any = UNetSpatioTemporalConditionModel(
        sample_size=SIZE // codec.factor, in_channels=2 * channels, out_channels=channels, num_frames=FRAMES,
        down_block_types=("DownBlockSpatioTemporal", "CrossAttnDownBlockSpatioTemporal"),
        up_block_types=("CrossAttnUpBlockSpatioTemporal", "UpBlockSpatioTemporal"),
        block_out_channels=a.channels, layers_per_block=a.layers, cross_attention_dim=a.image_dim,
        num_attention_heads=tuple(c // a.head_dim for c in a.channels),
        addition_time_embed_dim=ids, projection_class_embeddings_input_dim=3 * ids,
    )  # fmt: skip
    encoder = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=a.image_dim,
            intermediate_size=2 * a.image_dim,
            num_hidden_layers=a.image_layers,
            num_attention_heads=a.image_dim // a.head_dim,
            image_size=224,  # the pipeline enlarges every picture to this
            patch_size=32,
            projection_dim=a.image_dim,
        )
    )
    return StableVideoDiffusionPipeline(
        vae=codec,
        image_encoder=encoder.eval(),
        unet=unet.eval(),
        scheduler=build_scheduler(),
        feature_extractor=CLIPImageProcessorPil(size=224, crop_size=224),
    )


def build_scheduler() -> EulerDiscreteScheduler:
    """Stable Video Diffusion's own, but for the range of noise levels."""
    return EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction",
        timestep_type="continuous", use_karras_sigmas=True, sigma_min=SIGMA_MIN, sigma_max=SIGMA_MAX,
        timestep_spacing="leading", steps_offset=1,
    )  # fmt: skip
