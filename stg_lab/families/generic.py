"""A pipeline of no known family: what can be found out by looking, and checked while it runs."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from stg_lab.errors import GuidanceError, UnsupportedPipelineError
from stg_lab.families.base import Family
from stg_lab.families.caller_frame import running
from stg_lab.families.noise import is_known
from stg_lab.guidance import COND, UNCOND

ADVICE = "A family says what cannot be found out by looking: docs/adding_a_family.md."


class Generic(Family):
    """Made for one pipeline. Blocks are those of its trunk. Branches are told apart by the batch of each call and by the order
    of the calls, as diffusers' pipelines have them; the first step checks that CFG rebuilt from them is what the pipeline
    steps with. Not known are the places of the video's tokens and the decoder."""

    name = "Generic"
    text_tokens = "unknown"
    sequential = False
    surely_reused = False
    cfg_form = "found out as it runs, and checked at the first step: u + scale (c - u)"
    layout = "as the pipeline has them"

    def __init__(self, pipe: Any) -> None:
        taken = inspect.signature(pipe.__call__).parameters
        for attribute, names in (
            ("scale_argument", ("true_cfg_scale", "guidance_scale")),
            ("dynamic_argument", ("use_dynamic_cfg",)),
            ("samples_argument", ("num_videos_per_prompt", "num_images_per_prompt")),
        ):
            setattr(self, attribute, next((name for name in names if name in taken), ""))

    def notes(self, pipe: Any) -> dict[str, str]:
        found = {name: trunk(module)[0] for name, module in self.denoisers(pipe).items()}
        lists = ", ".join(f"{name}.{path}" if path else f"none in {name}" for name, path in found.items())
        others = [f"{name}.{path}" for name, module in self.denoisers(pipe).items() for path, _ in _lists(module)]
        others = [path for path in others if path not in lists.split(", ")]
        beside = {"out of reach": f"{', '.join(others)}: layers are those of one list"} if others else {}
        return {"blocks": f"those of {lists}, found by looking", **beside, "to know more": ADVICE}

    def blocks(self, denoiser: Any) -> list[Any]:
        return trunk(denoiser)[1]

    def sublayers(self, block: Any, part: str) -> list[nn.Module]:
        block = getattr(block, "_orig_mod", block)  # inside of what torch.compile wraps around it
        return [child for name, child in block.named_children() if part_of(name, child) == part]

    def left_out(self, part: str, forward: Callable[..., Any], args: tuple, kwargs: Mapping[str, Any]) -> Any:
        """Runs the module to see what it returns, and so costs no less than the true pass."""
        output = forward(*args, **kwargs)
        return passed_on(forward, args, kwargs, output) if part == "block" else nothing(output)

    def heads(self, denoiser: Any) -> int:
        counts = [getattr(m, "heads", 0) for block in self.blocks(denoiser) for m in self.sublayers(block, "attention")]
        return int(denoiser.config.get("num_attention_heads") or min(counts, default=0))

    def with_latents(
        self, args: tuple, kwargs: Mapping[str, Any], old: Tensor, new: Tensor
    ) -> tuple[tuple, dict[str, Any]]:
        if not args and "hidden_states" not in kwargs:
            raise GuidanceError(
                "the lab cannot tell which argument of this denoiser is its latents. Leave Restart out."
            )
        return super().with_latents(args, kwargs, old, new)

    def has_uncond(self, pipe: Any) -> bool:
        for name in ("do_true_cfg", "do_classifier_free_guidance"):
            if (said := _said(pipe, name)) is not None:
                return bool(said)
        return self._scale(pipe) > 1

    def scale(self, pipe: Any, denoiser: str) -> float:
        return self._scale(pipe) if self.has_uncond(pipe) else 1.0

    def _scale(self, pipe: Any) -> float:
        scale = _said(pipe, self.scale_argument) if self.scale_argument else None
        return float(scale) if isinstance(scale, int | float) else 1.0

    def computed(
        self, pipe: Any, number: int, kwargs: Mapping[str, Any], prediction: Tensor, uncond: bool
    ) -> tuple[str, ...]:
        samples = len(_latents(pipe))
        if len(prediction) == 2 * samples and number == 0:
            return UNCOND, COND
        if len(prediction) != samples:
            raise UnsupportedPipelineError(
                f"call {number} of the denoiser in this step of {type(pipe).__name__} has a batch of {len(prediction)} for "
                f"{samples} samples, which is no form of classifier-free guidance that the lab can tell apart. {ADVICE}"
            )
        return ((COND, UNCOND)[number] if number < 2 else f"call_{number}",)

    def at_step(self, prediction: Tensor, pipe: Any, kwargs: Mapping[str, Any]) -> Tensor:
        """Without the learned variance, which takes half of the channels."""
        channels = _latents(pipe).shape[1]
        return prediction[:, :channels] if prediction.shape[1] == 2 * channels else prediction

    def combined(self, predictions: Mapping[str, Tensor], model_output: Tensor, sample: Tensor) -> dict[str, Tensor]:
        """In the precision that the pipeline steps with: some cast their predictions before CFG."""
        wrong = {tuple(p.shape) for p in predictions.values() if p.shape != sample.shape}
        if wrong:
            raise UnsupportedPipelineError(
                f"a denoiser that predicts {wrong.pop()} does not tell what is predicted for latents {tuple(sample.shape)} at "
                f"scheduler.step. {ADVICE}"
            )
        return {name: p.to(model_output.dtype) for name, p in predictions.items()}

    def unpack(self, latents: Tensor, pipe: Any) -> Tensor:
        """Channels are told by how many the VAE has; what is no video of pixels becomes one row of tokens, or one frame."""
        if latents.ndim == 3:
            return latents.mT[:, :, None, None]
        if latents.ndim == 4:
            return latents[:, :, None]
        config = getattr(getattr(pipe, "vae", None), "config", {})
        channels = next((config[n] for n in ("latent_channels", "z_dim") if config.get(n)), latents.shape[1])
        where = next((dim for dim in (1, 2, 4) if latents.shape[dim] == channels), 1)
        return latents.movedim(where, 1)

    def latent_shape(self, pipe: Any, call: Mapping[str, Any]) -> tuple[int, ...] | None:
        return None


def can_be_found_out(pipe: Any) -> bool:
    """Whether there is a denoiser to watch, in a pipeline whose scheduler has a known x0."""
    denoisers = Family().denoisers(pipe).values()
    return (
        bool(denoisers)
        and all(isinstance(m, nn.Module) for m in denoisers)
        and is_known(getattr(pipe, "scheduler", None))
    )


def trunk(denoiser: nn.Module) -> tuple[str, list[nn.Module]]:
    """The longest list of blocks of one class that have attention, and its name; empty where there is none."""
    return max(_lists(denoiser), key=lambda found: len(found[1]), default=("", []))


def _lists(denoiser: nn.Module) -> list[tuple[str, list[nn.Module]]]:
    return [
        (path, list(module))
        for path, module in denoiser.named_modules()
        if isinstance(module, nn.ModuleList)
        and len({type(block) for block in module}) == 1
        and any(part_of(name, child) == "attention" for name, child in _inside(module[0]))
    ]


def _inside(block: nn.Module) -> list[tuple[str, nn.Module]]:
    return [(path.rpartition(".")[2], module) for path, module in block.named_modules()]


def part_of(name: str, module: nn.Module) -> str:
    """Which part of a block a module is, by the name that the block has for it; "" for other things."""
    if re.search("(^|_)(norm|proj|act|gate|drop)", name):
        return ""
    if re.search("attn|attention", name):
        cross = getattr(module, "is_cross_attention", None)
        return "cross_attention" if cross or (cross is None and re.search("cross|attn2", name)) else "attention"
    return "feedforward" if re.search(r"(^|_)(ff|ffn|mlp|feed_?forward)(_|\d|$)", name) else ""


def passed_on(forward: Callable[..., Any], args: tuple, kwargs: Mapping[str, Any], output: Any) -> Any:
    """What a block was given, in the structure that it returned.

    Raises:
        GuidanceError: not every tensor that it returned is like exactly one that it was given.
    """
    given = dict(inspect.signature(forward).bind(*args, **kwargs).arguments)
    given |= {name: value for one in list(given.values()) if isinstance(one, dict) for name, value in one.items()}
    tensors = [x for x in given.values() if isinstance(x, Tensor)]
    streams = output if isinstance(output, tuple) else (output,)

    def like(x: Any) -> list[Tensor]:
        return [t for t in tensors if isinstance(x, Tensor) and t.shape == x.shape and t.dtype == x.dtype]

    found = [like(x) for x in streams]
    if len(streams) == 1 and found[0] and found[0][0] is tensors[0]:
        found = [found[0][:1]]  # the stream comes first, and a time embedding may have its shape
    if any(len(same) != 1 for same in found):
        raise GuidanceError(
            f"a block that was given {_shapes(tensors)} returned {_shapes(streams)}, so the lab cannot tell what leaving it out "
            f"is. Choose another part, for example part='attention'. {ADVICE}"
        )
    passed = tuple(same[0] for same in found)
    return passed if isinstance(output, tuple) else passed[0]


def nothing(output: Any) -> Any:
    """Zeros like an output."""
    return tuple(map(nothing, output)) if isinstance(output, tuple) else torch.zeros_like(output)


def _shapes(things: Any) -> str:
    return ", ".join(str(tuple(x.shape)) if isinstance(x, Tensor) else type(x).__name__ for x in things) or "no tensors"


def _said(pipe: Any, name: str) -> Any:
    """A setting of the running call: a variable of it, or what the pipeline says of itself."""
    said = running(pipe, name).get(name)
    return said if said is not None else getattr(pipe, name, None)


def _latents(pipe: Any) -> Tensor:
    """The latents of the running call, under the name by which diffusers hands them to callbacks."""
    latents = running(pipe, "latents").get("latents")
    if not isinstance(latents, Tensor):
        raise UnsupportedPipelineError(f"{type(pipe).__name__} keeps no latents under that name in its call. {ADVICE}")
    return latents
