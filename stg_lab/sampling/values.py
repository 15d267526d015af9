"""What single arguments of a pipeline call may be, told before any compute is spent."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from stg_lab.errors import CallError, did_you_mean
from stg_lab.families.pixels import codec_defaults, has_pixel_codec

#: Arguments that different pipelines have under different names.
SAME = (("num_frames", "video_length"), ("guidance_scale", "max_guidance_scale", "true_cfg_scale"))
FIRST_FRAME = (
    "from stg_lab.digits import world; frame = world.render(world.draw(1, seed=0, split='test'))[:, 0]; "
    "image = pipe.numpy_to_pil(frame.numpy())"
)


def check_names(pipe: Any, given: Mapping[str, Any], of: Callable[..., Any] | None = None) -> None:
    """Refuse arguments that the pipeline does not take.

    Args:
        of: the function of the lab that was called; what it takes itself is known and suggested, too.

    Raises:
        CallError: there is one.
    """
    parameters = inspect.signature(pipe.__call__).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return  # it alone knows
    allowed = list(parameters)
    own = [] if of is None else [n for n in inspect.signature(of).parameters if n not in ("pipe", "call", "changes")]
    for name in given:
        if name in allowed:
            continue
        twin = next((t for same in SAME if name in same for t in same if t in allowed), None)
        hint = f" Did you mean {twin!r}?" if twin else did_you_mean(name, [*own, *allowed])
        ours = ""
        if of is not None:
            room = "widgets." if ".widgets." in of.__module__ else ""
            ours = f" lab.{room}{of.__name__} itself takes: {', '.join(own)}."
        raise CallError(
            f"{type(pipe).__name__} takes no argument {name!r}.{hint} It takes: {', '.join(allowed)}.{ours}"
        )


def check_values(pipe: Any, call: Mapping[str, Any], seed: Any) -> None:
    """Refuse values of arguments that no pipeline can work with, and arguments that are missing.

    Raises:
        CallError: there is one.
    """
    if seed is not None and not _is_whole(seed):
        raise CallError(
            f"seed is one whole number, got {seed!r}. Type for example seed=0: sample i of the batch gets the generator seed + i."
        )
    steps = call.get("num_inference_steps")
    if steps is not None and not (_is_whole(steps) and steps >= 1):
        raise CallError(
            f"num_inference_steps is a whole number from 1, got {steps!r}. Type for example num_inference_steps=24."
        )
    for name in ("prompt", "negative_prompt"):
        _check_text(name, call.get(name))
    for name, value in call.items():
        if name.startswith("callback") and value is not None and name.endswith("_step_end") and not callable(value):
            raise CallError(
                f"{name} is a function (pipe, step, timestep, kwargs) -> kwargs that the pipeline calls, got {value!r}. Define "
                "one, or leave it out."
            )
    _check_missing(pipe, call)
    for name in ("image", "last_image"):
        _check_picture(pipe, name, call.get(name))
    _check_scheduler(pipe)


def warn_of_noise(pipe: Any) -> None:
    """Tell of a scheduler whose noise no seed of the lab decides.

    Pipelines with `prepare_extra_step_kwargs` hand their generators to the scheduler; the others call it without.
    """
    scheduler = getattr(pipe, "scheduler", None)
    if scheduler is None or hasattr(pipe, "prepare_extra_step_kwargs"):
        return
    config, kind = getattr(scheduler, "config", {}), type(scheduler).__name__
    draws = config.get("stochastic_sampling") or str(config.get("algorithm_type", "")).startswith("sde")
    if draws or any(word in kind for word in ("Ancestral", "LCM", "DDPM", "SASolver", "TCD")):
        warnings.warn(
            f"{kind} adds noise at every step, and {type(pipe).__name__} lets it draw from torch's global generator: seed= decides "
            "the first latents alone, and samples of a batch share that generator. For the same videos again call "
            "torch.manual_seed(...) before each run; lab.fork cannot repeat such a run.",
            stacklevel=3,
        )


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _check_text(name: str, value: Any) -> None:
    if value is None or isinstance(value, str):
        return
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise CallError(
            f"{name} is text, or a list of texts for a batch, got {value!r}. Type for example {name}='a red seven moving left'."
        )


def _check_missing(pipe: Any, call: Mapping[str, Any]) -> None:
    empty, plain = inspect.Parameter.empty, inspect.Parameter.POSITIONAL_OR_KEYWORD
    for name, parameter in inspect.signature(pipe.__call__).parameters.items():
        if parameter.default is not empty or parameter.kind is not plain or call.get(name) is not None:
            continue
        told = f"{type(pipe).__name__} needs {name}=..., which was not given."
        if name == "image":
            told = f"{type(pipe).__name__} starts from a picture, and no image= was given. Pass a PIL picture (RGB)."
            if has_pixel_codec(pipe):
                sizes = codec_defaults(pipe)
                told += f" This model wants {sizes['width']} x {sizes['height']} pixels. Type for one: {FIRST_FRAME}"
        raise CallError(told)


def pictures(value: Any) -> Iterator[Any]:
    """The PIL pictures in a value: itself, or those in its lists."""
    if isinstance(value, list | tuple):
        for one in value:
            yield from pictures(one)
    elif hasattr(value, "getbands") and hasattr(value, "save"):
        yield value


def _check_picture(pipe: Any, name: str, value: Any) -> None:
    """Video pipelines encode three channels, and most do not convert what they are given."""
    if isinstance(value, str):
        raise CallError(
            f"{name} is a picture, got the text {value!r}. Type {name}=PIL.Image.open({value!r}).convert('RGB')."
        )
    processor = getattr(pipe, "video_processor", None)
    if processor is None or getattr(processor.config, "do_convert_rgb", False):
        return
    for picture in pictures(value):
        if picture.mode != "RGB":
            raise CallError(
                f"{name} is a picture of mode {picture.mode!r}, and {type(pipe).__name__} takes RGB. Type {name}={name}.convert('RGB')."
            )


def _check_scheduler(pipe: Any) -> None:
    """Flow-matching pipelines call a method that older schedulers do not have."""
    code = getattr(inspect.unwrap(type(pipe).__call__), "__code__", None)
    scheduler = getattr(pipe, "scheduler", None)
    needed = "set_begin_index"
    if code is None or scheduler is None or hasattr(scheduler, needed):
        return
    # As a text it stands in pipelines that ask first: hasattr(...).
    if needed in code.co_names and needed not in code.co_consts:
        raise CallError(
            f"{type(pipe).__name__} does not work with {type(scheduler).__name__}, which has no {needed}. Give it a scheduler of the "
            "kind that it was loaded with, for example pipe.scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)."
        )
