"""What every weak model is: a frozen value that can perturb a denoiser for the length of one forward pass."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from stg_lab.errors import GuidanceError, did_you_mean
from stg_lab.given import real, shown
from stg_lab.patch import Hits, replaced_forward  # noqa: F401  (those who write weak models look for it here)
from stg_lab.weak.caption import without_caption
from stg_lab.weak.layers import format_layers, whole_numbers
from stg_lab.weak.spec import parse, read, register, typed, write

if TYPE_CHECKING:  # a weak model is a value: naming one needs no torch
    from torch import Tensor, nn

    from stg_lab.families import Family, Grid
    from stg_lab.guidance import Moment

PROMPTS = {
    "caption": "the caption, as the conditional pass (peers' convention A)",
    "negative": "the negative prompt, as the unconditional pass (conventions B and C)",
    "none": "the empty caption",
}
AXES = ("joint", "spatial", "temporal")


@dataclass(frozen=True)
class Pass:
    """The pipeline's own denoiser call that a weak pass repeats, and where in the run it is made.

    Attributes:
        family, pipe: whose call it is.
        component: name of the denoiser in the pipeline, "transformer" for most.
        denoiser: the module.
        args, kwargs: what it was called with.
        prediction: what it predicted, `(batch, channel, frame, y, x)` or the family's own layout.
        step, steps: which step of how many.
        piece: which part of the batch is concerned, and of how many: (1, 2) is cond in a batch of [uncond, cond].
        memory: what weak passes of one run keep for later ones.
        edits: of the main pass, under which the call was made.
        times: how many rows the denoiser has for each row of the call, for those who look on; more under some edits.
        moment: where the step lies; None where a pass is looked at outside of a run.
    """

    family: Family
    pipe: Any
    component: str
    denoiser: nn.Module
    args: tuple
    kwargs: Mapping[str, Any]
    prediction: Tensor
    step: int
    steps: int
    piece: tuple[int, int] = (0, 1)
    memory: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)
    edits: tuple[Weak, ...] = field(default=(), repr=False, compare=False)
    times: int = 1
    moment: Moment | None = field(default=None, repr=False, compare=False)

    def concerned(self, prediction: Tensor) -> Tensor:
        """The part of the call's batch that the weak pass is about."""
        index, count = self.piece
        return prediction.chunk(count)[index]

    @property
    def grid(self) -> Grid:
        """How the video tokens of this call lie.

        Raises:
            GuidanceError: the family does not know, or the call has not been made yet.
        """
        if not self.args and not self.kwargs:
            raise GuidanceError("how the video tokens lie is known when the denoiser is called.")
        return self.family.grid(self.denoiser, self.args, self.kwargs)


@dataclass(frozen=True, repr=False)
class Weak:
    """Base of the weak models. `str()` gives a specification that `weak.parse` reads back.

    Subclasses are frozen dataclasses that give `check` and `perturb`; a `kind` makes them known to `parse` and to `lab`.

    Attributes:
        prompt: what the weak pass carries, one of `PROMPTS`.
    """

    kind: ClassVar[str] = ""
    positional: ClassVar[tuple[str, ...]] = ("layers",)  # fields that a specification gives without their name
    example: ClassVar[str] = ""  # what to type, for error messages
    example_text: ClassVar[str] = ""  # the same as a specification; the kind and ":5" if not said
    axis: ClassVar[str] = "joint"
    steady: ClassVar[bool] = (
        False  # whether it perturbs alike at all steps of a run, so that it need be looked at but once
    )
    under_edits: ClassVar[bool] = True  # whether its passes are of the model under the run's edits
    watches: ClassVar[bool] = False  # whether, as an edit, it changes nothing and looks
    repeats: ClassVar[bool] = True  # whether its passes have the call's own arguments, but for the prompt
    whole: ClassVar[bool] = False  # whether its passes need all rows of the call that they repeat
    flow_only: ClassVar[bool] = False  # whether it is there for flow models alone
    by_rows: ClassVar[bool] = False  # whether, as an edit, it leaves other rows of a batch alone

    prompt: str = field(default="caption", kw_only=True)

    def __init_subclass__(cls) -> None:
        register(cls)

    def __post_init__(self) -> None:
        one_of("prompt", self.prompt, PROMPTS)

    @property
    def name(self) -> str:
        """Branch name in recordings."""
        return self.kind

    @property
    def words(self) -> str:
        """What is weak about it, in a few words for figures and tables."""
        return f"{self.kind}{self._under_prompt()}"

    def _under_prompt(self) -> str:
        return {"negative": ", negative prompt", "none": ", empty caption"}.get(self.prompt, "")

    def __str__(self) -> str:
        return write(self)

    def __repr__(self) -> str:
        return typed(self)

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read what `str` wrote after the kind."""
        return cls(**read(cls, text))

    def acts(self, step: int, steps: int) -> bool:
        """Whether there is anything to run at a step."""
        return True

    def module(self, at: Pass) -> nn.Module:
        """Whose forward the weak pass calls: the denoiser itself, unless the weak model is another one."""
        return at.denoiser

    def arguments(self, at: Pass) -> tuple[tuple, Mapping[str, Any]]:
        """What the weak pass, or as an edit the pipeline's own, calls that forward with: the call's own arguments, or with the
        empty caption among them."""
        return without_caption(at) if self.prompt == "none" else (at.args, at.kwargs)

    def own(self, prediction: Tensor, at: Pass) -> Tensor:
        """Of what was predicted with `arguments`, the rows of the call itself."""
        return prediction

    def shares_prefix(self, at: Pass) -> bool:
        """Whether all that a weak pass changes are forwards replaced by `replaced_forward`, which work on each row of a batch by
        itself. Then whatever runs before the first of them computes the same as in the pipeline's own call, and need not be
        computed twice."""
        return self.prompt != "none"

    def skips_blocks(self, at: Pass) -> bool:
        """Whether the blocks whose own forward is replaced do not run at all; for telling what a pass costs."""
        return False

    def unchanged(self, at: Pass) -> bool:
        """Whether a pass is right to come out equal to the one that it weakens, as the first of those that remember."""
        return False

    def ahead(self, at: Pass, branches: int) -> float | None:
        """As an edit: which share of the network runs ahead of the pipeline's own call of so many branches; None for no pass."""
        return None

    def times(self, at: Pass) -> int:
        """How many rows its passes, or as an edit all of the edited model, have for each row of the call."""
        return 1

    def most_bytes(self, shape: tuple[int, ...]) -> int:
        """As an edit that watches: what a step adds to a recording at most, for latents (sample, channel, frame, y, x)."""
        return 0

    def check(self, family: Family, component: str, denoiser: nn.Module) -> None:
        """Raise `GuidanceError` where this denoiser cannot be weakened so, before any compute is spent."""
        raise NotImplementedError

    def perturb(self, at: Pass) -> contextlib.AbstractContextManager[Hits]:
        """Perturb the module inside a `with`; yields how often each interception has acted, by its place."""
        raise NotImplementedError


def described(specification: str) -> str:
    """A weak model's specification in plain words; what cannot be read is returned as it is.

    >>> described("skip:attention:3-5")
    'attention of blocks 3-5 skipped'
    """
    try:
        return parse(specification).words
    except GuidanceError:
        return specification


def blocks_text(layers: tuple[int, ...]) -> str:
    """Layers in words: "block 4", "blocks 3-5"."""
    return f"block{'s' if len(layers) > 1 else ''} {format_layers(layers)}"


@dataclass(frozen=True, repr=False)
class Layered(Weak):
    """Base of the weak models that change chosen layers.

    Attributes:
        layers: block numbers from 0, in the order in which the model runs them.
    """

    layers: tuple[int, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "layers", whole_numbers(self.layers, "layers", self.example))

    def check(self, family: Family, component: str, denoiser: nn.Module) -> None:
        check_layers(self.layers, family, denoiser, lambda layer: repr(replace(self, layers=(layer,))))
        if self.axis == "temporal" and family.still:
            raise GuidanceError(
                f"{self}: {family.name} models make pictures, videos of one frame, so nothing mixes over time. Choose another "
                "axis or another weak model."
            )

    def blocks(self, family: Family, denoiser: nn.Module) -> list[tuple[int, str, nn.Module]]:
        """The chosen blocks as (layer, native axis, block): every block of the layer, or those along `axis`."""
        layers = family.layers(denoiser)
        return [
            (layer, axis, block)
            for layer in self.layers
            for axis, block in layers[layer].items()
            if axis == "joint" or self.axis in ("joint", axis)
        ]

    def sublayers(self, part: str, family: Family, denoiser: nn.Module) -> list[tuple[str, str, nn.Module]]:
        """What the chosen blocks have of a part, or the blocks, as (place, native axis, module)."""
        return [
            (place(layer, axis) + (f", {family.other_stream}" if k else ""), axis, module)
            for layer, axis, block in self.blocks(family, denoiser)
            for k, module in enumerate([block] if part == "block" else family.sublayers(block, part))
        ]


def place(layer: int, axis: str) -> str:
    """Where an interception sits, for messages: "5", or "5 (spatial)"."""
    return str(layer) if axis == "joint" else f"{layer} ({axis})"


def check_layers(layers: tuple[int, ...], family: Family, denoiser: nn.Module, example: Callable[[int], str]) -> None:
    """Raise `GuidanceError` for layers that a model does not have; `example` says what to type for one that it has."""
    count = len(family.layers(denoiser))
    if not count:
        raise GuidanceError(
            f"the lab knows of no blocks in {type(denoiser).__name__}, so there is nothing to weaken by layer."
        )
    outside = [layer for layer in layers if layer >= count]
    if outside:
        raise GuidanceError(
            f"layer {', '.join(map(str, outside))} is out of range: {type(denoiser).__name__} has {count} blocks, "
            f"0 to {count - 1}. Type for example {example(count // 2)}."
        )


def one_of(what: str, value: Any, allowed: Any) -> None:
    """Raise `GuidanceError` with a hint where a value is not one of the allowed ones."""
    if not isinstance(value, Hashable) or value not in allowed:
        raise GuidanceError(
            f"{what} {shown(value)} is unknown.{did_you_mean(value, map(str, allowed))} Known: {', '.join(map(str, allowed))}."
        )


def in_range(what: str, value: Any, low: float, high: float) -> float:
    """The value as a float; raise `GuidanceError` unless low < value <= high."""
    number = real(value)
    if number is None or not low < number <= high:
        raise GuidanceError(f"{what} must lie above {low:g} and at most at {high:g}, got {shown(value)}.")
    return float(number)
