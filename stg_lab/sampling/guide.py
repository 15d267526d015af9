"""`Guide`: the predictions of a step, and the one to step with."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from stg_lab.errors import GuidanceError
from stg_lab.families import Family
from stg_lab.guidance import COND, UNCOND, Guidance, combine_cfg, guided_by
from stg_lab.sampling import checks
from stg_lab.sampling.restart import Rounds
from stg_lab.sampling.selfcheck import SelfCheck
from stg_lab.sampling.steps import Now, RunStep, run_steps
from stg_lab.sampling.which_steps import begun, check_restart, span
from stg_lab.seams import Coming, Step
from stg_lab.weak import Weak


class Guide:
    """Guides one pipeline's runs, one after the other.

    Attributes:
        guidance: the sum that was asked for.
        sum: the same with its schedules as numbers, once the number of steps is known.
        steps: of the running call.
        uncond: whether that computes the unconditional prediction.
        check: what is seen of what the pipeline itself steps with.
        first: number of the call's first step in the scheduler's run.
        rounds: of Restart, where the sum has it.
    """

    def __init__(self, pipe: Any, family: Family, guidance: Guidance) -> None:
        self.pipe, self.family, self.guidance = pipe, family, guidance
        self.sum, self.uncond, self.first = guidance, False, 0
        self.steps: tuple[RunStep, ...] = ()
        self.check = SelfCheck(pipe, family)
        self.rounds: Rounds | None = None
        self._memory: dict[Any, Any] = {}
        self._needs_levels = False

    def begin(self, call: Coming, *, recorded: bool) -> None:
        """A new call: tell everything that is wrong before the first weak pass is paid for.

        Args:
            recorded: whether the run is, for which noise levels must be known.
        """
        pipe, g = self.pipe, self.guidance
        self.uncond, self._memory = self.family.has_uncond(pipe), {}
        self.check.begin(call.denoiser)
        checks.check_weak(g, self.family, {call.denoiser: call.module})
        checks.check_scales(g, pipe, self.family, call.denoiser, self.uncond)
        self.first, count = span(pipe)
        self.sum = g.resolved(count)
        check_restart(g, pipe, count)
        self._needs_levels = recorded or self.sum.space == "x0"
        self._make_steps()
        self.rounds = None if g.restarts is None else Rounds.plan(g.restarts, self.family, pipe.scheduler)

    @property
    def rows(self) -> int:
        """Steps of a recording: the run's, and those of the rounds of Restart."""
        return len(self.steps) + (0 if self.rounds is None else self.rounds.extra)

    def begun(self, step: Step) -> None:
        """The first step is there: its timestep says whether it is the expected one."""
        expected = self.first, len(self.steps)
        self.first, count = begun(self.guidance, self.pipe, step.timestep, expected)
        if (self.first, count) != expected:
            self._make_steps()

    def _make_steps(self) -> None:
        given = self.family.given_frames(self.pipe, at_step=True)
        self.steps = run_steps(
            self.sum, self.family, self.pipe.scheduler, begin=self.first, given=given, needed=self._needs_levels
        )

    def repeating(self, number: int, branches: tuple[str, ...]) -> list[tuple[int, Weak, str]]:
        """The weak models whose passes repeat one of the branches of a call: each with that branch's place in the call, and with
        the name of its own. Those under the caption come first, those that are not under the edits of the main pass last."""
        step = self.steps[number]
        running = step.acting.passes
        if step.acting.rules and running:
            running = self.sum.needed(replace(step.at, memory=self._memory))  # rules may have ended a term
        found = [
            (index, model, name)
            for index, branch in enumerate(branches)
            for model, name in step.repeating(branch).items()
            if name in running
        ]
        return sorted(found, key=lambda one: (not one[1].under_edits, one[1].prompt == "negative"))

    def scales(self, now: Now) -> Any:
        """The CFG scale that the pipeline works with at a step, 1 without CFG; a tensor where frames have their own."""
        return self.check.scales(now.number, now.predictions, now.denoiser, self.uncond)

    def scale(self, now: Now) -> float:
        """The same as one number: the largest where frames have their own."""
        own = self.scales(now)
        return self.family.scale(self.pipe, now.denoiser) if isinstance(own, Tensor) else float(own)

    def stock(self, now: Now) -> Tensor:
        """What the pipeline itself would step with."""
        return combine_cfg(now.predictions[COND], now.predictions.get(UNCOND), self.scales(now))

    def guided(self, step: Step, now: Now) -> Tensor:
        """The prediction to step with: the pipeline's own bits where nothing of the sum acts."""
        acting = self.steps[now.number].acting
        if acting.stands_aside:
            return step.model_output
        own = self.scales(now)
        by_frame = self.check.by_frame(own, now.denoiser)
        at = replace(self.steps[now.number].at, x_t=step.sample, memory=self._memory, by_frame=by_frame)
        cfg_scale = own if acting.leaves_cfg else None
        guided = guided_by(acting, now.predictions, at, cfg_scale=cfg_scale, own=step.model_output)
        return guided.to(step.model_output.dtype)  # schedulers choose the sample's dtype by the prediction's

    def checked(self, step: Step, now: Now) -> dict[str, Tensor]:
        """The self-check: CFG rebuilt from the branches must be what the pipeline steps with, or nothing can be put there.

        Asked at every step, for pipelines may change what they do on the way. After the first step it is an error only where
        something was to be put there.

        Returns:
            The predictions, as the scheduler is handed them.
        """
        self.check.check_edited(step, now.number, self.steps[now.number].at)
        if not now.number:
            self._check_first(step, now.predictions)
        form = self.check.see(step, now.number, self.first + now.number, now.predictions, now.denoiser)
        if form is None or not form.guidable:
            self._record_only(now.number, known=form is not None)
            return now.predictions
        if self.family.dynamic_argument:
            checks.check_dynamic(self.sum, self.family, changes=self.scale(now) != self.check.asked)
        if not form.converts:
            return now.predictions
        checks.check_converted(self.rounds is not None, self.pipe)
        return {name: form.converted(p, step.sample) for name, p in now.predictions.items()}

    def said(self, now: Now) -> dict[str, Any]:
        """What a recording says of the pipeline's own CFG, at its first step."""
        by_frame = self.check.by_frame(self.scales(now), now.denoiser)
        return {
            "guidance_scales": None if by_frame is None else by_frame(self.check.asked)[0].flatten().tolist(),
            "guidance_scale": self.check.asked if self.uncond else 1.0,
            "cfg_rebuilt_exactly": bool(self.check.rebuilt),
        }

    def _check_first(self, step: Step, predictions: Mapping[str, Tensor]) -> None:
        self.uncond = checks.check_uncond(self.guidance, self.family, self.uncond, predictions)
        if not all(one.acting.stands_aside for one in self.steps):
            checks.check_eta(self.sum, step.rest.get("eta"))
            checks.check_space(self.sum, step.rest)

    def _record_only(self, number: int, *, known: bool) -> None:
        """The pipeline steps with something else; an error where something was to be put in its place.

        Args:
            known: whether x0 of what it steps with is.
        """
        kind = type(self.pipe).__name__
        problem = (
            f"{f'from step {number} on ' if number else ''}{kind} does not step with u + scale (c - u) of "
            "the predictions that the lab recorded (is another guidance at work inside the call?)"
        )
        if self.guidance != Guidance() and not (number and self.steps[number].acting.stands_aside):
            raise GuidanceError(f"{problem}, so no other guidance can be put in its place. Record only: guidance=None.")
        if self.check.tell_once("recording only"):
            unknown = "" if known else ", and x0 of what it steps with is not known: x0('guided') is NaN there"
            warnings.warn(f"{problem}; recording only{unknown}.", stacklevel=2)
