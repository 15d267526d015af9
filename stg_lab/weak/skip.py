"""Skipping: a weak model that leaves out whole blocks or one part of them (Hyung et al. 2025, section 4.3).

| part | what happens in the chosen layers | also known as |
|---|---|---|
| `block` | the block returns its input (eq. 15); attention, cross-attention and feed-forward are all left out | STG-R, SLG |
| `attention` | self-attention map = identity for all tokens: the output is the value projection (eq. 17) | STG-A, PAG |
| `attention_video` | the same for video tokens; text tokens in the same attention attend as before | |
| `attention_diagonal` | video tokens attend to themselves and the text, text tokens attend as before | |
| `attention_zero` | the self-attention's residual branch is zero | |
| `cross_attention_zero` | the cross-attention's residual branch is zero | |
| `feedforward` | the feed-forward's residual branch is zero | |

The three readings of identity attention differ only where text and video share one attention. `attention` is the default
because it is eq. 17 taken literally, costs no attention at all, and is what diffusers' own PAG mode and LTX-2 compute.

Along an axis: models with factorised attention have blocks (or units) for space and for time, and `axis` chooses among them
(paper, eq. 18-20). Where one attention spans the video, `axis="temporal"` lets every token attend within its own frame alone
(temporal mixing is skipped) and `axis="spatial"` to its own position across frames alone (spatial mixing is skipped). Both
together leave a token itself: `axis="joint"`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from stg_lab.errors import GuidanceError
from stg_lab.patch import Hits, Make, replaced_forwards
from stg_lab.weak import places
from stg_lab.weak.attention import Attention, AttentionEdit
from stg_lab.weak.base import Pass, blocks_text, one_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from stg_lab.families import Family

EDITS = {
    "attention": places.identity,
    "attention_video": places.identity_video,
    "attention_diagonal": places.diagonal,
}
#: Part of a skip -> the sub-layer whose residual branch becomes zero.
ZEROED = {"attention_zero": "attention", "cross_attention_zero": "cross_attention", "feedforward": "feedforward"}
PARTS = ("block", *EDITS, *ZEROED)


@dataclass(frozen=True, repr=False)
class Skip(AttentionEdit):
    """A weak model that skips layers of the model itself.

    Args:
        layers: block numbers from 0, in the order in which the model runs them.
        part: what to leave out, see the module's table.
        axis: "joint", or "spatial" or "temporal" alone.
        heads: for the attention parts, the heads to change; None for all.
        strength: 1 skips fully; t between 0 and 1 mixes: `(1 - t)` of the part as it is, t of it skipped.
        prompt: what the weak pass carries: "caption", "negative" or "none".

    Raises:
        GuidanceError: no layers, a negative or fractional one, or an unknown part, axis or prompt.

    >>> str(Skip([3, 4, 5, 8], part="attention"))
    'skip:attention:3-5,8'
    """

    kind: ClassVar[str] = "skip"
    positional: ClassVar[tuple[str, ...]] = ("part", "layers")
    example: ClassVar[str] = "lab.skip([5])"
    example_text: ClassVar[str] = "skip:block:5"
    steady: ClassVar[bool] = True

    part: str = field(default="block", kw_only=True)

    def __post_init__(self) -> None:
        one_of("part", self.part, PARTS)
        super().__post_init__()
        if self.heads is not None and self.part not in EDITS:
            raise GuidanceError(f"heads are for the attention parts ({', '.join(EDITS)}), not for part={self.part!r}.")

    @property
    def words(self) -> str:
        what = {
            "block": "",
            "attention_video": "attention of video tokens in ",
            "attention_diagonal": "attention between video tokens in ",
            "attention_zero": "attention branch of ",
            "cross_attention_zero": "cross-attention branch of ",
            "feedforward": "feed-forward of ",
        }.get(self.part, f"{self.part} of ")
        axis = "" if self.axis == "joint" else f"{self.axis} "
        return f"{axis}{what}{blocks_text(self.layers)} skipped{self._some()}"

    def check(self, family: Family, component: str, denoiser: nn.Module) -> None:
        """Raise `GuidanceError` for a layer or head out of range, or an axis or part that the family lacks."""
        super().check(family, component, denoiser)
        if self.part in ("attention_video", "attention_diagonal") and family.text_tokens == "none":
            raise GuidanceError(
                f"part {self.part!r} is for models that keep text in their self-attention, which {family.name} models do not. "
                f"For them it is the same as {replace(self, part='attention')!r}: type that."
            )
        if self.part not in family.parts:
            raise GuidanceError(
                f"part {self.part!r} is not there in {family.name} models. Choose one of: {', '.join(family.parts)}."
            )
        if self.axis not in ("joint", *family.axes) and self.part != "attention":
            raise GuidanceError(
                f"axis {self.axis!r} is not there for part {self.part!r} in {family.name} models, whose attention is "
                f"{', '.join(family.axes)}. Type {replace(self, part='attention')!r}, which restricts the attention, or leave "
                "the axis out."
            )
        if not self.sublayers(self._concerned, family, denoiser):
            raise GuidanceError(
                f"{self}: these layers have no such part along this axis. Choose other layers or another part, or leave the "
                "axis out."
            )

    def skips_blocks(self, at: Pass) -> bool:
        return self.part == "block" and self.strength == 1 and at.family.surely_reused

    def edit(self, attention: Attention, at: Pass) -> Tensor:
        if self.axis == "joint" or self.axis in at.family.axes:
            return EDITS[self.part](attention)
        return places.within_frames(attention) if self.axis == "temporal" else places.within_positions(attention)

    def perturb(self, at: Pass) -> contextlib.AbstractContextManager[Hits]:
        if self.part in EDITS:
            return super().perturb(at)
        make = left_out(at.family, self._concerned, self.strength)
        found = self.sublayers(self._concerned, at.family, at.denoiser)
        return replaced_forwards([(module, make, f"{self.part} {place}") for place, _, module in found])

    @property
    def _concerned(self) -> str:
        """What is changed: "block", "attention", "cross_attention" or "feedforward"."""
        return "attention" if self.part in EDITS else ZEROED.get(self.part, "block")


def left_out(family: Family, part: str, strength: float = 1.0) -> Make:
    """What makes, of a block's or sub-layer's forward, one that leaves it out: a block passes its input on, a sub-layer
    adds nothing to it. A strength below 1 goes only that share of the way."""

    def make(forward: Callable[..., Any]) -> Callable[..., Any]:
        def skipped(*args: Any, **kwargs: Any) -> Any:
            without = family.left_out(part, forward, args, kwargs)
            if strength == 1:
                return without
            return _towards(forward(*args, **kwargs), without, strength)

        return skipped

    return make


def _towards(output: Any, without: Any, strength: float) -> Any:
    if isinstance(output, tuple):
        return tuple(_towards(o, w, strength) for o, w in zip(output, without, strict=True))
    return output + strength * (without - output)
