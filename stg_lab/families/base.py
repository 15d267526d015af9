"""What a family tells the seams. A family is stateless; every method takes the pipeline or the module it asks about."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stg_lab.errors import CallError, GuidanceError, UnsupportedPipelineError
from stg_lab.families import ahead
from stg_lab.families.running import Sweep
from stg_lab.guidance import COND, UNCOND, combine_cfg
from stg_lab.preview import Preview


@dataclass(frozen=True)
class Grid:
    """How the video tokens of a denoiser call lie: frame by frame, row by row."""

    frames: int
    height: int
    width: int

    @property
    def size(self) -> int:
        """How many tokens there are."""
        return self.frames * self.height * self.width

    def along(self, axis: str) -> Grid:
        """The tokens that one attention sees: all, those of a frame, or those of a position over time."""
        if axis == "spatial":
            return Grid(1, self.height, self.width)
        return Grid(self.frames, 1, 1) if axis == "temporal" else self

    def __str__(self) -> str:
        return f"{self.frames} frames of {self.height} x {self.width}"


class Family:
    """Base of the families; holds what most of them share."""

    name: str = ""
    pipelines: tuple[str, ...] = ()  # class names in diffusers
    parts: tuple[str, ...] = ("block", "attention", "attention_zero", "cross_attention_zero", "feedforward")
    axes: tuple[str, ...] = (
        "joint",
    )  # of the attentions the model has: one over the video, or one each for space and time
    text_tokens: str = "none"  # where text lies in the self-attention: "none", "first" or "last"
    batched: bool = False  # whether CFG is one call with the batch [uncond, cond], else two calls, cond first
    #: Keyword arguments of denoiser calls that do not have the rows of the batch, whatever their shape.
    unbatched: tuple[str, ...] = ("image_rotary_emb", "rope_interpolation_scale", "padding_mask", "attention_kwargs")
    sequential: bool = True  # whether what a stage passes on is all that later stages need of it and of those before it
    surely_reused: bool = False  # whether stages surely run in their order, once each; else checked as they run
    still: bool = False  # whether it makes pictures, which are videos of one frame
    video_stream: int = 0  # which element is the video, where a block returns several
    other_stream: str = "text"  # what the blocks carry beside the video, for messages
    cfg_form: str = ""  # for people: how the pipeline runs classifier-free guidance
    layout: str = "batch, channel, frame, y, x"  # of the latents at scheduler.step
    scale_argument: str = "guidance_scale"  # the call's own name for the CFG scale; "" where the call has none
    dynamic_argument: str = ""  # and for having the pipeline change that scale at every step
    samples_argument: str = "num_videos_per_prompt"  # and for how many samples a prompt gets
    embeds_argument: str = "prompt_embeds"  # and for the embeddings that stand for prompts
    prediction_type: str = ""  # what is stepped with (`x0.PREDICTION_TYPES`), where the scheduler does not say
    sources: str = ""  # settings that the method's authors used, with where that is written

    def denoisers(self, pipe: Any) -> dict[str, nn.Module]:
        """The components whose forward predicts, by name."""
        found = {name: getattr(pipe, name, None) for name in ("transformer", "transformer_2", "unet")}
        return {name: module for name, module in found.items() if module is not None}

    def dim(self, name: str) -> int:
        """Which dimension of the latents at scheduler.step is the "channel" or the "frame"."""
        dims = self.layout.partition(";")[0].split(", ")
        return dims.index(name) if name in dims else 1

    def blocks(self, denoiser: Any) -> list[Any]:
        """The residual blocks in the order in which a forward pass runs them."""
        raise NotImplementedError

    def stages(self, denoiser: Any) -> list[Any]:
        """The modules that a forward pass runs one after the other, each of which can be left out where a pass repeats what
        an earlier one has computed (`stg_lab.reuse`)."""
        return self.blocks(denoiser)

    def layers(self, denoiser: Any) -> list[dict[str, Any]]:
        """The layers as people count them: each one's blocks by axis. In factorised models a layer is a pair of blocks."""
        return [{"joint": block} for block in self.blocks(denoiser)]

    def sublayers(self, block: Any, part: str) -> list[nn.Module]:
        """The modules of a block that are its "attention" (self-attention), "cross_attention" or "feedforward".

        Several where text and video have one each; none where this block lacks it.
        """
        raise NotImplementedError

    def sublayer(self, block: Any, part: str) -> nn.Module:
        return self.sublayers(block, part)[0]

    def without(self, part: str, *args: Any, **kwargs: Any) -> Any:
        """What a skipped "block", or a sub-layer that adds nothing, returns for the arguments it was called with."""
        hidden_states = args[0] if args else kwargs["hidden_states"]
        return hidden_states if part == "block" else torch.zeros_like(hidden_states)

    def left_out(self, part: str, forward: Callable[..., Any], args: tuple, kwargs: Mapping[str, Any]) -> Any:
        """`without`, for families that have to see what the module's `forward` does."""
        return self.without(part, *args, **kwargs)

    def attend(self, module: Any, answer: Callable[..., Tensor]) -> Callable[..., Any] | None:
        """A forward of a self-attention that hands over what its kernel would compute, as `answer(kernel, query, key, value)`
        with tensors `(batch, head, token, channel)`; None where the kernel is torch's own, which is found without help."""
        return None

    def with_stream(
        self, args: tuple, kwargs: Mapping[str, Any], change: Callable[[Tensor], Tensor]
    ) -> tuple[tuple, dict[str, Any]]:
        """The arguments of a block with its video tokens `(batch, token, channel)` changed."""
        if args:
            return (change(args[0]), *args[1:]), dict(kwargs)
        return args, {**kwargs, "hidden_states": change(kwargs["hidden_states"])}

    def places(self, grid: Grid, axis: str, tokens: int) -> Grid:
        """How the tokens of one attention lie, given the grid of the call; U-Nets have coarser ones inside."""
        return grid.along(axis)

    def grid(self, denoiser: Any, args: tuple, kwargs: Mapping[str, Any]) -> Grid:
        """How the video tokens of a denoiser call lie.

        Raises:
            GuidanceError: the family does not know.
        """
        raise GuidanceError(
            f"the lab does not know how the video tokens of {self.name} pipelines lie, so nothing can be done by place. "
            "Identity attention needs no place: lab.skip(layers, part='attention')."
        )

    def heads(self, denoiser: Any) -> int:
        """How many heads a self-attention has."""
        return int(denoiser.config.num_attention_heads)

    def without_caption(self, pipe: Any, args: tuple, kwargs: Mapping[str, Any]) -> tuple[tuple, dict[str, Any]]:
        """The arguments of a denoiser call with the empty caption in place of its own."""
        raise GuidanceError(f"prompt='none' is not there for {self.name} models. Type prompt='caption' or 'negative'.")

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

    def has_uncond(self, pipe: Any) -> bool:
        """Whether the running call computes the unconditional prediction; asked at its first denoiser call."""
        return bool(getattr(pipe, "do_classifier_free_guidance", pipe.guidance_scale > 1))

    def branches(self, call: int, uncond: bool) -> tuple[str, ...]:
        """Which branches the denoiser call number `call` (from 0) of a step computes, in the order of its batch.

        Args:
            uncond: whether the run computes the unconditional prediction.
        """
        if self.batched:
            return (UNCOND, COND) if uncond else (COND,)
        return (COND,) if call == 0 else (UNCOND,)

    def computed(
        self, pipe: Any, number: int, kwargs: Mapping[str, Any], prediction: Tensor, uncond: bool
    ) -> tuple[str, ...]:
        """`branches`, for families that have to see the call (number `number` of its step) and what it predicted."""
        perturbed = self.perturbed(kwargs)
        return (perturbed,) if perturbed else self.branches(number, uncond)

    def scale(self, pipe: Any, denoiser: str) -> float:
        """The CFG scale that the running call uses with this denoiser."""
        return float(pipe.guidance_scale) if self.has_uncond(pipe) else 1.0

    def scales(self, pipe: Any, denoiser: str, scale: float | None = None) -> Any:
        """The scale as the pipeline multiplies with it, or would with another `scale`; a tensor where frames have their own."""
        return self.scale(pipe, denoiser) if scale is None else scale

    def asked_scale(self, call: Mapping[str, Any]) -> float:
        """The CFG scale `u + scale (c - u)` that a call will use, by its `scale_argument`; 1 for none."""
        return max(float(call[self.scale_argument] or 1), 1.0)

    def to_argument(self, scale: float) -> float:
        """What `scale_argument` has to be for this CFG scale.

        Raises:
            GuidanceError: the pipeline cannot be called with it.
        """
        return scale

    @property
    def scale_name(self) -> str:
        """What the CFG scale is called where it is set, for messages."""
        return self.scale_argument

    def how_to_scale(self, scale: str) -> str:
        """What to type so that the pipeline uses this CFG scale, for messages."""
        return f"Call it with {self.scale_argument}={scale}."

    def how_to_uncond(self) -> str:
        """What to type so that the pipeline computes the unconditional prediction, for messages."""
        return "Add lab.CFG(scale) with a scale above 1."

    def beside_cfg(self, pipe: Any) -> str:
        """What the running call does to its prediction beside CFG, and how to turn it off, for messages; "" for nothing."""
        rescale = getattr(pipe, "guidance_rescale", 0.0)
        if not rescale or not self.has_uncond(pipe):
            return ""
        return f"it rescales with guidance_rescale={rescale:g}. Call it with guidance_rescale=0; the lab's own is (sum).rescale({rescale:g})"

    def perturbed(self, kwargs: Mapping[str, Any]) -> str:
        """Name of the branch that a denoiser call computes where it is neither cond nor uncond, but a perturbed pass of the
        pipeline's own; else ""."""
        return ""

    def later_branches(self, pipe: Any) -> tuple[str, ...]:
        """Names of perturbed passes that the running call makes, but perhaps not yet at its first step."""
        return ()

    def combined(self, predictions: Mapping[str, Tensor], model_output: Tensor, sample: Tensor) -> dict[str, Tensor]:
        """The predictions of a step as the pipeline combines them, for families that have to see what it steps with."""
        return dict(predictions)

    def takes_step(self, given: Mapping[str, Any]) -> bool:
        """Whether a call of `scheduler.step`, with these arguments, is the one that takes the step."""
        return True

    def sweep(self, pipe: Any) -> Sweep | None:
        """The step that is on its way, where a pipeline steps each frame with a copy of its scheduler."""
        return None

    def stepped_with(self, prediction: Tensor) -> dict[str, Tensor]:
        """The arguments of `scheduler.step` that hold the prediction."""
        return {"model_output": prediction}

    def stock(self, pipe: Any, predictions: Mapping[str, Tensor], scale: Any, sample: Tensor, index: int) -> Tensor:
        """What the pipeline steps with, from its own branches, bit for bit.

        Args:
            scale: from `scales`.
            sample: x_t.
            index: of the step in the scheduler's run.
        """
        return (
            combine_cfg(predictions[COND], predictions[UNCOND], scale) if UNCOND in predictions else predictions[COND]
        )

    def prediction(self, output: Any) -> Tensor:
        """The prediction in whatever the denoiser returned."""
        if isinstance(output, Tensor):
            return output
        return output.sample if hasattr(output, "sample") else output[0]

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

    def returned(self, pipe: Any, latents: Tensor, call: Mapping[str, Any]) -> Tensor:
        """Latents as a call returned them for `output_type="latent"`, to (batch, channel, frame, y, x); `call` has its
        arguments."""
        return self.unpack(latents, pipe)

    def notes(self, pipe: Any) -> dict[str, str]:
        """What else there is to say about a pipeline, for `lab.describe`."""
        return {}

    def defaults(self, pipe: Any) -> dict[str, Any]:
        """Call arguments that this very checkpoint was made for, where the stock defaults would not fit it."""
        return {}

    def check_call(self, pipe: Any, call: Mapping[str, Any]) -> None:
        """Refuse a call that this family's models cannot work with, by what was given and `defaults`.

        Raises:
            CallError: there is such an argument.
        """

    # ---- what a call will do, from all its arguments (the pipeline's own defaults among them), before it is made ----

    def samples(self, call: Mapping[str, Any]) -> int:
        """How many samples a call makes."""
        return ahead.samples({**call, "prompt_embeds": call.get(self.embeds_argument)}, self.samples_argument)

    def latent_shape(self, pipe: Any, call: Mapping[str, Any]) -> tuple[int, ...] | None:
        """Shape (sample, channel, frame, y, x) of recorded latents; None where it turns out on the way."""
        denoiser = next(iter(self.denoisers(pipe).values()))
        given = call.get("latents")
        if given is not None and given.ndim == 5:
            return tuple(self.unpack(given, pipe).shape)
        space, time = ahead.factors(pipe)
        height, width = (size // (space or 1) for size in ahead.pixels(pipe, denoiser, call))
        frames = (ahead.frames(denoiser, call) - 1) // (time or 1) + 1
        shape = (self.samples(call), ahead.channels(pipe, denoiser), frames, height, width)
        return shape if all(shape) else None

    def wants_uncond(self, pipe: Any, call: Mapping[str, Any]) -> bool:
        """Whether the call will compute the unconditional prediction: `has_uncond`, ahead of it."""
        return (call.get(self.scale_argument) or 0) > 1

    def step_calls(self, pipe: Any, call: Mapping[str, Any]) -> list[tuple[str, ...]]:
        """The denoiser calls of a step in order, each as the branches in its batch."""
        uncond = self.wants_uncond(pipe, call)
        return [self.branches(number, uncond) for number in range(1 if self.batched or not uncond else 2)]

    def spacing(self, pipe: Any, scheduler: Any, steps: int, shape: tuple[int, ...]) -> dict[str, Any]:
        """What the pipeline hands `scheduler.set_timesteps` to space its steps; empty where it leaves that to the scheduler.

        Args:
            shape: from `latent_shape`.
        """
        return {}

    def set_timesteps(self, pipe: Any, scheduler: Any, call: Mapping[str, Any], shape: tuple[int, ...]) -> None:
        """Set a scheduler to the steps of a call, as the pipeline will do it."""
        steps = call["num_inference_steps"]
        options = self.spacing(pipe, scheduler, steps, shape)
        given = {name: call[name] for name in ("timesteps", "sigmas") if call.get(name) is not None}
        taken = inspect.signature(scheduler.set_timesteps).parameters
        if refused := [name for name in given if name not in taken]:
            raise CallError(f"{type(scheduler).__name__} takes no {refused[0]} of one's own. Leave {refused[0]} out.")
        if given:
            options = {k: v for k, v in options.items() if k not in ("timesteps", "sigmas")} | given
        if "sigmas" in options or "timesteps" in options:
            scheduler.set_timesteps(**options)
        else:
            scheduler.set_timesteps(steps, **options)

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


def two_streams_without(part: str, *args: Any, **kwargs: Any) -> Any:
    """`Family.without` for blocks and attentions that carry video and text side by side; a feed-forward has one stream, and so has
    a block that was given both as one."""
    names = ("hidden_states", "encoder_hidden_states")
    given = dict(zip(names, args, strict=False)) | kwargs
    if given.get("encoder_hidden_states") is None:
        return given["hidden_states"] if part == "block" else torch.zeros_like(given["hidden_states"])
    streams = tuple(given[name] for name in names)
    return streams if part == "block" else tuple(torch.zeros_like(x) for x in streams)
