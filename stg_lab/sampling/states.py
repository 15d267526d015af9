"""States of runs: x_t at chosen steps, with all that is needed to predict from it again.

A run goes down to the last wanted step and no further. From a recording it does not even go down: where the scheduler's
latents are laid out as recordings have them, x_t is handed over, and the denoiser calls before it answer without computing.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from stg_lab.errors import CallError
from stg_lab.families import Family, family_of
from stg_lab.given import Refused, Several, Whole, shown
from stg_lab.guidance import Guidance, Term
from stg_lab.interop import as_guidance
from stg_lab.passes import Passes
from stg_lab.recording import Recording, open_recording
from stg_lab.sampling.calls import captions, pipeline_arguments, stock_arguments
from stg_lab.sampling.checks import check_weak
from stg_lab.sampling.claim import claimed
from stg_lab.sampling.sample import lost_arguments, recorded_call
from stg_lab.sampling.trace import Trace
from stg_lab.sampling.values import check_names
from stg_lab.sampling.visitor import Done, State, Visitor, hands_over
from stg_lab.seams import alone, tapped
from stg_lab.undone import undone
from stg_lab.weak import Weak

#: The step that is looked at where none is named.
USUAL = 10


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
            wanted = None if hands_over(family) and not (wanted and wanted.edits) else wanted
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
        states = Visitor(self, trace, tuple(steps), list(models), visit, how)
        try:
            with (
                claimed(self.pipe),
                undone(states.release),
                alone(states, self.pipe, self.family),  # whoever else listens to this pipeline did not ask for this run
                tapped(self.pipe, self.family, states),
                states.listening(),
            ):
                self.pipe(**self.arguments(seed))
        except Done:
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
