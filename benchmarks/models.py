"""Stock pipelines with random weights for the benchmarks: what a pass costs does not depend on the weights.

On a CPU: the architectures of Wan, Mochi and LTX-Video, narrow enough for a forward pass to take some tenths of a second. On a
CUDA device (`full`): the published sizes in bfloat16, at the published resolutions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    LTXPipeline,
    LTXVideoTransformer3DModel,
    MochiPipeline,
    MochiTransformer3DModel,
    UniPCMultistepScheduler,
    WanPipeline,
    WanTransformer3DModel,
)
from torch import nn

import stg_lab as lab

CFG_SCALE = 4.0


@dataclass
class Subject:
    """A pipeline to measure, and the call that it is measured with.

    Attributes:
        pipe: the pipeline.
        call: keyword arguments, without generator and number of steps.
        layers: an early, a middle and a late block.
        batched: whether CFG is one pass with two rows.
    """

    pipe: Any
    call: dict[str, Any] = field(default_factory=dict)
    layers: tuple[int, ...] = ()
    batched: bool = False

    def __post_init__(self) -> None:
        self.pipe.set_progress_bar_config(disable=True)
        self.layers = self.layers or tuple(int(self.blocks * third) for third in (0.2, 0.5, 0.8))

    @property
    def denoiser(self) -> nn.Module:
        return self.pipe.transformer

    @property
    def blocks(self) -> int:
        return len(list(getattr(self.denoiser, "blocks", None) or self.denoiser.transformer_blocks))

    def run(self, steps: int, **changes: Any) -> Any:
        """The pipeline itself."""
        device = self.denoiser.device
        generator = torch.Generator(device).manual_seed(0)
        given = {"num_inference_steps": steps, "output_type": "latent", "generator": generator, **self.call, **changes}
        return self.pipe(**given).frames


def text(
    tokens: int, width: int, *, mask: bool = False, device: str = "cpu", dtype: Any = None
) -> dict[str, torch.Tensor]:
    """Random embeddings in place of two prompts."""
    g = torch.Generator().manual_seed(1)
    found = {
        name: torch.randn(1, tokens, width, generator=g).to(device, dtype)
        for name in ("prompt_embeds", "negative_prompt_embeds")
    }
    if mask:
        masks = {name.replace("embeds", "attention_mask"): torch.ones(1, tokens, device=device) for name in found}
        found |= {name: m.bool() for name, m in masks.items()}
    return found


def built(make: Callable[[], Any], device: str = "cpu", dtype: torch.dtype = torch.float32) -> Any:
    """A module with its constructor's random weights, cast as `from_pretrained` would do it."""
    torch.manual_seed(0)
    with torch.device(device):
        module = make().eval().requires_grad_(False)
    kept = module._keep_in_fp32_modules or []
    for name, parameter in module.named_parameters():
        if not any(part in kept for part in name.split(".")):
            parameter.data = parameter.data.to(dtype)
    return module


def digits() -> Subject:
    """The embedded model, trained."""
    pipe = lab.load("digits-joint")
    sizes = {"height": 32, "width": 32, "num_frames": 9, "max_sequence_length": 8, "guidance_scale": CFG_SCALE}
    return Subject(pipe, {"prompt": "a red seven moving left", **sizes}, layers=(1, 4, 6))


def wan(
    blocks: int = 16, heads: int = 6, *, size: tuple[int, int, int] = (17, 128, 128), device: str = "cpu", **rest: Any
) -> Subject:
    """Wan 2.1: cross-attention for the text, CFG as two passes."""
    dtype = rest.pop("dtype", torch.float32)
    width, text_width = heads * rest.get("attention_head_dim", 64), rest.pop("text_dim", 64)
    settings = {"attention_head_dim": 64, "ffn_dim": 4 * width, "text_dim": text_width, "freq_dim": 256, **rest}
    make = lambda: WanTransformer3DModel(num_attention_heads=heads, num_layers=blocks, **settings)  # noqa: E731
    transformer = built(make, device, dtype)
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    pipe = WanPipeline(tokenizer=None, text_encoder=None, vae=None, scheduler=scheduler, transformer=transformer)
    return Subject(pipe, {**text(32, text_width, device=device, dtype=dtype), **video(size)})


def mochi(
    blocks: int = 48, heads: int = 4, *, size: tuple[int, int, int] = (13, 128, 128), device: str = "cpu", **rest: Any
) -> Subject:
    """Mochi: text and video in one attention, CFG as one pass with the batch [uncond, cond]."""
    dtype = rest.pop("dtype", torch.float32)
    settings = {
        "attention_head_dim": 64,
        "pooled_projection_dim": 256,
        "text_embed_dim": 256,
        "max_sequence_length": 64,
        **rest,
    }
    make = lambda: MochiTransformer3DModel(num_attention_heads=heads, num_layers=blocks, **settings)  # noqa: E731
    pipe = MochiPipeline(
        FlowMatchEulerDiscreteScheduler(invert_sigmas=True), None, None, None, built(make, device, dtype)
    )
    words = text(settings["max_sequence_length"], settings["text_embed_dim"], mask=True, device=device, dtype=dtype)
    return Subject(pipe, {**words, **video(size)}, layers=(9, 24, 34) if blocks == 48 else (), batched=True)


def ltx(
    blocks: int = 28, heads: int = 6, *, size: tuple[int, int, int] = (25, 256, 256), device: str = "cpu", **rest: Any
) -> Subject:
    """LTX-Video: cross-attention, few and wide tokens, CFG as one pass with the batch [uncond, cond]."""
    dtype = rest.pop("dtype", torch.float32)
    settings = {"attention_head_dim": 64, "cross_attention_dim": heads * 64, "caption_channels": 256, **rest}
    make = lambda: LTXVideoTransformer3DModel(num_attention_heads=heads, num_layers=blocks, **settings)  # noqa: E731
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, base_shift=0.95, max_shift=2.05, shift_terminal=0.1
    )
    pipe = LTXPipeline(scheduler, None, None, None, built(make, device, dtype))
    words = text(64, settings["caption_channels"], mask=True, device=device, dtype=dtype)
    return Subject(pipe, {**words, **video(size)}, batched=True)


def video(size: tuple[int, int, int]) -> dict[str, Any]:
    """Frames, height and width as a call has them."""
    return {"num_frames": size[0], "height": size[1], "width": size[2], "guidance_scale": CFG_SCALE}


#: What is measured without an accelerator.
SMALL: dict[str, Callable[[], Subject]] = {
    "digits-joint (8 blocks, trained)": digits,
    "Wan architecture (16 blocks of 384)": wan,
    "Mochi architecture (48 blocks of 256)": mochi,
    "LTX architecture (28 blocks of 384)": ltx,
}

#: What is measured on a CUDA device: the published sizes, at sizes of video that the checkpoints are used with.
_BF16 = {"device": "cuda", "dtype": torch.bfloat16}
FULL: dict[str, Callable[[], Subject]] = {
    "Mochi 1 (48 blocks of 3072, bfloat16)": lambda: mochi(
        48, 24, size=(37, 480, 848), attention_head_dim=128, pooled_projection_dim=1536, text_embed_dim=4096,
        max_sequence_length=256, **_BF16,
    ),
    "Wan 2.1 14B (40 blocks of 5120, bfloat16)": lambda: wan(
        40, 40, size=(33, 480, 832), attention_head_dim=128, ffn_dim=13824, text_dim=4096, **_BF16
    ),
    "LTX-Video 2B (28 blocks of 2048, bfloat16)": lambda: ltx(
        28, 32, size=(97, 512, 768), cross_attention_dim=2048, caption_channels=4096, **_BF16
    ),
}  # fmt: skip
