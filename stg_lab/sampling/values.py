"""What single arguments of a pipeline call may be, told before any compute is spent."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from stg_lab.errors import CallError, did_you_mean
from stg_lab.families.digits_codec import codec_defaults, has_pixel_codec
from stg_lab.given import ARGUMENTS, Called, Flag, Kind, Number, Of, Several, Text, Whole, read, shown

#: Arguments that different pipelines have under different names.
SAME = (("num_frames", "video_length"), ("guidance_scale", "max_guidance_scale", "true_cfg_scale"))
#: What the pipelines' own arguments may be, and what one may type. Ends are far above what any model takes, and low enough that
#: nothing of their size has to fit into memory before it is refused.
_COUNT, _SIDE = Whole(1, 1024), Whole(1, 2**14)
CALL: dict[str, tuple[Kind, str]] = {
    "num_inference_steps": (Whole(1, 10_000), "num_inference_steps=24"),
    **dict.fromkeys(("height", "width", "num_frames", "video_length"), (_SIDE, "")),
    **dict.fromkeys(("num_videos_per_prompt", "num_images_per_prompt"), (_COUNT, "")),
    "max_sequence_length": (Whole(1, 2**16), ""),
    "timesteps": (Several(Number(0), lone=False), ""),
    "sigmas": (Several(Number(0), lone=False), "sigmas=[1.0, 0.75, 0.5, 0.25]"),
    "eta": (Number(0), ""),
    "fps": (Number(0, above=True), ""),
    "frame_rate": (Number(0, above=True), ""),
    "output_type": (Text(("latent", "np", "pil", "pt")), ""),
    "return_dict": (Flag(), ""),
    "latents": (Of(torch.Tensor, "a tensor"), ""),
    "generator": (Several(Of(torch.Generator, "a torch.Generator")), "generator=torch.Generator().manual_seed(0)"),
    "callback_on_step_end": (
        Called("(pipe, step, timestep, kwargs) -> kwargs that the pipeline calls"),
        "callback_on_step_end=lambda pipe, step, timestep, kwargs: kwargs",
    ),
}
#: Pixels of all frames of a call: beyond any machine, and well within what sizes can be counted in.
MOST_PIXELS = 2**34
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


def read_values(pipe: Any, call: Mapping[str, Any], seed: Any) -> tuple[dict[str, Any], int | None]:
    """The arguments of a call and its seed as Python's own values.

    Raises:
        CallError: one that no pipeline can work with, or that is missing.
    """
    example = "seed=0: sample i of the batch gets the generator seed + i"
    seed = None if seed is None else read("seed", seed, ARGUMENTS["seed"], CallError, example)
    found = {name: _read(pipe, name, value, call) for name, value in call.items()}
    for name in ("prompt", "negative_prompt"):
        _check_text(name, found.get(name))
    _check_missing(pipe, found)
    for name in ("image", "last_image"):
        _check_picture(pipe, name, found.get(name))
    _check_amount(found)
    _check_scheduler(pipe)
    return found, seed


def _read(pipe: Any, name: str, value: Any, call: Mapping[str, Any]) -> Any:
    kind, example = CALL.get(name, (None, ""))
    if kind is None and name.endswith("scale"):
        kind = Number()
    if kind is not None and not (value is None and _may_be_none(pipe, name, call)):
        value = read(name, value, kind, CallError, example)
    for tensor in value if isinstance(value, list) else [value]:
        if isinstance(tensor, torch.Tensor) and (tensor.is_complex() or not bool(tensor.isfinite().all())):
            raise CallError(f"{name} holds numbers that are complex, infinite or NaN, got {shown(value)}.")
    return value


def _may_be_none(pipe: Any, name: str, call: Mapping[str, Any]) -> bool:
    """Whether a pipeline knows what to do where None is said."""
    if name == "num_inference_steps":
        return call.get("timesteps") is not None or call.get("sigmas") is not None
    return True  # many pipelines fill sizes in themselves, whatever their signature says


def _check_amount(call: Mapping[str, Any]) -> None:
    names = [n for n in ("height", "width", "num_frames", "video_length") if call.get(n)]
    if math.prod(call[n] for n in names) > MOST_PIXELS:
        sizes = ", ".join(f"{n}={call[n]}" for n in names)
        raise CallError(f"{sizes} are more pixels than any machine holds; at most {MOST_PIXELS:.2g} are taken.")


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
            stacklevel=4,
        )


def _check_text(name: str, value: Any) -> None:
    if value is None or isinstance(value, str):
        return
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise CallError(
            f"{name} is text, or a list of texts for a batch, got {shown(value)}. Type for example {name}='a red seven moving left'."
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
