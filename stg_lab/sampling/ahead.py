"""What a call will do, told from its arguments before it is made: its steps, the branches of each, and the size of the latents."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from stg_lab.errors import GuidanceError
from stg_lab.families import Family
from stg_lab.guidance import COND, GUIDED, UNCOND, Guidance
from stg_lab.recording.writer import known_dtype, recording_bytes
from stg_lab.sampling.advice import to_uncond
from stg_lab.sampling.calls import shape_ahead, stock_arguments
from stg_lab.sampling.checks import check_weak
from stg_lab.sampling.claim import claimed
from stg_lab.sampling.restart import Rounds
from stg_lab.sampling.steps import RunStep, run_steps
from stg_lab.weak import Weak


@dataclass(frozen=True)
class Ahead:
    """A run that is still to be made.

    Attributes:
        shape: of the recorded latents, (sample, channel, frame, y, x).
        samples: how many it makes.
        steps: of the pipeline's own way down.
        rounds: of Restart, where the sum has it.
        calls: the pipeline's denoiser calls of a step, in order, each as the branches in its batch.
        weak: names of the weak branches.
    """

    shape: tuple[int, ...]
    samples: int
    steps: tuple[RunStep, ...]
    rounds: Rounds | None
    calls: tuple[tuple[str, ...], ...]
    weak: tuple[str, ...]

    @property
    def branches(self) -> tuple[str, ...]:
        """What is recorded of a step, in order."""
        own = [name for branches in self.calls for name in branches]
        return (*sorted(own, key=[COND, UNCOND, *own].index), *self.weak, GUIDED)

    @property
    def running_order(self) -> Iterator[tuple[int, RunStep]]:
        """All steps with the number of their round of Restart; 0 is the pipeline's own way down."""
        for number, step in enumerate(self.steps, 1):
            yield 0, step
            if self.rounds is not None and number == self.rounds.end:
                for restart in range(1, self.rounds.restart.times + 1):
                    yield from ((restart, again) for again in self.steps[self.rounds.first : self.rounds.end])

    @property
    def watched(self) -> int:
        """Bytes that a step's looks add to a recording at most."""
        edits = cast("list[Weak]", self.steps[0].acting.guidance.edits)
        return sum(edit.most_bytes(self.shape) for edit in edits)

    def recording_bytes(self, dtype: str) -> int:
        """Size of the recording's arrays, at most."""
        return recording_bytes(self.rows, len(self.branches), self.shape, known_dtype(dtype), self.watched)

    @property
    def rows(self) -> int:
        """How many steps a recording will have."""
        return len(self.steps) + (0 if self.rounds is None else self.rounds.extra)

    @classmethod
    def of(
        cls,
        pipe: Any,
        family: Family,
        guidance: Guidance | None,
        arguments: Mapping[str, Any],
        *,
        recorded: bool,
    ) -> Ahead | None:
        """A call whose arguments are filled in; None where the size of its latents turns out on the way.

        Args:
            recorded: whether it is to be, for which noise levels must be known.

        Raises:
            GuidanceError, UnsupportedPipelineError: what the run would raise at its first step.
        """
        total = guidance or Guidance()
        check_weak(total, family, family.denoisers(pipe))
        call = stock_arguments(pipe) | dict(arguments)
        shape = shape_ahead(pipe, family, call)
        if shape is None:
            return None
        calls = tuple(family.step_calls(pipe, call))
        if total.needs_uncond and not any(UNCOND in branches for branches in calls):
            raise GuidanceError(
                f"{total} needs the unconditional prediction, which the pipeline does not compute in this call. "
                f"{to_uncond(total, pipe, family, call)}"
            )
        with claimed(pipe):  # another thread may be stepping it
            scheduler = copy.deepcopy(pipe.scheduler)
        family.set_timesteps(pipe, scheduler, call, shape)
        total = total.resolved(len(scheduler.timesteps))
        rounds = None if total.restarts is None else Rounds.plan(total.restarts, family, scheduler)
        steps = run_steps(total, family, scheduler, needed=recorded or total.space == "x0")
        return cls(shape, family.samples(call), steps, rounds, calls, tuple(total.weak))
