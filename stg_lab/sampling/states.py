"""States of runs: x_t at chosen steps, with all that is needed to predict from it again.

A run goes down to the last wanted step and no further. From a recording it does not even go down: where the scheduler's
latents are laid out as recordings have them, x_t is handed over, and the denoiser calls before it answer without computing.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stg_lab.errors import CallError, RecordingError
from stg_lab.families import Family, family_of
from stg_lab.families.noise import NoiseLevel, noise_level
from stg_lab.given import Refused, Several, Whole, shown
from stg_lab.guidance import COND, UNCOND, Guidance, Term
from stg_lab.interop import as_guidance
from stg_lab.passes import Passes, WeakPasses
from stg_lab.recording import Recording, open_recording
from stg_lab.sampling.calls import captions, pipeline_arguments, stock_arguments
from stg_lab.sampling.checks import check_weak
from stg_lab.sampling.claim import claimed
from stg_lab.sampling.resting import Resting
from stg_lab.sampling.sample import lost_arguments, recorded_call
from stg_lab.sampling.trace import Trace
from stg_lab.sampling.values import check_names
from stg_lab.seams import Call, Coming, Step, alone, tapped
from stg_lab.undone import undone
from stg_lab.weak import Pass, Weak

#: How far x_t of a repeated run may lie from the recorded one, relative to its norm: float16 recordings round to 5e-4, and
#: other machines to less, while another prompt, seed or guidance gives another state altogether.
SAME_STATE = 1e-3
#: The step that is looked at where none is named.
USUAL = 10


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


@dataclass(frozen=True)
class Runs:
    """The runs whose states are wanted, one for each seed: checked, and not started yet.

    Attributes:
        steps: the wanted ones, in rising order.
        seeds: of the runs; sample i of the batch has its own generator, seeded `seed + i`.
        call: what the user gave for the pipeline.
        guidance: under which the runs go down; None for the pipeline's own, or where they do not.
        recording: from which x_t is taken.
    """

    pipe: Any
    family: Family
    steps: tuple[int, ...]
    seeds: tuple[int, ...]
    call: dict[str, Any]
    guidance: Guidance | None = None
    recording: Recording | None = None

    @classmethod
    def plan(
        cls,
        pipe: Any,
        step: int | Sequence[int] | None,
        seed: int | Sequence[int] | None,
        guidance: Guidance | Term | Any | None,
        state: Recording | str | Path | None,
        call: Mapping[str, Any],
        *,
        of: Callable[..., Any] | None = None,
    ) -> Runs:
        """Check what the user asked for, before any compute is spent; `of` is the function of the lab that was called.

        Raises:
            CallError: a step out of range, arguments that the pipeline does not take, or that a `state` brings itself.
            GuidanceError, RecordingError, UnsupportedPipelineError: see their messages.
        """
        family, given = family_of(pipe), dict(call)
        if "generator" in given:
            raise CallError("generator= is not there for sweeps, which may be resumed: say seed=, an int or a list.")
        check_names(pipe, given, of)
        if state is None:
            seeds = _whole("seed", 0 if seed is None else seed)
            wanted = None if guidance is None else as_guidance(guidance, pipe, given)
            runs = cls(pipe, family, (), seeds, given, wanted)
        else:
            recording = state if isinstance(state, Recording) else open_recording(state)
            said = [name for name in given if name not in lost_arguments(recording)]
            said += [name for name, v in (("seed", seed), ("guidance", guidance)) if v is not None]
            if said:
                raise CallError(f"state= brings its own call, so leave {', '.join(said)} out, or state=.")
            own, wanted, number = recorded_call(recording, given)
            wanted = None if hands_over(family) else wanted
            runs = cls(pipe, family, (), (number,), own, wanted, recording)
        if runs.guidance is not None:
            check_weak(runs.guidance, family, family.denoisers(pipe))
        return replace(runs, steps=runs._steps(None if step is None else _whole("step", step)))

    def arguments(self, seed: int) -> dict[str, Any]:
        """Of the pipeline's call of one run."""
        return pipeline_arguments(self.pipe, self.family, self.guidance, seed, self.call)

    @property
    def captions(self) -> list[str]:
        """The prompt of each sample of all runs, run after run."""
        return captions(self.family, self.arguments(0)) * len(self.seeds)

    @property
    def sample_seeds(self) -> list[int]:
        """The seed of each sample of all runs."""
        return [seed + i for seed in self.seeds for i in range(self.batch)]

    @property
    def wants_uncond(self) -> bool:
        """Whether the runs will compute the unconditional prediction."""
        return self.family.wants_uncond(self.pipe, stock_arguments(self.pipe) | self.arguments(0))

    @property
    def batch(self) -> int:
        """How many samples a run has."""
        return self.family.samples(self.arguments(0))

    def visit(
        self,
        seed: int,
        steps: Iterable[int],
        models: Iterable[Weak],
        visit: Callable[[State], None],
        passes: Passes | None = None,
    ) -> None:
        """Make a run, as far as it is needed, and hand out its states at these steps.

        Args:
            models: the weak models that will be run there; what their passes can begin with is kept.
            visit: called inside the pipeline's own call, once for each step.

        Raises:
            CallError: another thread is sampling with this pipeline, or it ended before the last of them.
            RecordingError: the run did not come to the recorded x_t.
        """
        how = passes or Passes()
        trace = Trace(self.pipe, self.guidance, settings={"seed": seed}, passes=how)
        states = _Visitor(self, trace, tuple(steps), list(models), visit, how)
        try:
            with (
                claimed(self.pipe),
                undone(states.release),
                alone(states, self.pipe, self.family),  # whoever else listens to this pipeline did not ask for this run
                tapped(self.pipe, self.family, states),
                states.handed_over(),
            ):
                self.pipe(**self.arguments(seed))
        except _Done:
            if hasattr(self.pipe, "maybe_free_model_hooks"):
                self.pipe.maybe_free_model_hooks()  # what a pipeline does at its end: offloaded models go back
        else:
            raise CallError(f"the pipeline ended before step {max(states.wanted)}, which was asked for.")

    def recorded_x_t(self, step: int) -> np.ndarray:
        """x_t of the recording before a step, `(sample, channel, frame, y, x)`, float32."""
        assert self.recording is not None
        ds = self.recording.ds
        row = np.flatnonzero((ds.run_step.values == step) & (ds.restart.values == 0))
        return ds.x_t.isel(step=int(row[0])).values.astype(np.float32)

    def _steps(self, steps: tuple[int, ...] | None) -> tuple[int, ...]:
        """The steps that were asked for, if they are there; None for `USUAL`, or the middle one of a shorter run."""
        if self.recording is not None:
            ds = self.recording.ds
            there = sorted({int(s) for s, r in zip(ds.run_step.values, ds.restart.values, strict=True) if not r})
            what = f"the recording {self.recording.path.name} has"
        else:
            there = list(range(self._count()))
            what = "the run has"
        if steps is None:
            return (USUAL if USUAL in there else there[len(there) // 2],)
        outside = [step for step in steps if step not in there]
        if outside:
            raise CallError(
                f"step {', '.join(map(str, outside))} is out of range: {what} steps {there[0]} to {there[-1]}. Type for "
                f"example step={there[len(there) // 2]}."
            )
        return steps

    def _count(self) -> int:
        """How many steps the scheduler will make, where it can be told ahead of the call."""
        call = stock_arguments(self.pipe) | self.arguments(0)
        shape = self.family.latent_shape(self.pipe, call)
        if shape is None:
            return int(call["num_inference_steps"])
        with claimed(self.pipe):
            scheduler = copy.deepcopy(self.pipe.scheduler)
        self.family.set_timesteps(self.pipe, scheduler, call, shape)
        return len(scheduler.timesteps)


def as_array(x: Tensor) -> np.ndarray:
    """A tensor's values as they are now, float32."""
    return x.detach().to("cpu", torch.float32, copy=True).numpy()


def hands_over(family: Family) -> bool:
    """Whether recorded latents are what the family's pipelines have at `scheduler.step`, as they are."""
    return type(family).unpack is Family.unpack and type(family).recorded is Family.recorded


class _Done(Exception):
    """Ends the pipeline's call: no state is wanted any more."""


class _Visitor:
    """Listens at the seams of one run and hands out its states; a trace takes the run down.

    Args:
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
        self.wanted, self._runs, self._trace = wanted, runs, trace
        self._models, self._visit, self._passes = models, visit, WeakPasses(passes)
        self._hands = runs.recording is not None and hands_over(runs.family)
        denoisers = runs.family.denoisers(runs.pipe).values() if self._hands else ()
        self._resting = Resting(denoisers, lambda: self._number == 0)
        self._at: Pass | None = None

    def release(self) -> None:
        """Let go of everything that is kept."""
        self._passes.release()  # first: its eyes on the blocks came last
        self._trace.passes.release()

    def handed_over(self) -> contextlib.AbstractContextManager[None]:
        """Inside the `with`, denoiser calls of steps that nobody wants answer what the first step's answered, if x_t will be
        handed over after them."""
        return self._resting.listening()

    @property
    def busy(self) -> bool:
        """Whether a pipeline call is on its way."""
        return self._trace.busy

    @property
    def _number(self) -> int:
        return self._trace.now.number

    @property
    def _idle(self) -> bool:
        return self._hands and self._number > 0 and self._number not in self.wanted

    @property
    def _here(self) -> bool:
        return self._number in self.wanted and not self._trace.now.restart

    # ---- what the seams call ----

    def before_call(self, call: Coming) -> None:
        trace = self._trace
        trace.before_call(call)
        steps = len(trace.guide.steps)
        if max(self.wanted) >= steps:
            raise CallError(
                f"step {max(self.wanted)} is out of range: this call takes {steps} steps, 0 to {steps - 1}. Type for "
                f"example step={steps // 2}."
            )
        if self._here and COND in trace.family.branches(trace.now.calls, trace.guide.uncond):
            self._passes.begin(call.module, weak=False)
            self._passes.expect(trace.pass_at(call), self._models)

    def on_call(self, call: Call) -> None:
        self._passes.stop_keeping()
        trace = self._trace
        branches = trace.family.computed(trace.pipe, trace.now.calls, call.kwargs, call.prediction, trace.guide.uncond)
        if self._here and COND in branches:
            piece = branches.index(COND), len(branches)
            self._at = replace(trace.pass_at(call), prediction=call.prediction, piece=piece)
        trace.on_call(call)

    def on_step(self, step: Step) -> Tensor:
        if self._idle:
            return step.model_output
        before = dict(self._trace.now.predictions)
        prediction = self._trace.on_step(step)
        if self._here:
            self._visit(self._state(step, before))
            self._passes.release()
            if self._number == max(self.wanted):
                raise _Done
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


def _whole(name: str, given: int | Sequence[int]) -> tuple[int, ...]:
    """One whole number or several, in rising order where they are steps."""
    try:
        read = Several(Whole()).read(given)
    except Refused:
        raise CallError(
            f"{name} is a whole number from 0, or a list of some, got {shown(given)}. Type for example {name}=10."
        ) from None
    values: list[int] = read if isinstance(read, list) else [read]
    if len(set(values)) < len(values):
        raise CallError(f"{name} {shown(given)} names one twice.")
    return tuple(sorted(values) if name == "step" else values)
