"""One state of a run, and who hands it out: a run goes down to the last wanted step and no further."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from stg_lab.errors import CallError, RecordingError
from stg_lab.families import Family
from stg_lab.families.noise import NoiseLevel, noise_level
from stg_lab.guidance import COND, UNCOND
from stg_lab.passes import Passes, WeakPasses
from stg_lab.sampling.before_trace import BeforeTrace
from stg_lab.sampling.replayed import Resting
from stg_lab.sampling.trace import Trace
from stg_lab.seams import Asked, Call, Coming, Step
from stg_lab.weak import Pass, Weak

if TYPE_CHECKING:
    from stg_lab.sampling.states import Runs

#: How far x_t of a repeated run may lie from the recorded one, relative to its norm: float16 recordings round to 5e-4, and
#: other machines to less, while another prompt, seed or guidance gives another state altogether.
SAME_STATE = 1e-3


@dataclass(frozen=True)
class State:
    """One state of a run, inside the pipeline's own call.

    Attributes:
        step: of the run, from 0.
        level: its noise level.
        x_t, cond, uncond: `(sample, channel, frame, y, x)`, float32; no `uncond` without CFG.
        at: the pipeline's own call that gave `cond`; weak passes repeat it.
        passes: makes them.
        finish: makes, of a prediction of that call's rows, one laid out as recordings have it; gradients pass.
    """

    step: int
    level: NoiseLevel
    x_t: np.ndarray
    cond: np.ndarray
    uncond: np.ndarray | None
    at: Pass
    passes: WeakPasses
    finish: Callable[[Tensor], Tensor]

    def x0(self, prediction: np.ndarray) -> np.ndarray:
        """The one-step prediction, `(sample, channel, frame, y, x)`; NaN at a noise level that tells nothing of x0."""
        with np.errstate(invalid="ignore"):
            return self.level.one_step(self.x_t, prediction)


def as_array(x: Tensor) -> np.ndarray:
    """A tensor's values as they are now, float32."""
    return x.detach().to("cpu", torch.float32, copy=True).numpy()


def hands_over(family: Family) -> bool:
    """Whether recorded latents are what the family's pipelines have at `scheduler.step`, as they are."""
    return type(family).unpack is Family.unpack and type(family).recorded is Family.recorded


class Done(Exception):
    """Ends the pipeline's call: no state is wanted any more."""


class Visitor(BeforeTrace):
    """Listens at the seams of one run and hands out its states; a trace takes the run down.

    Args:
        runs: whose run it is.
        trace: guides the run, where that is asked for.
    """

    def __init__(
        self,
        runs: Runs,
        trace: Trace,
        wanted: tuple[int, ...],
        models: list[Weak],
        visit: Callable[[State], None],
        passes: Passes,
    ) -> None:
        self.wanted, self._runs = wanted, runs
        self._models, self._visit, self._passes = models, visit, WeakPasses(passes)
        self._hands = runs.recording is not None and hands_over(runs.family)
        # Where x_t is handed over, calls of steps that nobody wants answer what those of the first step did.
        denoisers = runs.family.denoisers(runs.pipe).values() if self._hands else ()
        super().__init__(trace, Resting(denoisers, lambda: self._number == 0))
        self._at: Pass | None = None

    def release(self) -> None:
        """Let go of everything that is kept."""
        self._passes.release()  # first: its eyes on the blocks came last
        self._trace.passes.release()

    @property
    def _idle(self) -> bool:
        return self._hands and self._number > 0 and self._number not in self.wanted

    @property
    def _here(self) -> bool:
        return self._number in self.wanted and not self._trace.now.restart

    # ---- what the seams call ----

    def before_call(self, call: Coming) -> Asked | None:
        trace = self._trace
        asked = trace.before_call(call)
        steps = len(trace.guide.steps)
        if max(self.wanted) >= steps:
            raise CallError(
                f"step {max(self.wanted)} is out of range: this call takes {steps} steps, 0 to {steps - 1}. Type for "
                f"example step={steps // 2}."
            )
        if self._here and COND in trace.family.branches(trace.now.calls, trace.guide.uncond):
            edited = bool(trace.guidance.edits)
            self._passes.begin(call.module, weak=False, edited=edited, memory=trace.passes.memory if edited else None)
            self._passes.expect(trace.pass_at(call), self._models)
        return asked

    def on_call(self, call: Call) -> None:
        self._passes.called()
        trace = self._trace
        branches = trace.family.computed(trace.pipe, trace.now.calls, call.kwargs, call.prediction, trace.guide.uncond)
        if self._here and COND in branches:
            piece = branches.index(COND), len(branches)
            passes = trace.passes
            self._at = replace(
                trace.pass_at(call), prediction=call.prediction, piece=piece, edits=passes.edits, memory=passes.memory
            )
        trace.on_call(call)

    def on_step(self, step: Step) -> Tensor:
        if self._idle:
            return step.model_output
        before = dict(self._trace.now.predictions)
        prediction = self._trace.on_step(step)
        if self._here:
            with self._trace.passes.under_edits():
                self._visit(self._state(step, before))
            self._passes.release()
            if self._number == max(self.wanted):
                raise Done
        return prediction

    def before_step(self, step: Step, prediction: Tensor) -> None:
        self._trace.before_step(step, prediction)

    def after_step(self, step: Step, sample: Tensor) -> Tensor:
        sample = self._trace.after_step(step, sample)
        self._resting.rest(self._idle)
        if self._hands and self._number in self.wanted:
            return torch.from_numpy(self._runs.recorded_x_t(self._number)).to(sample)
        return sample

    def _state(self, step: Step, before: Mapping[str, Tensor]) -> State:
        assert self._at is not None
        at, trace, family = self._at, self._trace, self._trace.family
        predictions, latents = trace.now.predictions, trace.journal.latents
        x_t = as_array(latents(step.sample, predicted=False))
        self._check_state(x_t)

        def finish(prediction: Tensor) -> Tensor:
            there = family.at_step(prediction, trace.pipe, at.kwargs)
            there = family.combined({**before, "": there}, step.model_output, step.sample)[""]
            return family.recorded(there, trace.pipe, at.kwargs, predicted=True)

        uncond = predictions.get(UNCOND)
        return State(
            self._number,
            noise_level(step.scheduler, step.timestep, family.prediction_type),
            x_t,
            as_array(latents(predictions[COND], predicted=True)),
            None if uncond is None else as_array(latents(uncond, predicted=True)),
            at,
            self._passes,
            finish,
        )

    def _check_state(self, x_t: np.ndarray) -> None:
        """A repeated run must come to the recorded x_t."""
        recording = self._runs.recording
        if recording is None:
            return
        recorded = self._runs.recorded_x_t(self._number)
        off = np.inf if recorded.shape != x_t.shape else np.linalg.norm(x_t - recorded) / np.linalg.norm(recorded)
        if not off <= SAME_STATE:
            edited = ""
            if recording.ds.edited.max():
                edited = (
                    " Its latents were changed between steps (by callback_on_step_end?), for which state= is not there."
                )
            raise RecordingError(
                f"x_t at step {self._number} is not the one of {recording.path.name}: off by {off:.2g} of its norm, at "
                f"most {SAME_STATE:g} is allowed. Was it made with another pipeline, scheduler or version? Make the run again: "
                f"lab.rerun(recording, pipe).{edited}"
            )
