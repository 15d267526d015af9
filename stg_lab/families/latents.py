"""What a family says of its latents: how they lie, which frames were given, and how they become pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stg_lab.errors import GuidanceError, UnsupportedPipelineError
from stg_lab.families import call_sizes
from stg_lab.families.call import Call
from stg_lab.preview import Preview


class Latents(Call):
    """A family's latents, at `scheduler.step` and in recordings."""

    layout: str = "batch, channel, frame, y, x"  # of the latents at scheduler.step
    prediction_type: str = ""  # what is stepped with (`x0.PREDICTION_TYPES`), where the scheduler does not say

    def dim(self, name: str) -> int:
        """Which dimension of the latents at scheduler.step is the "channel" or the "frame"."""
        dims = self.layout.partition(";")[0].split(", ")
        return dims.index(name) if name in dims else 1

    def with_latents(
        self, args: tuple, kwargs: Mapping[str, Any], old: Tensor, new: Tensor
    ) -> tuple[tuple, dict[str, Any]]:
        """The arguments of a denoiser call with other latents: `new` in place of the `old` ones that the step started from.
        Channels beside them, of a picture, a mask or a control video, stay.

        Raises:
            GuidanceError: the latents are not what the denoiser was given.
        """
        given = args[0] if args else kwargs["hidden_states"]
        channel, copies = self.dim("channel"), given.shape[0] // old.shape[0]
        given, beside = given.tensor_split([old.shape[channel]], dim=channel)
        if given.shape != (copies * old.shape[0], *old.shape[1:]) or not torch.equal(
            given, torch.cat([old] * copies).to(given.dtype)
        ):
            raise GuidanceError(
                f"in {self.name} pipelines of this kind the denoiser's input is not just the latents, so a step cannot be made "
                "again from other ones. Leave Restart out."
            )
        changed = torch.cat([torch.cat([new] * copies).to(given.dtype), beside], dim=channel)
        return ((changed, *args[1:]), dict(kwargs)) if args else (args, {**kwargs, "hidden_states": changed})

    def unpack(self, latents: Tensor, pipe: Any) -> Tensor:
        """Latents or predictions as the pipeline has them, to (batch, channel, frame, y, x)."""
        return latents

    def at_step(self, prediction: Tensor, pipe: Any, kwargs: Mapping[str, Any]) -> Tensor:
        """A prediction of the denoiser as the pipeline has it at `scheduler.step`, where it is rearranged in between.

        Args:
            kwargs: of the denoiser call.
        """
        return prediction

    def recorded(self, x: Tensor, pipe: Any, kwargs: Mapping[str, Any], *, predicted: bool) -> Tensor:
        """Latents or a prediction (`predicted`) at `scheduler.step` as recordings keep them: `unpack`, where that needs to
        know the denoiser call, whose keyword arguments are `kwargs`."""
        return self.unpack(x, pipe)

    def given_frames(self, pipe: Any, *, at_step: bool = False) -> int:
        """How many first latent frames are given to the pipeline, which throws away what is predicted for them: recordings hold
        zeros there, and guidance must not look at it.

        Args:
            at_step: how many of them are in what the pipeline hands `scheduler.step`; else in recordings.
        """
        return 0

    def history_frames(self, pipe: Any) -> int:
        """How many first frames of the running denoiser call are given, in families where that `has_history`."""
        return self.given_frames(pipe)

    def history_comes(self, pipe: Any) -> bool:
        """Whether later loops of the running call are given frames that this one has not."""
        return False

    def returned(self, pipe: Any, latents: Tensor, call: Mapping[str, Any]) -> Tensor:
        """Latents as a call returned them for `output_type="latent"`, to (batch, channel, frame, y, x); `call` has its
        arguments."""
        return self.unpack(latents, pipe)

    def latent_shape(self, pipe: Any, call: Mapping[str, Any]) -> tuple[int, ...] | None:
        """Shape (sample, channel, frame, y, x) of recorded latents; None where it turns out on the way."""
        denoiser = next(iter(self.denoisers(pipe).values()))
        given = call.get("latents")
        if given is not None and given.ndim == 5:
            return tuple(self.unpack(given, pipe).shape)
        space, time = call_sizes.factors(pipe)
        height, width = (size // (space or 1) for size in call_sizes.pixels(pipe, denoiser, call))
        frames = (call_sizes.frames(denoiser, call) - 1) // (time or 1) + 1
        shape = (self.samples(call), call_sizes.channels(pipe, denoiser), frames, height, width)
        return shape if all(shape) else None

    def decode(self, pipe: Any, latents: Tensor) -> np.ndarray:
        """Latents (batch, channel, frame, y, x) through the pipeline's own decoder, as `run.video`'s layout.

        Raises:
            UnsupportedPipelineError: the family does not know how.
        """
        raise UnsupportedPipelineError(
            f"the lab does not know how {self.name} pipelines decode. Let the pipeline do it: output_type='np'."
        )

    def preview(self, pipe: Any) -> Preview | None:
        """A linear decoder for these latents, where one is known without fitting."""
        return None
