"""Sliding windows over time and space: attention that sees only near tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from stg_lab.weak.attention import Attention, AttentionEdit
from stg_lab.weak.base import Pass, blocks_text
from stg_lab.weak.layers import whole_number
from stg_lab.weak.places import sliding, sliding_in_space

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, repr=False)
class Window(AttentionEdit):
    """Self-attention in which every token sees only what is near: frames, positions within frames, or both.

    Over time, `frames=0` is the temporal skip, `lab.skip(layers, part="attention", axis="temporal")`; over space it is masked
    sliding window guidance, M-SWG (Adaloglou et al. 2024, arXiv 2411.10257), with a window around every token. A window that
    reaches over the whole video changes nothing, which is an error as always.

    Args:
        layers: block numbers from 0.
        frames: reach of the window in latent frames, for the axes "temporal" and "joint".
        reach: reach of the window in tokens up, down, left and right, for the axes "spatial" and "joint".
        axis: "temporal" sees near frames, all of each; "spatial" near positions, in all frames; "joint" what is near in both.
        heads, strength, prompt: as in `lab.skip`.
    """

    kind: ClassVar[str] = "window"
    example: ClassVar[str] = "lab.window([5], frames=1)"
    steady: ClassVar[bool] = True

    axis: str = field(default="temporal", kw_only=True)  # type: ignore[misc]
    frames: int = field(default=1, kw_only=True)
    reach: int = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("frames", "reach"):
            object.__setattr__(self, name, whole_number(getattr(self, name), name, 0, self.example))

    @property
    def words(self) -> str:
        time = "its own frame alone" if self.frames == 0 else f"±{self.frames} frames"
        space = "its own position alone" if self.reach == 0 else f"±{self.reach} tokens"
        seen = {"temporal": time, "spatial": space, "joint": f"{space}, {time}"}[self.axis]
        return f"attention of {blocks_text(self.layers)} sees {seen}{self._some()}"

    def edit(self, attention: Attention, at: Pass) -> Tensor:
        if self.axis == "temporal":
            return sliding(attention, self.frames)
        return sliding_in_space(attention, self.reach, self.frames if self.axis == "joint" else attention.place.frames)
