"""`Trace`: what listens at the seams of a pipeline call, guides it and records it."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from stg_lab.errors import GuidanceError
from stg_lab.families import family_of
from stg_lab.families.noise import NoiseLevel, along_step, noise_level
from stg_lab.guidance import CFG, COND, GUIDED, UNCOND, Guidance, Moment, Term, combine, combine_cfg
from stg_lab.interop import as_guidance
from stg_lab.recording import BackgroundRecorder, Recording
from stg_lab.reuse import Passes
from stg_lab.sampling import checks
from stg_lab.sampling.form import changed
from stg_lab.sampling.host import host_copy
from stg_lab.sampling.loop import Bar, Stepping
from stg_lab.sampling.main_pass import MainPass, watched_words
from stg_lab.sampling.passes import WeakPasses, repeats
from stg_lab.sampling.reels import Reels
from stg_lab.sampling.restart import Rounds
from stg_lab.sampling.seen import Seen
from stg_lab.sampling.selfcheck import SelfCheck
from stg_lab.sampling.settings import pipeline_settings, seeds_of
from stg_lab.sampling.span import begun, check_restart, placed, span
from stg_lab.seams import Call, Coming, Step, alone
from stg_lab.weak import Pass, Weak


class Trace:
    """What `attach` hands out: listens at the seams, guides and records. Made by `attach` and `sample`."""

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
        self.reels, self.settings = Reels(), dict(settings or {})
        self._check = SelfCheck(pipe, self.family)
        self._timesteps: Tensor | None = None  # of the running call; a new call brings a new tensor
        #: The call's first step in the scheduler's run, and how many it takes from there.
        self._offset, self._steps = 0, 0
        self._sum = self.guidance  # its schedules as numbers, once the number of steps is known
        self._step, self._calls, self._component = 0, 0, ""
        self._stepping = Stepping(pipe)
        self._predictions: dict[str, Tensor] = {}
        self._given: Mapping[str, Any] = {}  # keyword arguments of the last denoiser call
        self._uncond = False  # whether the run computes the unconditional prediction
        self._memory: dict[Any, Any] = {}
        self._weak, self._main = WeakPasses(passes or Passes()), MainPass()
        self._rounds: Rounds | None = None
        self._round = 0  # of Restart; 0 is the pipeline's own way down
        self._on_step = on_step
        self._seen: Seen | None = None  # the step that is on its way, for whoever looks on
        self._along: Tensor | None = None  # what this step's predictions are multiplied with in recordings
        self._final: Tensor | None = None  # what the last step gave, until the pipeline is done with it
        self._bar = Bar(pipe, self._step_over)

    @property
    def rebuilt(self) -> bool | None:
        """Whether CFG rebuilt from the recorded branches equals what the pipeline steps with, bit for bit, at every step so far;
        None before the first one."""
        return self._check.rebuilt

    @property
    def recording(self) -> Recording:
        """The recording, whole once the `with` has ended; inside it, the steps so far.

        Raises:
            RecordingError: nothing was recorded: record=False, or the pipeline finished no step.
        """
        return self.reels.recordings()[0]

    @property
    def recordings(self) -> list[Recording]:
        """Where a pipeline samples in several loops within one call, the recording of each; else the one."""
        return self.reels.recordings()

    @property
    def recorder(self) -> BackgroundRecorder | None:
        """Of the running loop."""
        return self.reels.current

    @property
    def busy(self) -> bool:
        """Whether a pipeline call is on its way."""
        return self._calls > 0 or 0 < self._step < self._steps

    # ---- what the seams call ----

    def before_call(self, call: Coming) -> None:
        if self.pipe.scheduler.timesteps is not self._timesteps or self._step >= self._steps > 0:
            self._begin(call)
        if self.guidance.terms or self.recorder is not None or self._on_step is not None:
            self._stepping.calling(call, self._step)
        if not self._sum.weak and not self._sum.edits:
            return
        expected = self.family.branches(self._calls, self._uncond)
        self._main.begin(replace(self._pass(call), memory=self._memory), expected, self._sum.editing(self._moment()))
        self._weak.expect(self._pass(call), [weak for _, names in self._repeating(expected) for weak in names])

    def on_call(self, call: Call) -> None:
        self._main.check()
        branches = self.family.computed(self.pipe, self._calls, call.kwargs, call.prediction, self._uncond)
        pieces = self.family.at_step(call.prediction, self.pipe, call.kwargs).chunk(len(branches))
        if self.recorder is not None and not self.recorder.started:
            self._check_space(pieces[0], call)
        self._calls += 1
        self._predictions |= dict(zip(branches, pieces, strict=True))
        self._given = call.kwargs
        self._component = call.denoiser
        if self._rounds is not None and not self._round:
            self._rounds.note_call(self._step, call)
        repeating = self._repeating(branches)
        for under in (True, False):  # the edits of the main pass, of which passes that are to be without them come last
            for index, names in repeating:
                at = replace(
                    self._pass(call),
                    prediction=call.prediction,
                    piece=(index, len(branches)),
                    edited=self._main.editing,
                )
                for weak, prediction in self._weak.run([w for w in names if w.under_edits == under], at):
                    self._predictions[names[weak]] = self.family.at_step(prediction, self.pipe, call.kwargs)
            self._main.end()
        self._weak.release()
        self._stepping.called()

    def on_step(self, step: Step) -> Tensor:
        self._stepping.stepping()
        if COND not in self._predictions:
            raise GuidanceError("the pipeline stepped without calling its denoiser, so there is nothing to guide.")
        self._predictions = self.family.combined(self._predictions, step.model_output, step.sample)
        if self._step == 0:
            self._offset, self._steps = begun(self.guidance, self.pipe, step.timestep, (self._offset, self._steps))
        if not self._round:  # else it is a step of our own
            self._check.check_edited(step, self._step, self._moment())
            self._check_rebuilt(step)
        if self._rounds is not None and not self._round:
            self._rounds.note_step(self._step, step)
        return self._guide(step)

    def before_step(self, step: Step, prediction: Tensor) -> None:
        if self.recorder is None and self._on_step is None:
            return
        level = noise_level(step.scheduler, step.timestep, self.family.prediction_type)
        self._along = along_step(step.rest, step.scheduler, level.sigma)
        seen = self._look(level, step.sample, prediction)
        if self.recorder is not None:
            self._record(seen, step.sample)
        self._seen = seen if self._on_step is not None else None

    def after_step(self, step: Step, sample: Tensor) -> Tensor:
        self._step, self._calls, self._predictions = self._step + 1, 0, {}
        self._stepping.stepped()
        self._show()
        if self._rounds is not None and not self._round and self._step == self._rounds.end:
            with alone(self, self.pipe, self.family):
                sample = self._rounds.play(sample, self, seeds_of(self.settings, len(sample)) or range(len(sample)))
            self._round = 0
        if self._step == self._steps and self.recorder is not None:
            self.recorder.finish(self._to_host(sample, predicted=False)())
            self._final = sample.clone()  # callbacks may write into it
        return sample

    def end(self) -> None:
        """The `with` ends by itself; raises where the pipeline's calls came to nothing."""
        self._stepping.end(self._step)
        self._given, self._final = {}, None

    # ---- what the rounds of Restart ask for ----

    def begin_extra(self, step: int, restart: int) -> None:
        """The next calls are step `step` again, in round `restart`."""
        self._step, self._round = step, restart

    def stock_prediction(self) -> Tensor:
        """What the pipeline itself would step with, from the predictions of the step."""
        return combine_cfg(self._predictions[COND], self._predictions.get(UNCOND), self._scales())

    def around(self) -> contextlib.AbstractContextManager[Any]:
        """What must be entered around the pipeline's call, beside the seams."""
        return contextlib.nullcontext()

    def _repeating(self, branches: tuple[str, ...]) -> list[tuple[int, dict[Weak, str]]]:
        """For each of the branches that a call computes, its place in the batch and the weak models that repeat it now, each
        with its name."""
        needed = cast("dict[str, Weak]", self._sum.needed(self._moment()))
        return [
            (index, {weak: name for name, weak in needed.items() if repeats(weak) == branch})
            for index, branch in enumerate(branches)
        ]

    def _pass(self, call: Coming) -> Pass:
        return Pass(
            self.family, self.pipe, call.denoiser, call.module, call.args, call.kwargs, torch.empty(0), self._step, self._steps
        )  # fmt: skip

    @property
    def _rows(self) -> int:
        """Steps of the recording: the run's, and those of the rounds of Restart."""
        return self._steps + (0 if self._rounds is None else self._rounds.extra)

    def _begin(self, call: Coming) -> None:
        """A new pipeline call, or a new loop of it: tell everything that is wrong before the first weak pass is paid for."""
        self.reels.turn_over(self.pipe)
        scheduler = self.pipe.scheduler
        self._timesteps = scheduler.timesteps
        self._offset, self._steps = span(self.pipe)
        self._step, self._calls, self._predictions, self._memory, self._round = 0, 0, {}, {}, 0
        self._stepping.stepped()
        if self.recorder is not None:
            self._bar.watch()
        self._uncond = self.family.has_uncond(self.pipe)
        self._check.begin(call.denoiser)
        checks.check_weak(self.guidance, self.family, {call.denoiser: call.module})
        self._weak.begin(call.module, bool(self.guidance.weak))
        checks.check_scales(self.guidance, self.pipe, self.family, call.denoiser, self._uncond)
        self._sum = self.guidance.resolved(self._steps)
        restart = self.guidance.restarts
        check_restart(self.guidance, self.pipe, self._steps)
        self._rounds = None if restart is None else Rounds.plan(restart, self.family, scheduler)
        for step in range(self._steps):  # a window in sigma, or CFG++, may find that the scheduler does not serve
            self._sum.needed(self._moment(step=step))
        if self.recorder is not None or self._sum.space == "x0":
            noise_level(scheduler, self._timesteps[self._offset], self.family.prediction_type)
        if self.recorder is not None or self._on_step is not None or self._sum.space == "x0":
            checks.tell_limit(scheduler)

    def _check_space(self, prediction: Tensor, call: Call) -> None:
        """Whether the disk will hold the run: asked as soon as the size is known, before the first weak pass."""
        assert self.recorder is not None
        shape = self.family.recorded(prediction.detach(), self.pipe, call.kwargs, predicted=True).shape
        branches = 1 + self._uncond + len(self._sum.weak) + 1
        self.recorder.check_space(self._rows, branches, tuple(shape))

    def _moment(self, sample: Tensor | None = None, step: int | None = None) -> Moment:
        """Where in the run a step is, by default the current one, as far as its scheduler tells."""
        step = self._step if step is None else step
        by_frame = self._check.by_frame(self._scales(), self._component)
        at = Moment(step, self._steps, x_t=sample, memory=self._memory, by_frame=by_frame)
        needed = self._sum.space == "x0" or self.recorder is not None
        return placed(at, self.pipe, self.family, self._offset, needed=needed)

    def _scales(self) -> Any:
        """The CFG scale that the pipeline works with at this step."""
        return self._check.scales(self._step, self._predictions, self._component, self._uncond)

    def _guide(self, step: Step) -> Tensor:
        g, at = self._sum, self._moment(step.sample)
        if self._stands_aside(at):
            return step.model_output  # the pipeline's own bits
        checks.check_eta(g, step.rest.get("eta"))
        checks.check_space(g, step.rest)
        own = self._scales() if self._own_cfg(at) else None
        guided = combine(g, self._predictions, at, cfg_scale=own, own=step.model_output)
        return guided.to(step.model_output.dtype)  # schedulers choose the sample's dtype by the prediction's

    def _own_cfg(self, at: Moment) -> bool:
        """Whether the pipeline's own scale is in force: where CFG acts in full. Wan 2.2 may have another for its second
        transformer."""
        g = self._sum
        return not g.has_cfg or (g.plain_cfg and g.cfg_scale(at) == g.cfg_scale())

    def _stands_aside(self, at: Moment) -> bool:
        """Whether nothing of ours acts at a step."""
        g = self._sum
        acts = any(t.active(at) for t in g.terms if not (isinstance(t, CFG) and t.plain))
        return not acts and not any(t.rules for t in g.terms) and not g.phi and self._own_cfg(at)

    def _check_rebuilt(self, step: Step) -> None:
        """The self-check: CFG rebuilt from the branches must be what the pipeline steps with, or nothing can be put there.

        Asked at every step, for pipelines may change what they do on the way. After the first step it is an error only where
        something was to be put there.
        """
        first, told = self._step == 0, self.rebuilt is False
        if first:
            self._uncond = checks.check_uncond(self.guidance, self.family, self._uncond, self._predictions)
        form = self._check.see(step, self._step, self._offset + self._step, self._predictions, self._component)
        if form is not None and form.converts:
            checks.check_converted(self._rounds is not None, self.pipe)
            self._predictions = {name: form.converted(p, step.sample) for name, p in self._predictions.items()}
        if form is not None and form.guidable:
            checks.check_dynamic(self._sum, self.family, changes=self._own_scale() != self._check.asked)
            return
        problem = (
            f"{'' if first else f'from step {self._step} on '}{type(self.pipe).__name__} does not step with u + scale (c - u) of "
            "the predictions that the lab recorded (is another guidance at work inside the call?)"
        )
        if self.guidance != Guidance() and (first or not self._stands_aside(self._moment(step.sample))):
            raise GuidanceError(f"{problem}, so no other guidance can be put in its place. Record only: guidance=None.")
        if not told:
            unknown = (
                "" if form is not None else ", and x0 of what it steps with is not known: x0('guided') is NaN there"
            )
            warnings.warn(f"{problem}; recording only{unknown}.", stacklevel=2)

    def _look(self, level: NoiseLevel, sample: Tensor, guided: Tensor) -> Seen:
        """What is recorded of the step that is about to be taken."""
        along = 1 if self._along is None else self._along
        arrays = {name: self._to_host(along * p) for name, p in {**self._predictions, GUIDED: guided}.items()}
        unknown = () if self._knows_x0 else (GUIDED,)
        return Seen(
            self._step, self._steps, self._round, level, self._to_host(sample, predicted=False), arrays, unknown
        )

    @property
    def _knows_x0(self) -> bool:
        """Whether x0 follows from what is stepped with."""
        return self._round > 0 or self._check.knows_x0(self._step)

    def _show(self) -> None:
        """Tell whoever looks on that a step is done; what they raise ends the call, and the whole steps are kept."""
        seen, self._seen = self._seen, None
        if seen is not None and self._on_step is not None:
            self._on_step(seen)

    def _record(self, seen: Seen, sample: Tensor) -> None:
        assert self.recorder is not None
        level = seen.level
        if not self.recorder.started:
            self._start_recording(sample)
        coordinates = level.coordinates | {
            "run_step": self._step,
            "restart": self._round,
            "guidance_scale": self._own_scale(),
            "edited": float(self._check.edited and not self._round),
            "x0_guided": float(self._knows_x0),
        }
        self.recorder.write(coordinates, seen.x_t, seen.predictions, self._main.arrays)

    def _own_scale(self) -> float:
        """The pipeline's own CFG scale at this step, the largest where frames have their own."""
        own = self._scales()
        return self.family.scale(self.pipe, self._component) if isinstance(own, Tensor) else float(own)

    def _start_recording(self, sample: Tensor) -> None:
        assert self.recorder is not None
        shape = tuple(self._recorded(sample, predicted=False).shape)
        by_frame = self._check.by_frame(self._scales(), self._component)
        seen = {
            "steps": self._steps,
            "guidance_scales": None if by_frame is None else by_frame(self._check.asked)[0].flatten().tolist(),
            "guidance_scale": self._check.asked if self._uncond else 1.0,
            "cfg_rebuilt_exactly": bool(self.rebuilt),
            "dtype": str(self._predictions[COND].dtype).removeprefix("torch."),
            **watched_words(self._sum, self.pipe, self.settings),
            **self.reels.settings,
            **self.settings,
        }
        captions = self.settings.get("captions", [])
        samples: dict[str, list] = {"caption": captions if len(captions) == shape[0] else [""] * shape[0]}
        if seeds := seeds_of(self.settings, shape[0]):
            samples["seed"] = seeds
        self.recorder.start(
            steps=self._rows,
            branches=self._branches(),
            shape=shape,
            settings=pipeline_settings(self.pipe, self.family, self._sum) | seen,
            samples=samples,
            preview=self.family.preview(self.pipe),
            watched={name: tuple(values.shape) for name, values in self._main.seen.items()},
        )

    def _branches(self) -> tuple[str, ...]:
        """What is recorded of a step, in order."""
        own = [b for b in self._predictions if b not in self._sum.weak]
        own += [b for b in self.family.later_branches(self.pipe) if b not in own]
        # cond, uncond, and then perturbed passes of the pipeline's own
        return (*sorted(own, key=[COND, UNCOND, *own].index), *self._sum.weak, GUIDED)

    def _step_over(self, latents: Any) -> None:
        """The pipeline's loop is done with a step, callbacks and all: what it holds after the last one is what it returns."""
        final, self._final = self._final, None
        if final is None or not isinstance(latents, Tensor) or latents.shape != final.shape:
            return
        if self.recorder is not None and changed(final, latents):
            self.recorder.finish(self._to_host(latents, predicted=False)())
        self._given = {}

    def _recorded(self, x: Tensor, *, predicted: bool = True) -> Tensor:
        return self.family.recorded(x.detach(), self.pipe, self._given, predicted=predicted)

    def _to_host(self, x: Tensor, *, predicted: bool = True) -> Callable[[], np.ndarray]:
        """As it is now: schedulers and pipelines may write into their tensors afterwards."""
        return host_copy(self._recorded(x, predicted=predicted))
