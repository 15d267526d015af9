"""The steps of a run, made once before the first of them: `lab.plan` prints them, the tracer walks them, forks and sweeps use the
same."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from torch import Tensor

from stg_lab.errors import UnsupportedPipelineError
from stg_lab.families import Family
from stg_lab.families.noise import level_at
from stg_lab.guidance import COND, UNCOND, Acting, Guidance, Moment
from stg_lab.weak import Weak


@dataclass(frozen=True)
class RunStep:
    """One step of a run.

    Attributes:
        at: where it lies. What turns out on the way (x_t, a memory, scales of single frames) is put in when it is there.
        acting: what of the sum acts at it, with weights.
    """

    at: Moment
    acting: Acting

    def repeating(self, branch: str) -> dict[Weak, str]:
        """The weak models whose passes repeat this branch's, each with the name of its own branch."""
        models = cast("dict[str, Weak]", self.acting.passes)
        return {weak: name for name, weak in models.items() if repeats(weak) == branch}


@dataclass
class Now:
    """The step that a run is at.

    Attributes:
        number: of the step, from 0.
        restart: round of Restart; 0 is the pipeline's own way down.
        calls: how many denoiser calls it has made.
        denoiser: name of the one that was called last.
        predictions: what they predicted, by branch.
        looked: what was looked at inside the pass under the caption, `(layer, sample, ...)` by name.
    """

    number: int = 0
    restart: int = 0
    calls: int = 0
    denoiser: str = ""
    predictions: dict[str, Tensor] = field(default_factory=dict)
    looked: dict[str, Tensor] = field(default_factory=dict)


def repeats(weak: Weak) -> str:
    """Which branch a weak pass repeats."""
    return UNCOND if weak.prompt == "negative" else COND


def run_steps(
    guidance: Guidance, family: Family, scheduler: Any, *, begin: int = 0, given: int = 0, needed: bool
) -> tuple[RunStep, ...]:
    """The steps that a run takes, from where its scheduler is set to.

    Args:
        guidance: with its schedules as numbers (`Guidance.resolved`).
        begin: the scheduler's step that the run begins with.
        given: how many first frames are given to the pipeline and are not stepped.
        needed: whether the run will not do without noise levels.

    Raises:
        GuidanceError: the sampler does not serve a term: a window in sigma, or CFG++.
        UnsupportedPipelineError: the noise levels are not known, and needed.
    """
    count = len(scheduler.timesteps) - begin
    moments = (_moment(family, scheduler, step, count, begin, given, needed=needed) for step in range(count))
    return tuple(RunStep(at, Acting.at(guidance, at)) for at in moments)


def _moment(family: Family, scheduler: Any, step: int, steps: int, begin: int, given: int, *, needed: bool) -> Moment:
    axes = family.layout.partition(";")[0].split(", ")
    place: dict[str, Any] = {"given": given, "space": tuple(axes.index(side) for side in ("y", "x") if side in axes)}
    place |= {"frame": axes.index("frame")} if "frame" in axes else {}
    try:
        level = level_at(scheduler, begin + step, said=family.prediction_type)
    except UnsupportedPipelineError:
        if needed:
            raise
        return Moment(step, steps, **place)  # enough for all that asks no noise level
    signal, noise = level.process
    return Moment(
        step,
        steps,
        level.noise,
        level.next_weight,
        level.one_step,
        signal=signal,
        level=noise,
        after=level.after,
        **place,
    )
