"""The model itself at a second state, a share of the step ahead: the predictor of Rectified-CFG++ (Saini et al. 2025, 2510.07631)."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

from stg_lab.errors import GuidanceError
from stg_lab.given import Number, shown
from stg_lab.given import read as given
from stg_lab.guidance import CFG, STG, Guidance
from stg_lab.weak.base import Hits, Pass, Weak, in_range
from stg_lab.weak.spec import read

if TYPE_CHECKING:
    from torch import Tensor, nn

    from stg_lab.families import Family


@dataclass(frozen=True, repr=False)
class Predictor(Weak):
    """Nothing is weakened: the pass is made a share of the step ahead, where the prediction under the caption leads alone.

    With x, t the state of the step, t' where it ends and c the prediction under the caption, the pass is at
    `x + share (t' - t) c` and `t + share (t' - t)` (the paper's Alg. 1, line 4, of which share 0.5 is the published one).
    `lab.rectified_cfg` makes Rectified-CFG++ of two such passes.

    Flow models alone, whose latents reach the denoiser as they are stepped. With `prompt="negative"` or "none" the state is
    still the one to which the caption leads.

    Args:
        share: how far ahead, above 0; 1 is where the step ends.
        prompt: as in `lab.skip`.
    """

    kind: ClassVar[str] = "predictor"
    positional: ClassVar[tuple[str, ...]] = ()
    example: ClassVar[str] = "lab.predictor()"
    example_text: ClassVar[str] = "predictor:share=0.5"
    repeats: ClassVar[bool] = False
    flow_only: ClassVar[bool] = True

    share: float = field(default=0.5)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "share", in_range("share", self.share, 0, 1))

    @property
    def words(self) -> str:
        return f"{self.share:g} of a step ahead{self._under_prompt()}"

    @classmethod
    def from_text(cls, text: str) -> Self:
        return cls(**(read(cls, text) if text else {}))

    def shares_prefix(self, at: Pass) -> bool:
        return False

    def check(self, family: Family, component: str, denoiser: nn.Module) -> None:
        from stg_lab.families import Family

        own = type(family)
        if own.at_step is not Family.at_step or own.with_latents is not Family.with_latents or family.prediction_type:
            raise GuidanceError(
                f"{self}: {family.name} pipelines rearrange latents or predictions between the denoiser and the scheduler, so the lab "
                "does not know the denoiser's input at a second state."
            )

    def perturb(self, at: Pass) -> contextlib.AbstractContextManager[Hits]:
        return contextlib.nullcontext({})

    def arguments(self, at: Pass) -> tuple[tuple, Mapping[str, Any]]:
        if not at.prediction.numel():
            raise GuidanceError(
                f"{self} goes on from a prediction, so it is no edit of the pass that makes it. Type lab.STG(scale, {self!r})."
            )
        args, kwargs = super().arguments(at)
        assert at.moment is not None
        assert at.moment.one_step is not None
        line = at.moment.one_step.prediction  # x0 = x + line c, at the end of the straight line
        done = self.share * (1 - at.moment.after / at.moment.level)  # of the way to x0
        here = self._latents(at, args[0] if args else kwargs["hidden_states"])
        args, named = at.family.with_latents(args, kwargs, here, here + done * line * self._cond(at).to(here))
        if "timestep" not in named:
            raise GuidanceError(f"{self}: the denoiser of {at.family.name} pipelines is told no timestep by that name.")
        return args, {**named, "timestep": self._timestep(at, named["timestep"], done, reversed_=line > 0)}

    def _latents(self, at: Pass, given: Tensor) -> Tensor:
        """The latents of one piece of the denoiser's input, which may have other channels beside them."""
        channel = at.family.dim("channel")
        like = at.concerned(at.prediction)
        piece = given.narrow(channel, 0, like.shape[channel]) if given.ndim == like.ndim else given
        piece = at.concerned(piece)
        if piece.shape != like.shape:
            raise GuidanceError(
                f"{self}: the denoiser of {at.family.name} pipelines is given {tuple(given.shape)} and predicts {tuple(like.shape)}, so "
                "the lab does not know its input at a second state."
            )
        return piece

    def _cond(self, at: Pass) -> Tensor:
        """The prediction of this step under the caption: this call's, or what an earlier pass of the step saw."""
        if self.prompt != "negative":
            at.memory[Predictor] = at.step, at.concerned(at.prediction)
        step, cond = at.memory.get(Predictor, (-1, None))
        if step != at.step:
            raise GuidanceError(
                f"{self} goes where the prediction under the caption leads, which no pass of this step has seen. Add "
                "lab.Probe(lab.predictor()) to the sum."
            )
        return cond

    @staticmethod
    def _timestep(at: Pass, timestep: Tensor, done: float, *, reversed_: bool) -> Tensor:
        """What the denoiser is told of the second state: timesteps of flow models are their noise, or (Mochi) their signal, in units of
        their own. Tokens that are given, at 0, stay there."""
        timestep = timestep if timestep.is_floating_point() else timestep.float()
        if not reversed_:
            return timestep * (1 - done)
        return timestep + done * (at.pipe.scheduler.config.num_train_timesteps - timestep)


def rectified_cfg(
    scale: float,
    power: float = 0.0,
    *,
    prompt: str = "none",
    share: float = 0.5,
    start: float = 0.0,
    stop: float = 1.0,
    sigma: tuple[float, float] | None = None,
) -> Guidance:
    """Rectified-CFG++ (Saini et al. 2025, arXiv 2510.07631, Alg. 1): CFG's vector taken where half a step under the caption leads.

    `guided = c + scale (1 - t)^power (c' - u')`: c is the prediction under the caption, and c', u' are those under the caption
    and without it, half a step ahead along c. For flow models. Three passes a step, and no unconditional one of the pipeline's
    own, so it takes the place of CFG. Their code for SD3 goes a whole step ahead (`share=1`), tells the model the timestep it
    came from, and has power 0; the optional noise of line 5 is not here.

    Args:
        scale: lambda_max; 0 is off.
        power: gamma, from 0.
        prompt: what u' has: "none", the empty caption, or "negative", the negative prompt, where the pipeline's own
            unconditional pass must be there and has no weight: a pass more.
        share: how far ahead, in steps.
        start, stop, sigma: window, as of `STG`.

    Raises:
        GuidanceError: a scale that is no number, another prompt, or no proper window.
    """
    if prompt not in ("none", "negative"):
        raise GuidanceError(f"rectified_cfg(prompt) is 'none' or 'negative', got {shown(prompt)}.")
    weight = given("scale", scale, Number(), GuidanceError)
    window: dict[str, Any] = {"start": start, "stop": stop, "sigma": sigma}
    terms = [STG(s, Predictor(share, prompt=p), **window) for s, p in ((weight, prompt), (-weight, "caption"))]
    total = Guidance(tuple(term.by_signal(power) if power else term for term in terms))
    return total + CFG(no_cfg) if prompt == "negative" else total


def no_cfg(done: float) -> float:
    """A schedule of CFG that has the pipeline compute its unconditional prediction, and gives it no weight."""
    return 1.0
