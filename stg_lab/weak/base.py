"""What every weak model is: a frozen value that can perturb a denoiser for the length of one forward pass."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from stg_lab.errors import GuidanceError, NothingChangedError, did_you_mean
from stg_lab.given import real, shown
from stg_lab.undone import stacked, undone
from stg_lab.weak.caption import without_caption
from stg_lab.weak.layers import format_layers, whole_numbers
from stg_lab.weak.spec import parse, read, register, typed, write

if TYPE_CHECKING:  # a weak model is a value: naming one needs no torch
    from torch import Tensor, nn

    from stg_lab.families import Family, Grid

PROMPTS = {
    "caption": "the caption, as the conditional pass (peers' convention A)",
    "negative": "the negative prompt, as the unconditional pass (conventions B and C)",
    "none": "the empty caption",
}
AXES = ("joint", "spatial", "temporal")

#: Changes below this share of a prediction are rounding in float32, which guidance would make larger, and mean nothing.
ROUNDING = 2e-6

Hits = dict[str, int]  # how often each interception has acted, by its place


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
        edited: whether the call was made under an edit of the main pass.
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
    edited: bool = False

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
    under_edits: ClassVar[bool] = True  # whether its passes are of the model under the run's edits
    watches: ClassVar[bool] = False  # whether, as an edit, it changes nothing and looks
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


#: Lists that are told every module whose forward is replaced here; another thread's pipeline is no concern of theirs.
_watching: ContextVar[tuple[list[nn.Module], ...]] = ContextVar("watching", default=())


@contextlib.contextmanager
def changed_modules() -> Iterator[list[nn.Module]]:
    """Collects the modules whose forward is replaced inside the `with`, in order."""
    found: list[nn.Module] = []
    before = _watching.get()
    with undone(functools.partial(_watching.set, before)):
        _watching.set((*before, found))
        yield found


@contextlib.contextmanager
def replaced_forward(
    module: nn.Module, make: Callable[[Callable[..., Any]], Callable[..., Any]], hits: Hits, place: str
) -> Iterator[None]:
    """Give one module another `forward` inside the `with`; an instance attribute that was there before comes back.

    Args:
        make: takes the module's forward and returns the one to use.
        hits, place: where its calls are counted.
    """
    module = uncompiled(module)
    hits.setdefault(place, 0)
    for found in _watching.get():
        found.append(module)
    forward = make(module.forward)

    @functools.wraps(module.forward)
    def counted(*args: Any, **kwargs: Any) -> Any:
        hits[place] += 1
        return forward(*args, **kwargs)

    with instance_attribute(module, "forward", counted):
        yield


@contextlib.contextmanager
def instance_attribute(module: nn.Module, name: str, value: Any) -> Iterator[None]:
    """Set an attribute of one module inside the `with`; what the instance had before, or had not, comes back."""
    own = vars(module)
    put_back = (
        functools.partial(setattr, module, name, own[name]) if name in own else functools.partial(own.pop, name, None)
    )
    with undone(put_back):
        setattr(module, name, value)
        yield


def uncompiled(module: nn.Module) -> nn.Module:
    """The module itself, where `torch.compile` has wrapped it."""
    return getattr(module, "_orig_mod", module)


def own_call(module: nn.Module) -> Callable[..., Any]:
    """What a call of a module runs: its compiled graph, where there is one, or its hooks and its forward."""
    return module._compiled_call_impl or module._call_impl


def answered(module: nn.Module, answer: Callable[..., Any]) -> contextlib.AbstractContextManager[None]:
    """Inside the `with`, calls of a module are answered by a function, without its hooks, its forward, or its compiled graph,
    whose guards would otherwise compile it anew for every other forward that it finds."""
    return instance_attribute(module, "_compiled_call_impl", answer)  # what torch asks first, in every call of a module


@contextlib.contextmanager
def plain_around(changed: list[nn.Module], module: nn.Module) -> Iterator[None]:
    """Inside the `with`, compiled blocks that hold a changed module run their own Python code."""
    ids = {id(m) for m in changed}
    with stacked() as stack:
        for one in module.modules():
            if is_compiled(one) and any(id(inner) in ids for inner in one.modules()):
                stack.enter_context(_plain(one))
        yield


def _plain(module: nn.Module) -> contextlib.AbstractContextManager[None]:
    """Inside the `with`, a compiled module runs its own Python code, and its hooks."""
    if uncompiled(module) is module:
        return answered(module, module._call_impl)
    return instance_attribute(module, "forward", uncompiled(module)._call_impl)


def is_compiled(module: nn.Module) -> bool:
    """Whether calls of a module run a compiled graph."""
    return "_orig_mod" in module._modules or module._compiled_call_impl is not None


def run_weak(weak: Weak, at: Pass) -> Tensor:
    """The weak model's prediction at exactly the state of the pipeline's call.

    Calls `forward` with the very same arguments: forward hooks do not see it, offloading and caches do. Where the pipeline
    batches [uncond, cond], so does the weak pass: kernels round differently for other batch shapes, and the guidance vector
    would hold that rounding, times the scale.

    Returns:
        The concerned part of a prediction like `at.prediction`.

    Raises:
        GuidanceError: an interception was never reached.
        NothingChangedError: the pass came out equal to the one that it weakens; a kind of `GuidanceError`.
    """
    import torch

    args, kwargs = (at.args, at.kwargs)
    if weak.prompt == "none":
        args, kwargs = without_caption(at)
    module = uncompiled(weak.module(at))
    with changed_modules() as changed, weak.perturb(at) as hits, plain_around(changed, module), torch.no_grad():
        prediction = at.family.prediction(module.forward(*args, **kwargs))
    return checked(weak, at, prediction, hits)


def checked(weak: Weak, at: Pass, prediction: Tensor, hits: Hits) -> Tensor:
    """The concerned part of a weak pass's prediction, once it is sure that something was weakened; see `run_weak`."""
    unreached = [place for place, count in hits.items() if count == 0]
    if unreached:
        raise GuidanceError(
            f"weak model {weak}: {', '.join(unreached)} was never reached during the pass, so nothing was weakened there. "
            "The pipeline bypasses it (a step cache or another attention backend?)."
        )
    prediction = at.concerned(prediction)
    own = at.concerned(at.prediction).float()
    if not weak.unchanged(at) and (prediction.float() - own).norm() <= ROUNDING * own.norm():
        raise NothingChangedError(
            f"weak model {weak} changed nothing: its prediction equals the one it was to weaken, up to rounding. "
            "Choose other layers or another part, or drop the term."
        )
    return prediction
