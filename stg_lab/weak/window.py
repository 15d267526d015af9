"""A sliding temporal window: attention that sees only near frames."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from stg_lab.weak.attention import Attention, AttentionEdit
from stg_lab.weak.base import Pass, blocks_text
from stg_lab.weak.layers import whole_number
from stg_lab.weak.places import sliding

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, repr=False)
class Window(AttentionEdit):
    """Self-attention in which every token sees only the frames at most `frames` before or after its own.

    With `frames=0` this is the temporal skip, `lab.skip(layers, part="attention", axis="temporal")`; with as many frames as
    the video has (minus one) it changes nothing, which is an error as always.

    Args:
        layers: block numbers from 0.
        frames: reach of the window in latent frames.
        heads, strength, prompt: as in `lab.skip`.
    """

    kind: ClassVar[str] = "window"
    example: ClassVar[str] = "lab.window([5], frames=1)"
    steady: ClassVar[bool] = True
    axes: ClassVar[tuple[str, ...]] = ("temporal",)

    axis: str = field(default="temporal", kw_only=True)  # type: ignore[misc]
    frames: int = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "frames", whole_number(self.frames, "frames", 0, self.example))

    @property
    def words(self) -> str:
        seen = "its own frame alone" if self.frames == 0 else f"±{self.frames} frames"
        return f"attention of {blocks_text(self.layers)} sees {seen}{self._some()}"

    def edit(self, attention: Attention, at: Pass) -> Tensor:
        return sliding(attention, self.frames)
