"""What a family says of its pipelines' calls: branches, scales, arguments, and what becomes of predictions until the step."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from stg_lab.errors import CallError, GuidanceError
from stg_lab.families import call_sizes
from stg_lab.families.caller_frame import Sweep
from stg_lab.families.network import Network
from stg_lab.guidance import COND, UNCOND, combine_cfg


class Call(Network):
    """A family's calls: what a pipeline asks of its denoiser in a step, what it makes of the answers, and which arguments say so."""

    batched: bool = False  # whether CFG is one call with the batch [uncond, cond], else two calls, cond first
    #: Keyword arguments of denoiser calls that do not have the rows of the batch, whatever their shape.
    unbatched: tuple[str, ...] = ("image_rotary_emb", "rope_interpolation_scale", "padding_mask", "attention_kwargs")
    cfg_form: str = ""  # for people: how the pipeline runs classifier-free guidance
    scale_argument: str = "guidance_scale"  # the call's own name for the CFG scale; "" where the call has none
    dynamic_argument: str = ""  # and for having the pipeline change that scale at every step
    samples_argument: str = "num_videos_per_prompt"  # and for how many samples a prompt gets
    embeds_argument: str = "prompt_embeds"  # and for the embeddings that stand for prompts

    def without_caption(self, pipe: Any, args: tuple, kwargs: Mapping[str, Any]) -> tuple[tuple, dict[str, Any]]:
        """The arguments of a denoiser call with the empty caption in place of its own."""
        raise GuidanceError(f"prompt='none' is not there for {self.name} models. Type prompt='caption' or 'negative'.")

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
        return call_sizes.samples({**call, "prompt_embeds": call.get(self.embeds_argument)}, self.samples_argument)

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


def with_text(kwargs: Mapping[str, Any], one: Mapping[str, Tensor]) -> dict[str, Any]:
    """Arguments of a call with other text: what stands for `one` prompt, as often as the call has rows and of its dtype."""
    rows = {name: (new[:1], kwargs[name]) for name, new in one.items()}
    return {**kwargs, **{name: new.expand(len(like), *new.shape[1:]).to(like) for name, (new, like) in rows.items()}}
