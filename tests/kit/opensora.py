"""Tiny parts of Open-Sora 1.2 with numbers that are the same everywhere, and what the lab's classes make of them.

`benchmarks/opensora.py` computes the same from the model's own code; what that gave lies in tests/data/opensora.safetensors.
"""

from __future__ import annotations

import functools
import zlib
from typing import Any

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor, nn

from stg_lab.opensora import AutoencoderKLOpenSora, OpenSoraPipeline, STDiT3Transformer3DModel
from stg_lab.opensora.layers import rotated

#: Sizes that exercise everything: the frame is no whole number of patches, the caption is padded.
TRANSFORMER = {"depth": 3, "hidden_size": 48, "num_heads": 2, "caption_channels": 16, "model_max_length": 12}
VAE = {
    "block_out_channels": (8, 8, 8, 8),
    "layers_per_block": 1,
    "norm_num_groups": 2,
    "filters": 32,
    "num_res_blocks": 1,
}
WORDS, FEATURES, SEEN = 12, 16, 7
LATENTS = (4, 5, 7, 9)
TOLD = {"fps": 24, "height": 56, "width": 72}
PATCHES = (4, 5)
STEPS, SCALE, FRAMES = 6, 7.0, 17
STACK_FRAMES, STACK_LATENTS = 22, 7

#: The largest difference from the model's own code, relative where values are above 1; what is not here is exact.
BARS = {"block": 1e-6, "model": 1e-5, "sampled": 1e-5, "temporal": 1e-5, "stack": 1e-5}


def numbers(name: str, *shape: int) -> Tensor:
    """Standard normal, from a generator whose stream numpy keeps as it is for good."""
    drawn = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    return torch.from_numpy(drawn.astype(np.float32))


def fill(module: nn.Module) -> Any:
    """Weights by the names of the checkpoint, at which every part matters."""
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if name in ("rope.freqs", "scale", "shift"):
                continue
            drawn = numbers(name, *tensor.shape)
            if tensor.ndim >= 2:
                tensor.copy_(drawn * (1 if "embedding" in name else tensor[0].numel() ** -0.5))
            else:
                tensor.copy_(0.1 * drawn + ("norm" in name and name.endswith("weight")))
    return module.eval()


def certain(vae: nn.Module) -> nn.Module:
    """An image VAE whose posteriors have no width, so that a sample is the mean."""
    with torch.no_grad():
        channels = len(vae.quant_conv.bias) // 2
        vae.quant_conv.weight[channels:] = 0
        vae.quant_conv.bias[channels:] = -60
    return vae


@functools.cache
def transformer() -> STDiT3Transformer3DModel:
    return fill(STDiT3Transformer3DModel(**TRANSFORMER))


@functools.cache
def vae() -> AutoencoderKLOpenSora:
    made = fill(AutoencoderKLOpenSora(**VAE))
    certain(made.spatial_vae.module)
    return made


def mask(rows: int = 1) -> Tensor:
    return (torch.arange(WORDS) < SEEN).long().repeat(rows, 1)


def given_frames(rows: int) -> Tensor:
    """Which frames are to be made; the others are given."""
    return torch.tensor([[True, False, True, True, False]]).repeat(rows, 1)


def inputs(rows: int) -> dict[str, Tensor]:
    """Of the transformer, under its own argument names."""
    return {
        "hidden_states": numbers("latents", rows, *LATENTS),
        "timestep": torch.tensor([700.0, 311.5])[:rows],
        "encoder_hidden_states": numbers("captions", rows, WORDS, FEATURES),
    }


def block_inputs() -> dict[str, Tensor]:
    """Tokens, words that are seen, and the embeddings of the time and of time 0."""
    frames, places, channels = LATENTS[1], PATCHES[0] * PATCHES[1], TRANSFORMER["hidden_size"]
    return {
        "tokens": numbers("tokens", 1, frames * places, channels),
        "words": numbers("words", 1, SEEN, channels),
        "time": numbers("time", 1, 6 * channels),
        "time zero": numbers("time zero", 1, 6 * channels),
    }


def parts() -> dict[str, Tensor]:
    """Positions, rotation and single blocks."""
    model, given, frames = transformer(), block_inputs(), LATENTS[1]
    query = numbers("query", 2, 2, frames, 24)
    found = {
        "positions": model.pos_embed(*PATCHES, 56, 72),
        "positions wide": model.pos_embed(9, 16, 144, 256),
        "rotated": rotated(query, model.rope(frames)),
    }
    time, zero = (given[name].view(1, 1, 6, -1) for name in ("time", "time zero"))
    masked = torch.where(given_frames(1)[:, :, None, None], time, zero)
    for kind, blocks in (("spatial", model.spatial_blocks), ("temporal", model.temporal_blocks)):
        for name, modulation in ((kind, time), (f"{kind} masked", masked)):
            found[f"block {name}"] = blocks[1](
                given["tokens"], given["words"], modulation, frames, None, model.rope(frames)
            )
    return found


def whole() -> dict[str, Tensor]:
    """The transformer, with one row of mask for a batch of two, and with frames that are given."""
    call = {**inputs(2), "encoder_attention_mask": mask(), **TOLD}
    return {
        "model": transformer()(**call).sample,
        "model masked": transformer()(**call, frame_mask=given_frames(2)).sample,
        "model no mask": transformer()(**{**call, "encoder_attention_mask": None}).sample,
    }


def pipeline() -> OpenSoraPipeline:
    pipe = OpenSoraPipeline(transformer(), vae(), FlowMatchEulerDiscreteScheduler())
    pipe.set_progress_bar_config(disable=True)
    return pipe


def sampled() -> dict[str, Tensor]:
    """Two samples of one prompt each, through the pipeline."""
    given = inputs(2)
    latents = pipeline()(
        prompt_embeds=given["encoder_hidden_states"], prompt_attention_mask=mask(2), latents=given["hidden_states"],
        num_frames=FRAMES, height=56, width=72, num_inference_steps=STEPS, guidance_scale=SCALE, output_type="latent",
    )  # fmt: skip
    return {"sampled": latents.frames}


def halves() -> dict[str, Tensor]:
    """The temporal VAE at one, five, seventeen and thirty-four frames."""
    found, temporal = {}, vae().temporal_vae
    for frames, latents in ((1, 1), (5, 2), (17, 5), (34, 9)):
        found[f"temporal encoded {frames}"] = temporal.encode(numbers(f"frames {frames}", 1, 4, frames, 3, 2))
        found[f"temporal decoded {frames}"] = temporal.decode(numbers(f"z {frames}", 1, 4, latents, 3, 2), frames)
    return found


def stack() -> dict[str, Tensor]:
    """The whole VAE, by clips, at a length that is no whole number of them."""
    video, z = numbers("video", 1, 3, STACK_FRAMES, 16, 16), numbers("stack z", 1, 4, STACK_LATENTS, 2, 2)
    return {
        "stack encoded": vae().encode(video).latent_dist.mode(),
        "stack decoded": vae().decode(z, STACK_FRAMES).sample,
    }


def computed() -> dict[str, Tensor]:
    """Everything, by name."""
    with torch.no_grad():
        found = {**parts(), **whole(), **sampled(), **halves(), **stack()}
    return {name: tensor.contiguous() for name, tensor in found.items()}


def bar(name: str) -> float:
    """How much a result may differ from that of the model's own code."""
    return next((value for prefix, value in BARS.items() if name.startswith(prefix)), 0.0)


def difference(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, relative to the largest value where that is above 1."""
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1))
