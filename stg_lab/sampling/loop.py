"""How the loop of a running call goes: steps that are taken elsewhere, and where each step ends."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from stg_lab.errors import UnsupportedPipelineError
from stg_lab.families.caller_frame import running
from stg_lab.seams import Coming


class Stepping:
    """Watches that a scheduler step follows the denoiser calls that were made for it."""

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe
        self._waiting: Coming | None = None  # the first denoiser call of the step
        self._under_way = False  # a call or a step that has not come to its end, and never will where it was broken off

    def calling(self, call: Coming, step: int) -> None:
        """A denoiser call is coming.

        Raises:
            UnsupportedPipelineError: it is of another noise level than the calls that still wait for their step.
        """
        if self._waiting is not None and not _same(self._waiting.timestep, call.timestep):
            raise self._elsewhere(step)
        self._waiting, self._under_way = self._waiting or call, True

    def called(self) -> None:
        """The denoiser call is done, weak passes and all."""
        self._under_way = False

    def stepping(self) -> None:
        """The step is there."""
        self._under_way = True

    def stepped(self) -> None:
        """The step is done, or a new call begins."""
        self._waiting, self._under_way = None, False

    def end(self, step: int) -> None:
        """Nothing comes any more.

        Raises:
            UnsupportedPipelineError: denoiser calls still wait for their step, and nothing was broken off.
        """
        if self._waiting is not None and not self._under_way:
            raise self._elsewhere(step)

    def _elsewhere(self, step: int) -> UnsupportedPipelineError:
        kind = type(self._pipe).__name__
        return UnsupportedPipelineError(
            f"{kind} called its denoiser for step {step} and took the step without pipe.scheduler: with a copy of it, another "
            f"scheduler, or arithmetic of its own. There the lab can neither guide nor record. Call {kind} outside of the lab, or "
            "take a pipeline that steps with its own scheduler."
        )


class Bar:
    """Hears of the end of each step from the pipeline's progress bar, which it moves after callbacks and all.

    Args:
        over: called with the pipeline's latents, whatever it has under that name.
    """

    def __init__(self, pipe: Any, over: Callable[[Any], None]) -> None:
        self._pipe, self._over = pipe, over
        self._bar: Any = None

    def watch(self) -> None:
        """Find the bar of the running call; it goes with the call, and nothing is left."""
        bar: Any = running(self._pipe, "progress_bar").get("progress_bar")
        move = getattr(bar, "update", None)
        if move is None or bar is self._bar:
            return

        @functools.wraps(move)
        def update(*args: Any, **kwargs: Any) -> Any:
            self._over(running(self._pipe, "latents").get("latents"))
            return move(*args, **kwargs)

        self._bar, bar.update = bar, update


def _same(one: Any, other: Any) -> bool:
    if not isinstance(one, Tensor) or not isinstance(other, Tensor):
        return one is other or bool(one == other)
    if one.shape != other.shape:  # calls of one step may have other batches
        one, other = one.flatten()[:1], other.flatten()[:1]
    return one is other or torch.equal(one, other)
