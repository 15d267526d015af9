"""HunyuanVideo and HunyuanVideo 1.5: text and video in one attention, video first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stg_lab.errors import CallError, GuidanceError
from stg_lab.families import call_sizes
from stg_lab.families.base import Family, Grid, two_streams_without
from stg_lab.families.call import Call, with_text
from stg_lab.families.caller_frame import running
from stg_lab.families.first_frame import FirstFrame
from stg_lab.families.guider import Guider
from stg_lab.families.network import SHARED_PARTS
from stg_lab.families.wan import SEGMENTS


class Hunyuan(Family):
    """What both versions share."""

    surely_reused = True
    parts: tuple[str, ...] = SHARED_PARTS
    text_tokens = "last"

    def blocks(self, denoiser: Any) -> list[Any]:
        return list(denoiser.transformer_blocks)

    def sublayers(self, block: Any, part: str) -> list[nn.Module]:
        return [block.attn] if part == "attention" else [block.ff, block.ff_context]

    def without(self, part: str, *args: Any, **kwargs: Any) -> Any:
        if part == "feedforward":
            return super().without(part, *args, **kwargs)
        return two_streams_without(part, *args, **kwargs)

    def grid(self, denoiser: Any, args: tuple, kwargs: Mapping[str, Any]) -> Grid:
        frames, height, width = kwargs["hidden_states"].shape[2:]
        c = denoiser.config
        return Grid(frames // c.patch_size_t, height // c.patch_size, width // c.patch_size)

    def spacing(self, pipe: Any, scheduler: Any, steps: int, shape: tuple[int, ...]) -> dict[str, Any]:
        return {"sigmas": np.linspace(1.0, 0.0, steps + 1)[:-1]}

    def decode(self, pipe: Any, latents: Tensor) -> np.ndarray:
        z = latents.to(pipe.vae.device, pipe.vae.dtype) / pipe.vae.config.scaling_factor
        with torch.no_grad():
            video = pipe.vae.decode(z, return_dict=False)[0]
        return pipe.video_processor.postprocess_video(video, output_type="np")


class HunyuanVideo(Hunyuan):
    """`HunyuanVideoPipeline`: double blocks, with a stream each for video and text, then single ones, with both in one.

    The model is distilled: its `guidance_scale` is an input, and there is no unconditional pass unless it is asked for.
    """

    name = "HunyuanVideo"
    pipelines = ("HunyuanVideoPipeline",)
    scale_argument = "true_cfg_scale"
    cfg_form = (
        "distilled, so one call a step by default (guidance_scale is an input of the model); with true_cfg_scale above 1 and a "
        "negative prompt two calls, conditional first: u + scale (c - u)"
    )
    sources = "the authors' code and diffusers' community STG pipeline default to block 2 (STG-R, scale 1 in their example, no CFG)"

    def blocks(self, denoiser: Any) -> list[Any]:
        return [*denoiser.transformer_blocks, *denoiser.single_transformer_blocks]

    def sublayers(self, block: Any, part: str) -> list[nn.Module]:
        """A single block's feed-forward is projected out together with its attention; without it, its share there is zero."""
        if part == "feedforward" and hasattr(block, "act_mlp"):
            return [block.act_mlp]
        return super().sublayers(block, part)

    def without_caption(self, pipe: Any, args: tuple, kwargs: Mapping[str, Any]) -> tuple[tuple, dict[str, Any]]:
        text = kwargs["encoder_hidden_states"]
        encoded = pipe.encode_prompt("", device=text.device, dtype=text.dtype, max_sequence_length=text.shape[1])
        names = ("encoder_hidden_states", "pooled_projections", "encoder_attention_mask")
        new = dict(zip(names, encoded, strict=True))
        return args, with_text(kwargs, new)

    def has_uncond(self, pipe: Any) -> bool:
        return bool(running(pipe, "do_true_cfg").get("do_true_cfg", False))

    def wants_uncond(self, pipe: Any, call: Mapping[str, Any]) -> bool:
        embeds = (call.get("negative_prompt_embeds"), call.get("negative_pooled_prompt_embeds"))
        negative = call.get("negative_prompt") is not None or not any(e is None for e in embeds)
        return negative and super().wants_uncond(pipe, call)

    def scale(self, pipe: Any, denoiser: str) -> float:
        return float(running(pipe, "true_cfg_scale")["true_cfg_scale"]) if self.has_uncond(pipe) else 1.0

    def how_to_scale(self, scale: str) -> str:
        return f"Call it with true_cfg_scale={scale} and a negative_prompt ('' will do)."

    def how_to_uncond(self) -> str:
        return f"The model is distilled. {self.how_to_scale('6.0')}"


class HunyuanVideoImage(FirstFrame, HunyuanVideo):
    """`HunyuanVideoImageToVideoPipeline`. Checkpoints with `image_condition_type="token_replace"` have the picture as their first
    latent frame, and the pipeline drops what is predicted for it; those with "latent_concat" have it in channels of its own, and
    sample one latent frame more than they return."""

    name = "HunyuanVideo image-to-video"
    pipelines = ("HunyuanVideoImageToVideoPipeline",)
    without_caption = Call.without_caption  # it encodes prompt and picture together

    def given_frames(self, pipe: Any, *, at_step: bool = False) -> int:
        return super().given_frames(pipe, at_step=at_step) if self._replaces(pipe) else 0

    def notes(self, pipe: Any) -> dict[str, str]:
        how = "is the first latent frame, which is not stepped" if self._replaces(pipe) else "has channels of its own"
        return {"picture": f"it {how} (image_condition_type={pipe.transformer.config.image_condition_type!r})"}

    def returned(self, pipe: Any, latents: Tensor, call: Mapping[str, Any]) -> Tensor:
        if self._replaces(pipe):
            return latents
        raise CallError(
            "this pipeline drops the first latent frame before it returns latents, and cannot decode the others without it. Call "
            "it with output_type='np', or decode what was recorded: lab.decode(pipe, run.recording.ds.final)."
        )

    def decode(self, pipe: Any, latents: Tensor) -> np.ndarray:
        video = super().decode(pipe, latents)
        return video if self._replaces(pipe) else video[:, pipe.vae_scale_factor_temporal :]

    def _replaces(self, pipe: Any) -> bool:
        return pipe.transformer.config.image_condition_type == "token_replace"


class HunyuanSkyReels(HunyuanVideo):
    """`HunyuanSkyreelsImageToVideoPipeline` (SkyReels V1). The denoiser's input is the latents with the channels of the picture."""

    name = "SkyReels V1 image-to-video"
    pipelines = ("HunyuanSkyreelsImageToVideoPipeline",)


class FramePack(HunyuanVideo):
    """`HunyuanVideoFramepackPipeline`. A video is sampled section by section, each a loop of its own; the denoiser takes tokens of
    the picture and of the frames that are there already, coarser the further away they lie, beside those of its section."""

    name = "FramePack"
    pipelines = ("HunyuanVideoFramepackPipeline",)

    def latent_shape(self, pipe: Any, call: Mapping[str, Any]) -> tuple[int, ...] | None:
        frames = (call["latent_window_size"] - 1) * pipe.vae_scale_factor_temporal + 1
        return super().latent_shape(pipe, {**call, "num_frames": frames, "latents": None})

    def spacing(self, pipe: Any, scheduler: Any, steps: int, shape: tuple[int, ...]) -> dict[str, Any]:
        tokens = shape[2] * shape[3] * shape[4] / pipe.transformer.config.patch_size**2
        mu = min(call_sizes.shift(scheduler, tokens, (256, 0.5, 1.15)), math.log(7.0))
        return {**super().spacing(pipe, scheduler, steps, shape), "mu": mu}

    def stock(self, pipe: Any, predictions: Mapping[str, Tensor], scale: Any, sample: Tensor, index: int) -> Tensor:
        return super().stock(pipe, predictions, scale, sample, index).float()

    def grid(self, denoiser: Any, args: tuple, kwargs: Mapping[str, Any]) -> Grid:
        raise GuidanceError(
            "FramePack's attention sees tokens of earlier frames at three sizes beside those of its section, so it cannot be edited by "
            "place. Skip whole blocks, or one part of them: lab.skip(layers), lab.skip(layers, part='attention')."
        )

    def returned(self, pipe: Any, latents: Any, call: Mapping[str, Any]) -> Tensor:
        return latents[-1] if isinstance(latents, list) else latents

    def notes(self, pipe: Any) -> dict[str, str]:
        return {
            "sections": f"{SEGMENTS}; lab.plan tells of one section",
            "decoding": "lab.decode shows a section alone; the pipeline decodes it with its neighbours and blends them",
        }


class HunyuanVideo15(Guider, Hunyuan):
    """`HunyuanVideo15Pipeline`. CFG is done by a component, `pipe.guider`, and so is its scale; the denoiser's input is the
    latents with the channels of a picture and its mask, all zero for text-to-video."""

    name = "HunyuanVideo 1.5"
    pipelines = ("HunyuanVideo15Pipeline",)

    def latent_shape(self, pipe: Any, call: Mapping[str, Any]) -> tuple[int, ...] | None:
        if call.get("height") is None and call.get("width") is None:
            wide, high = pipe.default_aspect_ratio
            height, width = pipe.video_processor.calculate_default_height_width(high, wide, pipe.target_size)
            call = {**call, "height": height, "width": width}
        return super().latent_shape(pipe, call)


class HunyuanVideo15Image(HunyuanVideo15):
    """`HunyuanVideo15ImageToVideoPipeline`. The channels of the picture and its mask are filled, and its embeddings are tokens
    beside those of the text. The size of the video follows from the picture's."""

    name = "HunyuanVideo 1.5 image-to-video"
    pipelines = ("HunyuanVideo15ImageToVideoPipeline",)

    def latent_shape(self, pipe: Any, call: Mapping[str, Any]) -> tuple[int, ...] | None:
        wide, high = call["image"].size
        height, width = pipe.video_processor.calculate_default_height_width(high, wide, pipe.target_size)
        return super().latent_shape(pipe, {**call, "height": height, "width": width})
