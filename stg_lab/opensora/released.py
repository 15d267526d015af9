"""A pipeline from the two released checkpoints, whose weights have the names of this package's classes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from safetensors.torch import load_file
from transformers import AutoTokenizer, T5EncoderModel

from stg_lab.errors import CallError, ModelNotFoundError
from stg_lab.opensora.checkpoints import WEIGHTS, read_config
from stg_lab.opensora.lengths import CLIP_FRAMES
from stg_lab.opensora.pipeline import OpenSoraPipeline
from stg_lab.opensora.transformer import STDiT3Transformer3DModel
from stg_lab.opensora.vae import AutoencoderKLOpenSora

#: Settings of the released classes that change what they compute -> the value that is known here.
KNOWN = {"skip_y_embedder": False, "micro_frame_size": CLIP_FRAMES, "cal_loss": False}
RENAMED = {"shift": "latents_mean", "scale": "latents_std"}


def from_released(
    folder: str | Path,
    vae: str | Path | AutoencoderKLOpenSora,
    *,
    text_encoder: Any = None,
    tokenizer: Any = None,
    scheduler: Any = None,
    dtype: torch.dtype = torch.float32,
) -> OpenSoraPipeline:
    """A pipeline from the transformer's folder and the VAE's, every weight in its place (`strict=True`).

    Args:
        folder: with `config.json` and `model.safetensors`, as in hpcai-tech/OpenSora-STDiT-v3.
        vae: the same of hpcai-tech/OpenSora-VAE-v1.2, or a loaded one.
        text_encoder: a T5 v1.1 XXL encoder, or a folder or repository id of one in safetensors; None for calls with
            `prompt_embeds` alone.
        tokenizer: of the text encoder; by default from the same place.
        scheduler: by default Euler's method for flow matching, which the checkpoint was sampled with.
        dtype: of all weights; frequencies of rotary positions stay in float32.

    Raises:
        ModelNotFoundError: a folder lacks a file, or its weights are not those of this model.
        CallError: a config with settings that are not known here, or a text encoder of another width.
    """
    transformer = _loaded(STDiT3Transformer3DModel, Path(folder), dtype)
    decoder: Any = _loaded(AutoencoderKLOpenSora, Path(vae), dtype) if isinstance(vae, str | Path) else vae
    if isinstance(text_encoder, str | Path):
        tokenizer = text_encoder if tokenizer is None else tokenizer
        text_encoder = _text_encoder(text_encoder, dtype)
    if isinstance(tokenizer, str | Path):
        tokenizer = AutoTokenizer.from_pretrained(tokenizer)
    given = getattr(getattr(text_encoder, "config", None), "d_model", None)
    features = transformer.config.caption_channels
    if given not in (None, features):
        raise CallError(
            f"this model reads captions of {features} features, T5 v1.1 XXL's; the text encoder has {given}."
        )
    scheduler = FlowMatchEulerDiscreteScheduler() if scheduler is None else scheduler
    return OpenSoraPipeline(transformer, decoder, scheduler, text_encoder, tokenizer)


def _text_encoder(place: str | Path, dtype: torch.dtype) -> Any:
    read: Any = T5EncoderModel.from_pretrained
    model, found = read(place, dtype=dtype, use_safetensors=True, output_loading_info=True)
    if missing := sorted(
        name for name in found["missing_keys"] if "embed_tokens" not in name
    ):  # those are `shared`, too
        raise ModelNotFoundError(
            f"{place} is no T5 encoder: it has no {missing[0]}, and {len(missing) - 1} more are missing."
        )
    return model


def _loaded(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    """A model from a folder, made without memory and filled with what lies in the file."""
    config = _arguments(kind, read_config(folder), folder)
    if not (folder / WEIGHTS).is_file():
        raise ModelNotFoundError(
            f"{folder} has no {WEIGHTS}, which holds the weights of Open-Sora 1.2's {kind.__name__}."
        )
    with torch.device("meta"):
        model = kind(**config)
    weights = {
        name: tensor.to(torch.float32 if name.startswith("rope.") else dtype)
        for name, tensor in load_file(folder / WEIGHTS).items()
    }
    try:
        model.load_state_dict(weights, strict=True, assign=True)
    except RuntimeError as error:
        told = " ".join(str(error).split())
        raise ModelNotFoundError(f"{folder / WEIGHTS} is not of this {kind.__name__}: {told[:500]}") from None
    return model.eval()


def _arguments(kind: Any, config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Of the class's constructor, from a config of the released class; what it does not say is as released."""
    for name, known in KNOWN.items():
        if config.get(name, known) != known:
            raise CallError(
                f"{folder} says {name}={config[name]!r}, which is not Open-Sora 1.2 as released ({known!r})."
            )
    taken = inspect.signature(kind.__init__).parameters
    named = {RENAMED.get(name, name): value for name, value in config.items()}
    return {name: value for name, value in named.items() if name in taken and value is not None}
