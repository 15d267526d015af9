"""The frames that a video goes on from, noised or dropped: history guidance (Song et al. 2025, arXiv 2502.06764)."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

from stg_lab.errors import GuidanceError
from stg_lab.weak.base import Hits, Pass, Weak, in_range
from stg_lab.weak.layers import whole_number
from stg_lab.weak.rows import concerned
from stg_lab.weak.spec import read

if TYPE_CHECKING:
    from torch import Tensor, nn

    from stg_lab.families import Family

SEED = 0x686973746F7279  # of the noise ("history" in ASCII): the same for all samples and steps


@dataclass(frozen=True, repr=False)
class History(Weak):
    """The model with its history hidden: the frames that were given are noised, and the denoiser is told so.

    A given frame h becomes `(1 - noise) h + noise eps`, and its timestep that of this noise. `STG(w, history())` is the paper's
    vanilla history guidance, `history(0.5)` its fractional one (over frequencies, since noise hides the fine ones first), and
    sums of `history(keep=n)` are sums over shorter histories (over time). It is for flow models that hold the given frames in
    their latents at noise levels of their own. The idea is the paper's; its text was at hand as a summary alone: **unverified**.

    Args:
        noise: share of noise, above 0; 1 drops the history.
        keep: how many of the last given latent frames stay as they are.
        prompt: as in `lab.skip`.
    """

    kind: ClassVar[str] = "history"
    positional: ClassVar[tuple[str, ...]] = ()
    example: ClassVar[str] = "lab.history()"
    example_text: ClassVar[str] = "history:noise=0.5"
    by_rows: ClassVar[bool] = True
    repeats: ClassVar[bool] = False

    noise: float = 1.0
    keep: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "noise", in_range("noise", self.noise, 0, 1))
        object.__setattr__(self, "keep", whole_number(self.keep, "keep", 0, "lab.history(keep=1)"))

    @property
    def words(self) -> str:
        how = "dropped" if self.noise == 1 else f"noised by {self.noise:g}"
        last = f", but for the last {self.keep}" if self.keep else ""
        return f"history {how}{last}{self._under_prompt()}"

    @classmethod
    def from_text(cls, text: str) -> Self:
        return cls(**(read(cls, text) if text else {}))

    def shares_prefix(self, at: Pass) -> bool:
        return False

    def unchanged(self, at: Pass) -> bool:
        return not self._hidden(at) and at.family.history_comes(
            at.pipe
        )  # the first section of a long video has none yet

    def check(self, family: Family, component: str, denoiser: nn.Module) -> None:
        if not family.has_history(denoiser):
            raise GuidanceError(
                f"{self}: {family.name} models hold no given frames at noise levels of their own, so there is no history to hide. It is "
                "for SkyReels-V2 diffusion forcing, Wan 2.2 TI2V-5B and the image-to-video pipelines of LTX. A picture in channels "
                "beside the latents is dropped by lab.picture('dropped')."
            )

    def perturb(self, at: Pass) -> contextlib.AbstractContextManager[Hits]:
        return contextlib.nullcontext({})

    def arguments(self, at: Pass) -> tuple[tuple, Mapping[str, Any]]:
        args, kwargs = super().arguments(at)
        changed = {
            "hidden_states": concerned(at.piece, kwargs["hidden_states"], lambda x: self.noised(at, x)),
            "timestep": concerned(at.piece, kwargs["timestep"], lambda t: self.told(at, t)),
        }
        return args, {**kwargs, **changed}

    def _hidden(self, at: Pass) -> int:
        """How many first latent frames are hidden."""
        given = at.family.history_frames(at.pipe)
        if not given and not at.family.history_comes(at.pipe):
            raise GuidanceError(f"{self}: this call was given no frames to go on from, so there is no history to hide.")
        return max(given - self.keep, 0)

    def noised(self, at: Pass, x: Tensor) -> Tensor:
        """The denoiser's input, `(batch, channel, frame, y, x)` or `(batch, token, channel)`, with the history noised."""
        import torch

        dim = 2 if x.ndim == 5 else 1
        history, rest = x.tensor_split([self._first(at, x.shape[dim])], dim=dim)
        noise = torch.randn(history.shape[1:], generator=torch.Generator().manual_seed(SEED)).to(x)
        return torch.cat([(1 - self.noise) * history + self.noise * noise, rest], dim=dim)

    def told(self, at: Pass, timestep: Tensor) -> Tensor:
        """Timesteps `(batch, frame or token)` with those of the history."""
        import torch

        history, rest = timestep.tensor_split([self._first(at, timestep.shape[1])], dim=1)
        level = self.noise * at.pipe.scheduler.config.num_train_timesteps
        return torch.cat([torch.maximum(history, torch.full_like(history, level)), rest], dim=1)

    def _first(self, at: Pass, count: int) -> int:
        """Of so many frames, or tokens frame by frame, how many are hidden."""
        return count * self._hidden(at) // at.grid.frames
