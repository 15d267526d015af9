"""CogVideoX: text and video in one attention, latents with frames before channels, v-prediction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stg_lab.families.base import Family, Grid, two_streams_without
from stg_lab.families.halfway import Halfway
from stg_lab.families.network import SHARED_PARTS


class CogVideoX(Family):
    """`CogVideoXPipeline` (2B, 5B, 1.5) with the DDIM or the DPM scheduler."""

    name = "CogVideoX"
    pipelines = ("CogVideoXPipeline",)
    surely_reused = True
    parts = SHARED_PARTS
    text_tokens = "first"
    batched = True
    layout = "batch, frame, channel, y, x"
    dynamic_argument = "use_dynamic_cfg"
    samples_argument = ""  # the call takes num_videos_per_prompt and makes one
    cfg_form = (
        "one call with the batch [uncond, cond], combined in float32; use_dynamic_cfg changes the scale at every step"
    )
    sources = (
        "the authors' code and diffusers' community STG pipeline default to block 11 (STG-R, scale 1 in their example)"
    )

    def blocks(self, denoiser: Any) -> list[Any]:
        return list(denoiser.transformer_blocks)

    def sublayers(self, block: Any, part: str) -> list[nn.Module]:
        return [{"attention": block.attn1, "feedforward": block.ff}[part]]

    def without(self, part: str, *args: Any, **kwargs: Any) -> Any:
        if part == "feedforward":  # one feed-forward over text and video
            return super().without(part, *args, **kwargs)
        return two_streams_without(part, *args, **kwargs)

    def grid(self, denoiser: Any, args: tuple, kwargs: Mapping[str, Any]) -> Grid:
        latents, c = kwargs["hidden_states"], denoiser.config
        frames = -(-latents.shape[1] // (c.patch_size_t or 1))
        return Grid(frames, latents.shape[3] // c.patch_size, latents.shape[4] // c.patch_size)

    def prediction(self, output: Any) -> Tensor:
        return super().prediction(output).float()  # as the pipeline does, before CFG

    def unpack(self, latents: Tensor, pipe: Any) -> Tensor:
        return latents.permute(0, 2, 1, 3, 4)

    def latent_shape(self, pipe: Any, call: Mapping[str, Any]) -> tuple[int, ...] | None:
        """Version 1.5 has patches in time, too, and makes as many frames as fill them."""
        shape, patch = super().latent_shape(pipe, call), pipe.transformer.config.patch_size_t or 1
        if shape is None or call.get("latents") is not None:
            return shape
        return *shape[:2], -(-shape[2] // patch) * patch, *shape[3:]

    def decode(self, pipe: Any, latents: Tensor) -> np.ndarray:
        """All frames; version 1.5 pads odd clips with frames in front, which its own call drops."""
        z = latents.to(pipe.vae.device, pipe.vae.dtype).permute(0, 2, 1, 3, 4)
        with torch.no_grad():
            video = pipe.decode_latents(z)
        return pipe.video_processor.postprocess_video(video=video, output_type="np")


class CogVideoXImage(CogVideoX):
    """`CogVideoXImageToVideoPipeline` (5B, 1.5). The denoiser's input is the latents with the channels of the encoded picture,
    which are zero behind the first frame."""

    name = "CogVideoX image-to-video"
    pipelines = ("CogVideoXImageToVideoPipeline",)


class CogVideoXVideo(Halfway, CogVideoX):
    """`CogVideoXVideoToVideoPipeline`: starts from a noised video at `strength` of the noise levels."""

    name = "CogVideoX video-to-video"
    pipelines = ("CogVideoXVideoToVideoPipeline",)


class CogVideoXControl(CogVideoX):
    """`CogVideoXFunControlPipeline`. The denoiser's input is the latents with the channels of the encoded control video."""

    name = "CogVideoX control"
    pipelines = ("CogVideoXFunControlPipeline",)

    def latent_shape(self, pipe: Any, call: Mapping[str, Any]) -> tuple[int, ...] | None:
        control = call.get("control_video")
        if control is None:
            return tuple(self.unpack(call["control_video_latents"], pipe).shape)
        return super().latent_shape(pipe, {**call, "num_frames": len(control)})
