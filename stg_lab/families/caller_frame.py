"""What only the running call of a pipeline knows."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from types import FrameType
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Sweep:
    """A step that a pipeline takes frame by frame, each with a copy of its scheduler.

    Attributes:
        number: which of the frames is stepped now, from 0.
        count: how many of them there are.
        model_output, sample: the prediction and x_t of all of them, before the step.
    """

    number: int
    count: int
    model_output: Tensor
    sample: Tensor


def running(pipe: Any, *names: str) -> dict[str, Any]:
    """Variables of the pipeline call that is running now, by name; nothing outside one.

    Some pipelines keep arguments of a call, and what follows from them, in its own variables and nowhere else.
    """
    frame = inspect.currentframe()
    while frame is not None:
        code = frame.f_code
        if {"self", *names} <= {*code.co_varnames, *code.co_cellvars}:
            variables = frame.f_locals
            found = {name: variables[name] for name in names if name in variables}
            is_its_own = variables.get("self") is pipe
            if isinstance(variables, dict):
                variables.clear()  # before Python 3.13 a copy, which the frame keeps, and with it every tensor in it
            if is_its_own:
                return found
        frame = frame.f_back
    return {}


def call_site(pipe: Any) -> tuple[Any, ...]:
    """Where the user's code stands that called the pipeline: the same for all loops within one call, also where the pipeline calls
    itself; empty outside one."""
    frames, outermost = [], None
    frame = inspect.currentframe()
    while frame is not None:
        frames.append(frame)
        if "self" in frame.f_code.co_varnames and _self_of(frame) is pipe:
            outermost = len(frames)
        frame = frame.f_back
    return () if outermost is None else tuple((f.f_code, f.f_lasti) for f in frames[outermost:])


def _self_of(frame: FrameType) -> Any:
    variables = frame.f_locals
    own = variables.get("self")
    if isinstance(variables, dict):
        variables.clear()  # see `running`
    return own


def batch_name(pipe: Any) -> str:
    """What the guider of a modular pipeline calls the batch that its denoiser runs now; "" outside of one."""
    frame = inspect.currentframe()
    while frame is not None:
        code = frame.f_code
        if {"components", "guider_state_batch"} <= {*code.co_varnames, *code.co_cellvars}:
            variables = frame.f_locals
            components, batch = variables.get("components"), variables.get("guider_state_batch")
            if isinstance(variables, dict):
                variables.clear()  # see `running`
            if components is pipe and batch is not None:
                return str(getattr(batch, "__guidance_identifier__", ""))
        frame = frame.f_back
    return ""
