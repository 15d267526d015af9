"""What families share that start from a video with noise, part of the way down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stg_lab.families.base import Family


class Halfway(Family):
    """The call takes the last `strength` of its steps, and as many frames as the video has."""

    def latent_shape(self, pipe: Any, call: Mapping[str, Any]) -> tuple[int, ...] | None:
        return super().latent_shape(pipe, {**call, "num_frames": len(call["video"])})

    def set_timesteps(self, pipe: Any, scheduler: Any, call: Mapping[str, Any], shape: tuple[int, ...]) -> None:
        """As if the steps that are taken were all."""
        super().set_timesteps(pipe, scheduler, call, shape)
        steps = call["num_inference_steps"]
        first = (steps - min(int(steps * call["strength"]), steps)) * scheduler.order
        scheduler.timesteps = scheduler.timesteps[first:]
        if hasattr(scheduler, "sigmas"):
            scheduler.sigmas = scheduler.sigmas[first:]

    def notes(self, pipe: Any) -> dict[str, str]:
        starts = "from a noised video: the call leaves out the share 1 - strength of its steps, and windows count those it takes"
        return {**super().notes(pipe), "starts": starts}
