"""What families share whose first latent frame is the picture, kept as it is while the scheduler steps the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from stg_lab.families.base import Family
from stg_lab.families.caller_frame import running


class FirstFrame(Family):
    """The denoiser sees the picture's frame, and the pipeline drops what it predicts there. Recordings hold all frames: in the
    first one the latents are the picture and every prediction is zero."""

    def given_frames(self, pipe: Any, *, at_step: bool = False) -> int:
        return 0 if at_step else 1

    def at_step(self, prediction: Tensor, pipe: Any, kwargs: Mapping[str, Any]) -> Tensor:
        prediction = super().at_step(prediction, pipe, kwargs)
        return self._parted(prediction)[1] if self.given_frames(pipe) else prediction

    def with_latents(
        self, args: tuple, kwargs: Mapping[str, Any], old: Tensor, new: Tensor
    ) -> tuple[tuple, dict[str, Any]]:
        whole, frame = args[0] if args else kwargs["hidden_states"], self.dim("frame")
        if whole.shape[frame] == old.shape[frame]:
            return super().with_latents(args, kwargs, old, new)
        picture, rest = self._parted(whole)
        _, changed = super().with_latents((), {**kwargs, "hidden_states": rest}, old, new)
        changed_whole = torch.cat([picture, changed.pop("hidden_states")], dim=frame)
        return ((changed_whole, *args[1:]), changed) if args else (args, {**changed, "hidden_states": changed_whole})

    def recorded(self, x: Tensor, pipe: Any, kwargs: Mapping[str, Any], *, predicted: bool) -> Tensor:
        if not self.given_frames(pipe):
            return super().recorded(x, pipe, kwargs, predicted=predicted)
        picture = self._parted(running(pipe, "latents")["latents"])[0].narrow(
            self.dim("channel"), 0, x.shape[self.dim("channel")]
        )
        picture = torch.zeros_like(picture) if predicted else picture
        return self.unpack(torch.cat([picture.to(x.dtype), x], dim=self.dim("frame")), pipe)

    def _parted(self, x: Tensor) -> tuple[Tensor, ...]:
        return x.tensor_split([1], dim=self.dim("frame"))
