"""Restart carried out: part of a run sampled again, from fresh noise, through the pipeline's own calls (paper, Alg. 3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from stg_lab.families import Family
from stg_lab.families.noise import level_at, rewind
from stg_lab.guidance import Restart
from stg_lab.seams import Call, Coming, Step
from stg_lab.x0 import noise_up

#: Added to every seed, so that restart noise is not the noise that the run began with ("restart" in ASCII).
STREAM = 0x72657374617274


@dataclass
class Rounds:
    """Keeps the pipeline's calls of the steps between t_max and t_min, and makes them again from other latents."""

    restart: Restart
    family: Family
    first: int
    end: int
    calls: dict[int, list[Coming]] = field(default_factory=dict)
    steps: dict[int, Step] = field(default_factory=dict)

    @classmethod
    def plan(cls, restart: Restart, family: Family, scheduler: Any) -> Rounds:
        """Find the steps to do again in the run that the scheduler is set to.

        Raises:
            GuidanceError: no step lies in the interval.
            UnsupportedPipelineError: the scheduler cannot be rewound, or its noise levels are not known.
        """
        # Before the first step this changes nothing, but it may refuse.
        rewind(scheduler, getattr(scheduler, "step_index", None))
        times = [level_at(scheduler, k).share for k in range(len(scheduler.timesteps))]
        return cls(restart, family, *restart.interval(times))

    @property
    def extra(self) -> int:
        """How many steps the rounds add to the run."""
        return self.restart.times * (self.end - self.first)

    def note_call(self, step: int, call: Call) -> None:
        """Keep a call of the pipeline if it is one to make again; not what came of it."""
        if self.first <= step < self.end:
            self.calls.setdefault(step, []).append(Coming(call.denoiser, call.module, call.args, call.kwargs))

    def note_step(self, step: int, made: Step) -> None:
        """Keep a scheduler step if it is one to make again; of its prediction, the dtype."""
        for number, call in enumerate(self.calls.get(step, ())):
            args, kwargs = self.family.with_latents(call.args, call.kwargs, made.sample, made.sample)  # refuses in time
            self.calls[step][number] = replace(
                call, args=args, kwargs=kwargs
            )  # some pipelines write into their latents
        if self.first <= step < self.end:
            empty = made.model_output.new_empty(0)
            self.steps[step] = replace(made, sample=made.sample.clone(), model_output=empty, came_down=None)

    def play(
        self,
        sample: Tensor,
        seeds: Sequence[int],
        begin: Callable[[int, int], None],
        stock: Callable[[], Tensor],
    ) -> Tensor:
        """All rounds, from the sample that has come down to t_min; returns the last round's.

        Args:
            seeds: of the samples, so that what noise one gets does not depend on its place in the batch.
            begin: told before each step, with its number and that of the round.
            stock: what the pipeline itself would step with, once the step's calls have been made.
        """
        scheduler = self.steps[self.first].scheduler
        top, bottom = (level_at(scheduler, k).process for k in (self.first, self.end))
        signal, noise = noise_up(bottom, top)
        generators = [torch.Generator().manual_seed(STREAM + self.restart.seed + s) for s in seeds]
        for number in range(1, self.restart.times + 1):
            drawn = torch.stack([torch.randn(sample.shape[1:], generator=g) for g in generators])
            sample = (signal * sample.float() + noise * drawn.to(sample.device)).to(sample.dtype)
            rewind(scheduler, self.first)
            for step in range(self.first, self.end):
                begin(step, number)
                sample = self._again(step, sample, stock)
        return sample

    def _again(self, step: int, sample: Tensor, stock: Callable[[], Tensor]) -> Tensor:
        made = self.steps[step]
        sample = sample.to(made.sample.dtype)
        for call in self.calls[step]:
            args, kwargs = self.family.with_latents(call.args, call.kwargs, made.sample, sample)
            call.module(*args, **kwargs)  # through the hooks, as the pipeline's own call
        prediction = stock().to(made.model_output.dtype)
        result = made.scheduler.step(prediction, made.timestep, sample, **made.rest)
        return result[0] if isinstance(result, tuple) else result.prev_sample
