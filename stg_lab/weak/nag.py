"""Normalized Attention Guidance, NAG (Chen et al. 2025, arXiv 2505.21179): a negative prompt inside cross-attention."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from stg_lab.errors import GuidanceError
from stg_lab.given import Number, read, shown
from stg_lab.patch import Hits, Make, in_place, replaced_forward, replaced_forwards, uncompiled
from stg_lab.weak.attention import intercepted
from stg_lab.weak.base import Pass, check_layers, in_range
from stg_lab.weak.caption import without_caption
from stg_lab.weak.cross import EveryLayer
from stg_lab.weak.joint_nag import changes, doubled, first_of_each, is_joint
from stg_lab.weak.rows import chunked, with_rows

if TYPE_CHECKING:
    from torch import Tensor, nn

    from stg_lab.families import Family


@dataclass(frozen=True, repr=False)
class Nag(EveryLayer):
    """Cross-attention that is pushed away from a negative prompt, and held to a length: works at CFG 1, on distilled models.

    With z+ and z- what attention gives for the caption and for the negative prompt, before the output projection,
    `g = scale z+ - (scale - 1) z-`; where a token's g is longer than `tau` times its z+ (sums of absolute values over all
    channels) it is shortened to that; `alpha g + (1 - alpha) z+` goes on. As in the authors' code, KJNodes and ComfyUI's core,
    which differ in their defaults: `nag()` has those of the first two, `nag(5, alpha=0.5, tau=1.5)` is ComfyUI's.

    Only the pass under the caption is edited. The negative prompt runs through the model up to its first edited attention,
    once a step, so the text must reach all blocks as it reaches the first. Pipelines that compute uncond and cond in one call
    have the negative prompt there already: then that of the call is taken, and nothing is run for it. Where text and video share
    one attention, each row is there twice, once with the text of either prompt, and z+ and z- are what the attention gives for
    the video's tokens (`weak.joint_nag`); what modulates the video by the text as a whole keeps to the caption.

    Args:
        scale: how far; 1 is off.
        alpha: share of the guided attention, 0 to 1.
        tau: longest, in lengths of z+.
        negative: the negative prompt; by default the empty caption, or the call's own where it is in the same batch.
        layers, prompt: block numbers from 0, None for all; as in `lab.skip`.
    """

    kind: ClassVar[str] = "nag"
    example: ClassVar[str] = "lab.nag(11)"
    example_text: ClassVar[str] = "nag:scale=11"

    repeats: ClassVar[bool] = False
    whole: ClassVar[bool] = True

    scale: float = 11.0
    alpha: float = field(default=0.25, kw_only=True)
    tau: float = field(default=2.5, kw_only=True)
    negative: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "scale", float(read("scale", self.scale, Number(), GuidanceError, self.example)))
        object.__setattr__(self, "alpha", in_range("alpha", self.alpha, 0, 1))
        object.__setattr__(self, "tau", in_range("tau", self.tau, 0, math.inf))
        if not isinstance(self.negative, str):
            raise GuidanceError(f"negative is the negative prompt as text, got {shown(self.negative)}.")

    @property
    def words(self) -> str:
        against = f" against {self.negative!r}" if self.negative else ""
        return f"NAG {self.scale:g}{against}{self._where()}"

    def check(self, family: Family, component: str, denoiser: nn.Module) -> None:
        if not is_joint(family):
            return super().check(family, component, denoiser)
        return check_layers(self.layers or (), family, denoiser, lambda layer: repr(replace(self, layers=(layer,))))

    def times(self, at: Pass) -> int:
        return 2 if is_joint(at.family) else 1

    def perturb(self, at: Pass) -> contextlib.AbstractContextManager[Hits]:
        if not is_joint(at.family):
            return super().perturb(at)
        return replaced_forwards(changes(at, lambda: at.memory[self, "piece"], self.normalized, self.layers))

    def arguments(self, at: Pass) -> tuple[tuple, Mapping[str, Any]]:
        args, kwargs = super().arguments(at)
        if not is_joint(at.family):
            return args, kwargs
        at.memory[self, "piece"] = at.piece
        return doubled(at, self._other(at))

    def own(self, prediction: Tensor, at: Pass) -> Tensor:
        return first_of_each(prediction, at.piece[1]) if is_joint(at.family) else prediction

    def _other(self, at: Pass) -> tuple[tuple, dict[str, Any]]:
        """The arguments of a call with the negative prompt in the place of every caption."""
        if (at.piece[1] == 1 and at.memory.get((self, "other"), (None,))[0] != at.step) or self.negative:
            return self._negative_call(at)
        if at.piece[1] == 2:
            negative = with_rows(replace(at, prediction=_hidden(at)), lambda x: chunked(x, (1 - at.piece[0], 2)))
            at.memory[self, "other"] = at.step, (negative.args, negative.kwargs)
            whole = with_rows(replace(negative, prediction=_hidden(negative)), _twice)
            return whole.args, dict(whole.kwargs)
        return at.memory[self, "other"][1]  # a weak pass with the rows under the caption alone

    def ahead(self, at: Pass, branches: int) -> float | None:
        if (branches == 2 and not self.negative) or is_joint(at.family):
            return None
        first = self.modules(at.family, at.denoiser)[0][1]
        stages = at.family.stages(at.denoiser)
        before = next((k for k, stage in enumerate(stages) if any(one is first for one in stage.modules())), 0)
        return before / len(stages)

    def made(self, at: Pass, first: nn.Module) -> Make:
        batched = at.piece[1] == 2 and not self.negative
        there = None if batched else self._negative_context(at, first)

        def make(forward: Callable[..., Any]) -> Callable[..., Any]:
            known: list[
                Any
            ] = []  # what the uncond rows of the pipeline's own call were given; a weak pass may have none

            def guided(*args: Any, **kwargs: Any) -> Any:
                apart: list[Tensor] = []

                def keep(kernel: Callable[..., Tensor], **call: Any) -> Tensor:
                    apart.append(kernel(**call))
                    return apart[-1]

                if there is None and not known:
                    known.append(_rows(args, kwargs, 1 - at.piece[0]))
                other, named = _with_context(args, kwargs, there or _as_many(known[0], args, kwargs))
                with intercepted(keep):
                    forward(*other, **named)
                negative = iter(apart)
                with intercepted(lambda kernel, **call: self.normalized(kernel(**call), next(negative))):
                    return forward(*args, **kwargs)

            return guided

        return make

    def normalized(self, positive: Tensor, negative: Tensor) -> Tensor:
        """What goes on in place of z+, both `(batch, head, token, channel)`."""
        import torch

        guided = self.scale * positive - (self.scale - 1) * negative
        lengths = [z.abs().sum((1, 3), keepdim=True) for z in (positive, guided)]
        longer = lengths[1] > self.tau * lengths[0]
        guided = guided * torch.where(longer, self.tau * lengths[0] / (lengths[1] + 1e-7), torch.ones_like(lengths[0]))
        return self.alpha * guided + (1 - self.alpha) * positive

    def _negative_context(self, at: Pass, first: nn.Module) -> tuple[tuple, dict[str, Any]]:
        """What the first edited attention is given beside the video, under the negative prompt."""
        if not (at.args or at.kwargs):
            return (), {}  # only the modules are wanted, no pass
        seen: list[tuple[tuple, dict[str, Any]]] = []

        def stop(forward: Callable[..., Any]) -> Callable[..., Any]:
            def stopped(*args: Any, **kwargs: Any) -> Any:
                seen.append((args, kwargs))
                raise _Far

            return stopped

        args, kwargs = self._negative_call(at)
        with replaced_forward(first, stop, {}, ""), contextlib.suppress(_Far):
            uncompiled(at.denoiser).forward(*args, **kwargs)
        if not seen:
            raise GuidanceError(f"{self}: the first cross-attention that it edits was never reached.")
        return seen[0]

    def _negative_call(self, at: Pass) -> tuple[tuple, dict[str, Any]]:
        try:
            return self._encoded(at)
        except GuidanceError:
            raise GuidanceError(
                f"{self}: the lab does not know how {at.family.name} pipelines encode a caption of one's own. Where they compute uncond "
                "and cond in one call, the call's own negative prompt is taken: sample with CFG, and leave negative= out."
            ) from None

    def _encoded(self, at: Pass) -> tuple[tuple, dict[str, Any]]:
        if not self.negative:
            return without_caption(at)
        own = at.pipe.encode_prompt

        def encoded(prompt: Any, *args: Any, **kwargs: Any) -> Any:
            texts = [self.negative] * len(prompt) if isinstance(prompt, list) else self.negative
            return own(texts, *args, **kwargs)

        memory = at.memory.setdefault((self, "encoded"), {})
        with in_place([(at.pipe, "encode_prompt", encoded)]):
            return without_caption(replace(at, memory=memory))


def _hidden(at: Pass) -> Tensor:
    return at.args[0] if at.args else at.kwargs["hidden_states"]


def _twice(x: Tensor) -> Tensor:
    return x.repeat(2, *[1] * (x.ndim - 1))


class _Far(BaseException):
    """The pass has come far enough."""


def _with_context(
    args: tuple, kwargs: dict[str, Any], there: tuple[tuple, dict[str, Any]]
) -> tuple[tuple, dict[str, Any]]:
    """The arguments of one attention with what another call was given beside the video."""
    other_args, other = there
    if args:
        return (args[0], *other_args[1:]), other
    return (), {**other, "hidden_states": kwargs["hidden_states"]}


def _rows(args: tuple, kwargs: dict[str, Any], index: int) -> tuple[tuple, dict[str, Any]]:
    """One half of the rows of everything that an attention is given beside the video."""
    half = (index, 2)
    rows = len(args[0] if args else kwargs["hidden_states"])

    def cut(value: Any) -> Any:
        return chunked(value, half) if hasattr(value, "chunk") and value.ndim and len(value) == rows else value

    return (args[:1] + tuple(map(cut, args[1:])), {name: cut(value) for name, value in kwargs.items()})


def _as_many(known: tuple[tuple, dict[str, Any]], args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    """The same for every half of the rows of a call."""
    import torch

    rows = len(args[0] if args else kwargs["hidden_states"])

    def fill(value: Any, like: Any) -> Any:
        if not hasattr(value, "chunk") or not value.ndim or not hasattr(like, "chunk") or len(like) != rows:
            return value
        return torch.cat([value] * (rows // len(value)))

    return (
        args[:1] + tuple(map(fill, known[0][1:], args[1:])),
        {name: fill(value, kwargs.get(name)) for name, value in known[1].items()},
    )
