"""SkyReels-V2, text-to-video: Wan's architecture and Wan's loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from stg_lab.errors import GuidanceError, UnsupportedPipelineError
from stg_lab.families.caller_frame import Sweep, running
from stg_lab.families.wan import SEGMENTS, Wan


class SkyReelsV2(Wan):
    """`SkyReelsV2Pipeline`. The diffusion-forcing pipelines are another matter: each of their latent frames has a noise level,
    and a copy of the scheduler, of its own.

    Checkpoints with `num_frame_per_block` above 1 mask their self-attention causally, by blocks of frames, so that it cannot be
    edited by place.
    """

    name = "SkyReels-V2"
    pipelines: tuple[str, ...] = ("SkyReelsV2Pipeline",)
    sources = ""


class SkyReelsV2Image(SkyReelsV2):
    """`SkyReelsV2ImageToVideoPipeline`. The denoiser's input is the latents with the channels of a mask and of the encoded
    picture; text and CLIP embeddings of the picture share one cross-attention."""

    name = "SkyReels-V2 image-to-video"
    pipelines = ("SkyReelsV2ImageToVideoPipeline",)


class DiffusionForcing(SkyReelsV2):
    """The diffusion-forcing pipelines: each latent frame has a timestep and a copy of the scheduler of its own. The lab takes the
    frames that are stepped together for one step; with `ar_step` above 0 they are at different noise levels, and it does not.

    First frames that are given (a picture, or the end of an earlier section) are in the denoiser's input and are not stepped:
    recordings hold zero for every prediction there.
    """

    name = "SkyReels-V2 diffusion forcing"
    pipelines = (
        "SkyReelsV2DiffusionForcingPipeline",
        "SkyReelsV2DiffusionForcingImageToVideoPipeline",
        "SkyReelsV2DiffusionForcingVideoToVideoPipeline",
    )
    layout = "batch, channel, frame, y, x; frames that are given are not stepped"

    def given_frames(self, pipe: Any, *, at_step: bool = False) -> int:
        return 0 if at_step else int(running(pipe, GIVEN).get(GIVEN) or 0)

    def has_history(self, denoiser: Any) -> bool:
        return True

    def history_frames(self, pipe: Any) -> int:
        first = running(pipe, "valid_interval_start", GIVEN)
        return max(int(first[GIVEN] or 0) - first["valid_interval_start"], 0)

    def history_comes(self, pipe: Any) -> bool:
        return bool(running(pipe, "is_long_video").get("is_long_video"))

    def at_step(self, prediction: Tensor, pipe: Any, kwargs: Mapping[str, Any]) -> Tensor:
        if running(pipe, "ar_step")["ar_step"] > 0:
            raise UnsupportedPipelineError(
                "with ar_step above 0 the frames of a video are at different noise levels at the same time, so there is no step of the "
                "whole to guide or record. Call it with ar_step=0, which denoises all frames together."
            )
        return prediction[:, :, self.given_frames(pipe) :]

    def sweep(self, pipe: Any) -> Sweep | None:
        call = running(pipe, "idx", "valid_interval_end", "noise_pred", "latents", "valid_interval_start")
        first, start, end = self.given_frames(pipe), call["valid_interval_start"], call["valid_interval_end"]
        return Sweep(
            number=call["idx"] - first,
            count=end - first,
            model_output=call["noise_pred"][:, :, first - start :],
            sample=call["latents"][:, :, first:end].clone(),
        )

    def recorded(self, x: Tensor, pipe: Any, kwargs: Mapping[str, Any], *, predicted: bool) -> Tensor:
        given = running(pipe, "latents")["latents"][:, :, : self.given_frames(pipe)].to(x.dtype)
        return torch.cat([torch.zeros_like(given) if predicted else given, x], dim=2)

    def with_latents(
        self, args: tuple, kwargs: Mapping[str, Any], old: Tensor, new: Tensor
    ) -> tuple[tuple, dict[str, Any]]:
        raise GuidanceError(
            "diffusion forcing steps its frames one by one, so a step cannot be made again. Leave Restart out."
        )

    def notes(self, pipe: Any) -> dict[str, str]:
        return {"frames": "each has a timestep of its own; the lab needs ar_step=0", "long videos": SEGMENTS}


GIVEN = "prefix_video_latents_frames"  # a variable of the running call
