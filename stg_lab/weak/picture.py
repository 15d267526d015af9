"""The picture that an image-to-video model is given: low-passed, as in ALG (Choi et al. 2025, arXiv 2506.08456), or dropped."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from stg_lab.errors import GuidanceError
from stg_lab.guidance.bands import smoothed
from stg_lab.weak.base import Hits, Pass, Weak, one_of, replaced_forward
from stg_lab.weak.cross import Rows
from stg_lab.weak.layers import whole_number

if TYPE_CHECKING:
    from torch import Tensor, nn

    from stg_lab.families import Family

HOW = ("lowpass", "dropped")


@dataclass(frozen=True, repr=False)
class Picture(Weak):
    """The encoded picture beside the noisy latents is smoothed, or zero. What the text or image encoder says stays as it is.

    `Edit(picture(2), stop=0.1)` is adaptive low-pass guidance: the first steps, which decide on motion, see a smooth picture, later
    ones the sharp one. Its filter and its share of the steps are **unverified**; here it is a level of the pyramid of
    `CFG(g).bands`. As a weak model, `STG(s, picture("dropped"))` is a scale of the picture's own: in pipelines whose uncond keeps
    the picture, `CFG(t - i + 1) + STG(i - 1, picture("dropped", prompt="negative"))` is u + t (c - c') + i (c' - u), with c' the
    prediction of the picture without the caption and u that of neither (InstructPix2Pix).

    Args:
        level: how often the picture is halved for smoothing, from 1.
        how: "lowpass" or "dropped"; `picture("dropped")` needs no level.
        prompt: as in `lab.skip`.
    """

    kind: ClassVar[str] = "picture"
    positional: ClassVar[tuple[str, ...]] = ("level",)
    example: ClassVar[str] = "lab.picture(2)"
    example_text: ClassVar[str] = "picture:2"
    by_rows: ClassVar[bool] = True

    level: int = 1
    how: str = field(default="lowpass", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.level, str):  # picture("dropped")
            object.__setattr__(self, "how", self.level)
            object.__setattr__(self, "level", 1)
        one_of("how", self.how, HOW)
        object.__setattr__(self, "level", whole_number(self.level, "level", 1, self.example))

    @property
    def words(self) -> str:
        how = "dropped" if self.how == "dropped" else f"smoothed by {2**self.level}"
        return f"picture {how}{self._under_prompt()}"

    def shares_prefix(self, at: Pass) -> bool:
        return False

    def check(self, family: Family, component: str, denoiser: nn.Module) -> None:
        if family.picture(denoiser) is None:
            raise GuidanceError(
                f"{self}: the lab knows of no encoded picture in the calls of {family.name} pipelines. It is for image-to-video models "
                "that get it in channels beside the latents: Wan's and Stable Video Diffusion."
            )

    @contextlib.contextmanager
    def perturb(self, at: Pass) -> Iterator[Hits]:
        found = at.family.picture(at.denoiser)
        assert found is not None
        module, channels = found
        hits: Hits = {}
        rows = Rows(at)

        def make(forward: Callable[..., Any]) -> Callable[..., Any]:
            return lambda x, *rest, **named: forward(rows.put(lambda: x, self.changed(x, channels)), *rest, **named)

        with replaced_forward(module, make, hits, "the picture"):
            yield hits

    def changed(self, x: Tensor, channels: tuple[slice, slice]) -> Tensor:
        """The model's input `(batch, channel, ..., y, x)` with its picture changed; the channels of the mask go with a dropped one."""
        picture, mask = channels
        out = x.clone()
        if self.how == "dropped":
            out[:, picture], out[:, mask] = 0, 0
        else:
            out[:, picture] = smoothed(x[:, picture], self.level, (x.ndim - 2, x.ndim - 1))
        return out
