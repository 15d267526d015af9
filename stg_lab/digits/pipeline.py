"""Building the embedded models: a stock `WanPipeline` around small, real parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from stg_lab.digits.captions import WORDS
from stg_lab.digits.codec import PixelCodec
from stg_lab.digits.world import FRAMES, SIZE

#: Mean and standard deviation of the world's pixels in [-1, 1], rounded; the model sees unit variance.
PIXEL_MEAN, PIXEL_STD = -0.62, 0.42

#: Sampling shift of the flow-matching scheduler: x <- 3 x / (1 + 2 x) of uniform noise levels.
SHIFT = 3.0

#: Longest caption in tokens, end mark included; the pad to this length is what the pipeline gives by default.
MAX_TOKENS = 8


@dataclass(frozen=True)
class Architecture:
    """Sizes of `digits-joint`."""

    blocks: int = 8
    heads: int = 4
    head_dim: int = 32
    text_dim: int = 64
    text_layers: int = 2


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer over the caption grammar, with T5's special tokens and end mark."""
    special = ["<pad>", "</s>", "<unk>"]
    vocabulary = {word: i for i, word in enumerate([*special, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=MAX_TOKENS
    )


def text_sizes(a: Architecture) -> dict[str, Any]:
    """Configuration of a small text encoder of T5's kind, for the tokenizer above."""
    return {
        "vocab_size": len(WORDS) + 3, "d_model": a.text_dim, "d_kv": 16, "d_ff": 2 * a.text_dim,
        "num_layers": a.text_layers, "num_heads": 4, "dropout_rate": 0.0, "feed_forward_proj": "gated-gelu",
        "is_encoder_decoder": False,
    }  # fmt: skip


def build_joint(architecture: Architecture = Architecture(), *, seed: int = 0) -> Any:
    """An untrained `digits-joint`, a `WanPipeline`: text-to-video with full 3D attention, 9 frames of 32 x 32 as 5 x 8 x 8 tokens."""
    torch.manual_seed(seed)
    a = architecture
    codec = PixelCodec(sample_size=SIZE, sample_frames=FRAMES)
    channels = codec.config.z_dim
    codec.register_to_config(latents_mean=[PIXEL_MEAN] * channels, latents_std=[PIXEL_STD] * channels)
    transformer: Any = WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=a.heads, attention_head_dim=a.head_dim, in_channels=channels,
        out_channels=channels, text_dim=a.text_dim, freq_dim=128, ffn_dim=4 * a.heads * a.head_dim,
        num_layers=a.blocks, rope_max_seq_len=64,
    )  # fmt: skip
    text_encoder = UMT5EncoderModel(UMT5Config(**text_sizes(a)))
    return WanPipeline(
        tokenizer=build_tokenizer(),
        text_encoder=text_encoder.eval(),
        vae=codec,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=SHIFT),
        transformer=transformer.eval(),
    )
