"""`Trace`: what listens at the seams of a pipeline call, has it guided and recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from stg_lab.errors import GuidanceError
from stg_lab.families import family_of
from stg_lab.families.noise import noise_level
from stg_lab.guidance import COND, Guidance, Term
from stg_lab.interop import as_guidance
from stg_lab.passes import Passes, WeakPasses
from stg_lab.recording import BackgroundRecorder, Recording
from stg_lab.sampling import checks
from stg_lab.sampling.guide import Guide
from stg_lab.sampling.journal import Journal
from stg_lab.sampling.loop import Stepping
from stg_lab.sampling.provenance import seeds_of
from stg_lab.sampling.step_view import Seen
from stg_lab.sampling.steps import Now
from stg_lab.seams import Asked, Call, Coming, Step, alone
from stg_lab.weak import Pass, Weak


class Trace:
    """What `attach` hands out: listens at the seams, and holds who guides, who keeps the steps, and who makes weak passes.

    Attributes:
        guide: makes, of the predictions of a step, the one to step with.
        journal: keeps the steps.
        passes: makes the weak passes.
        now: the step that the running call is at.
    """

    def __init__(
        self,
        pipe: Any,
        guidance: Guidance | Term | None = None,
        settings: Mapping[str, Any] | None = None,
        passes: Passes | None = None,
        on_step: Callable[[Seen], None] | None = None,
    ) -> None:
        self.pipe, self.family = pipe, family_of(pipe)
        self.guidance = as_guidance(guidance)
        self.guide = Guide(pipe, self.family, self.guidance)
        self.journal = Journal(pipe, self.family, self.guide, settings, on_step)
        self.passes = WeakPasses(passes or Passes())
        self.now = Now()
        self.stepping = Stepping(pipe)
        self._timesteps: Tensor | None = None  # of the running call; a new call brings a new tensor

    @property
    def rebuilt(self) -> bool | None:
        """Whether CFG rebuilt from the recorded branches equals what the pipeline steps with, bit for bit, at every step so far;
        None before the first one."""
        return self.guide.check.rebuilt

    @property
    def recording(self) -> Recording:
        """The recording, whole once the `with` has ended; inside it, the steps so far.

        Raises:
            RecordingError: nothing was recorded: record=False, or the pipeline finished no step.
        """
        return self.journal.reels.recordings()[0]

    @property
    def recordings(self) -> list[Recording]:
        """Where a pipeline samples in several loops within one call, the recording of each; else the one."""
        return self.journal.reels.recordings()

    @property
    def recorder(self) -> BackgroundRecorder | None:
        """Of the running loop."""
        return self.journal.recorder

    @property
    def busy(self) -> bool:
        """Whether a pipeline call is on its way."""
        return self.now.calls > 0 or 0 < self.now.number < len(self.guide.steps)

    # ---- what the seams call ----

    def before_call(self, call: Coming, *, weak: bool = True) -> Asked | None:
        """`weak` says whether weak passes are to follow."""
        if self.pipe.scheduler.timesteps is not self._timesteps or self.now.number >= len(self.guide.steps) > 0:
            self._begin(call)
        if self.guidance.terms or self.journal.wanted:
            self.stepping.calling(call, self.now.number)
        acting = self.guide.steps[self.now.number].acting
        if not acting.passes and not acting.edits:
            return None
        branches, at = self.family.branches(self.now.calls, self.guide.uncond), self.pass_at(call)
        asked = self.passes.edit(at, branches, cast("tuple[Weak, ...]", acting.edits)) if self.passes.edited else None
        if weak:
            self.passes.expect(at, [model for _, model, _ in self.guide.repeating(self.now.number, branches)])
        return asked

    def on_call(self, call: Call, *, weak: bool = True) -> None:
        now, family, pipe = self.now, self.family, self.pipe
        branches = family.computed(pipe, now.calls, call.kwargs, call.prediction, self.guide.uncond)
        pieces = family.at_step(call.prediction, pipe, call.kwargs).chunk(len(branches))
        now.calls, now.denoiser = now.calls + 1, call.denoiser
        now.predictions |= dict(zip(branches, pieces, strict=True))
        self.journal.called(call.kwargs, pieces[0])
        if self.guide.rounds is not None and not now.restart:
            self.guide.rounds.note_call(now.number, call)
        self.passes.called()
        if self.guide.steps[now.number].acting.edits:
            now.looked = self.passes.looked
        for index, model, name in self.guide.repeating(now.number, branches) if weak else ():
            at = replace(self.pass_at(call), prediction=call.prediction, piece=(index, len(branches)))
            now.predictions[name] = family.at_step(self.passes.run(model, at), pipe, call.kwargs)
        self.passes.release()
        self.stepping.called()

    def on_step(self, step: Step) -> Tensor:
        self.stepping.stepping()
        now = self.now
        if COND not in now.predictions:
            raise GuidanceError("the pipeline stepped without calling its denoiser, so there is nothing to guide.")
        now.predictions = self.family.combined(now.predictions, step.model_output, step.sample)
        if not now.restart:  # else it is a step of our own
            if not now.number:
                self.guide.begun(step)
            now.predictions = self.guide.checked(step, now)
            if self.guide.rounds is not None:
                self.guide.rounds.note_step(now.number, step)
        return self.guide.guided(step, now)

    def before_step(self, step: Step, prediction: Tensor) -> None:
        if self.journal.wanted:
            self.journal.keep(self.journal.look(step, self.now, prediction), step, self.now)

    def after_step(self, step: Step, sample: Tensor) -> Tensor:
        number, restart, rounds = self.now.number + 1, self.now.restart, self.guide.rounds
        self.now = Now(number, restart)
        self.stepping.stepped()
        self.journal.show()
        if rounds is not None and not restart and number == rounds.end:
            with alone(self, self.pipe, self.family):
                seeds = seeds_of(self.journal.settings, len(sample)) or range(len(sample))
                sample = rounds.play(sample, seeds, self._again, lambda: self.guide.stock(self.now))
            self.now = Now(number)
        if number == len(self.guide.steps):
            self.journal.finish(sample)
        return sample

    def end(self) -> None:
        """The `with` ends by itself; raises where the pipeline's calls came to nothing."""
        self.stepping.end(self.now.number)
        self.journal.end()

    # ---- its parts ----

    def pass_at(self, call: Coming) -> Pass:
        """A pass that repeats a call of this step."""
        at = self.guide.steps[self.now.number].at
        return Pass(
            self.family, self.pipe, call.denoiser, call.module, call.args, call.kwargs, torch.empty(0), at.step, at.steps, moment=at
        )  # fmt: skip

    def _again(self, step: int, restart: int) -> None:
        """The next calls are step `step` again, in round `restart`."""
        self.now = Now(step, restart)

    def _begin(self, call: Coming) -> None:
        """A new pipeline call, or a new loop of it: tell everything that is wrong before the first weak pass is paid for."""
        self.journal.begin()
        scheduler, guide = self.pipe.scheduler, self.guide
        self._timesteps, self.now = scheduler.timesteps, Now()
        self.stepping.stepped()
        recorded = self.recorder is not None
        guide.begin(call, recorded=recorded)
        self.passes.begin(call.module, weak=bool(self.guidance.weak), edited=bool(self.guidance.edits))
        if recorded or guide.sum.space == "x0":
            noise_level(scheduler, self._timesteps[guide.first], self.family.prediction_type)
        if self.journal.wanted or guide.sum.space == "x0":
            checks.tell_limit(scheduler)
