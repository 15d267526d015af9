"""`Forked`: what listens at the seams of a fork. It hands over what was recorded before a step, and lets a trace go on from there."""

from __future__ import annotations

import contextlib

import numpy as np
import torch
from torch import Tensor

from stg_lab.errors import GuidanceError, RecordingError
from stg_lab.families.noise import noise_level
from stg_lab.guidance import COND, GUIDED, UNCOND, Edit
from stg_lab.recording import Recording
from stg_lab.sampling.before_trace import BeforeTrace
from stg_lab.sampling.replayed import Resting
from stg_lab.sampling.step_view import Seen
from stg_lab.sampling.trace import Trace
from stg_lab.sampling.visitor import SAME_STATE
from stg_lab.seams import Asked, Call, Coming, Step

#: How far cond of the first step may lie from the recorded one, relative to its norm: other kernels and half precision stay
#: below, another model does not.
SAME_MODEL = 0.05
#: And how far a step from a state and a prediction that float16 has rounded may end from the recorded one.
ROUNDED = 5e-3


class Forked(BeforeTrace):
    """Hands over what was recorded before a step, and lets a trace guide and record from there on.

    Args:
        trace: of the new run.
        source: what is forked.
        first: the first step that is guided anew.
    """

    def __init__(self, trace: Trace, source: Recording, first: int) -> None:
        denoisers = trace.family.denoisers(trace.pipe).values()
        super().__init__(trace, Resting(denoisers, lambda: self._number == 0 and self._handing))
        self._source, self._first = source, first
        self._loop = 0  # of a call that samples in several, of which the first one was recorded
        self._like: Tensor | None = None  # a prediction of the first step, for its dtype and device

    @property
    def _handing(self) -> bool:
        return self._number < self._first and self._loop <= 1

    @property
    def _edited_here(self) -> bool:
        """Whether somebody changed the recorded latents before the current step; they do it again in this call."""
        return bool(self._source.ds.edited[self._number])

    @property
    def _same_edits(self) -> bool:
        """Whether what is computed under the caption can be held against what was recorded: both under the same edits."""
        terms = (self._source.settings.get("guidance") or {}).get("terms", [])
        recorded = [term["weak"] for term in terms if term["method"] == "Edit"]
        return recorded == [str(t.weak_model) for t in self._trace.guide.sum.terms if type(t) is Edit]

    # ---- what the seams call ----

    def before_call(self, call: Coming) -> Asked | None:
        steps = self._trace.guide.steps
        asked = self._trace.before_call(call, weak=not self._handing)
        if self._trace.guide.steps is not steps:
            self._begin()
        return asked

    def on_call(self, call: Call) -> None:
        self._trace.on_call(call, weak=not self._handing)

    def on_step(self, step: Step) -> Tensor:
        trace = self._trace
        if not self._handing:
            return trace.on_step(step)
        trace.stepping.stepping()
        trace.guide.check.edited = self._edited_here
        self._check_x_t(step.sample)
        if not self._number:
            own = trace.family.combined(trace.now.predictions, step.model_output, step.sample)
            trace.now.predictions = own
            trace.now.predictions = trace.guide.checked(step, trace.now)
            self._like = trace.now.predictions[COND]
            if self._same_edits:
                self._check_same(COND, self._like, self._recorded_predictions()[COND], SAME_MODEL)
        self._remember(step)
        return self._tensor(self._recorded_predictions()[GUIDED], step.model_output)

    def before_step(self, step: Step, prediction: Tensor) -> None:
        if not self._handing:
            self._trace.before_step(step, prediction)
        elif self._trace.journal.wanted:
            self._trace.journal.keep(self._recorded(step), step, self._trace.now, shown=False)

    def after_step(self, step: Step, sample: Tensor) -> Tensor:
        before = self._handing
        sample = self._trace.after_step(step, sample)
        self._resting.rest(self._handing)
        if not before or self._edited_here:
            return sample
        self._check_came_down(sample)
        return self._tensor(self._recorded_x_t(), sample)

    # ---- their parts ----

    def _begin(self) -> None:
        self._loop += 1
        if self._loop > 1:
            return
        guide, scheduler = self._trace.guide, self._trace.pipe.scheduler
        recorded = self._source.ds.timestep.values[: self._first + 1]
        here = np.array([float(t) for t in scheduler.timesteps[guide.first :][: self._first + 1]])
        if len(guide.steps) != self._source.planned or not np.allclose(here, recorded, rtol=1e-4):
            raise RecordingError(
                f"{type(scheduler).__name__} makes {len(guide.steps)} steps, and not those of {self._source.path.name}. "
                "Was it recorded with another scheduler? Give the pipeline the one it had."
            )
        if guide.rounds is not None and guide.rounds.first < self._first:
            raise GuidanceError(
                f"Restart begins again at step {guide.rounds.first}, which lies before the fork at step {self._first}. Fork "
                f"at step {guide.rounds.first} or earlier, or leave .restart(...) out."
            )

    def _recorded(self, step: Step) -> Seen:
        """The current step as it was recorded."""
        trace, row = self._trace, self._source.ds.isel(step=self._number)
        level = noise_level(step.scheduler, step.timestep, trace.family.prediction_type)
        x_t, predictions = self._recorded_x_t(), self._recorded_predictions()
        arrays = {name: lambda array=array: array for name, array in predictions.items()}
        unknown = () if row.x0_guided else (GUIDED,)
        scale, steps = float(row.guidance_scale), len(trace.guide.steps)
        return Seen(self._number, steps, 0, level, lambda: x_t, arrays, unknown, scale, self._edited_here)  # type: ignore[arg-type]

    def _remember(self, step: Step) -> None:
        """Methods with a momentum (APG) carry it over from the recorded steps, where all that it takes was recorded."""
        guide, now = self._trace.guide, self._trace.now
        if not any(term.rules for term in guide.sum.terms):
            return
        assert self._like is not None
        recorded = self._recorded_predictions()
        now.predictions = {name: self._tensor(array, self._like) for name, array in recorded.items() if name != GUIDED}
        with contextlib.suppress(GuidanceError):
            guide.guided(step, now)

    def _recorded_x_t(self) -> np.ndarray:
        """x_t before the current step, `(sample, channel, frame, y, x)`, float32."""
        return self._source.ds.x_t.isel(step=self._number).values.astype(np.float32)

    def _recorded_predictions(self) -> dict[str, np.ndarray]:
        """What was recorded of the current step, by the names that its branches have here; weak models are told apart by what
        they are."""
        ours = {str(model): name for name, model in self._trace.guide.sum.weak.items()}
        names = {b: ours.get(spec) for b, spec in self._source.weak.items()}
        names |= {b: b for b in (COND, UNCOND, GUIDED) if b in self._source.branches}
        row = self._source.ds.prediction.isel(step=self._number)
        found = {name: row.sel(branch=b).values.astype(np.float32) for b, name in names.items() if name}
        return {name: array for name, array in found.items() if not np.isnan(array).any()}

    def _check_came_down(self, sample: Tensor) -> None:
        """From the recorded prediction the scheduler must come to the recorded x_t, or it has not the history it had."""
        try:
            self._check_same(
                "x_t",
                sample,
                self._recorded_x_t(),
                SAME_STATE if self._trace.journal.settings["fork_exact"] else ROUNDED,
            )
        except RecordingError as error:
            raise RecordingError(
                f"{error} A scheduler that draws noise from torch's global generator, which no recording holds, cannot be forked."
            ) from None

    def _check_x_t(self, x_t: Tensor) -> None:
        """What the step starts from must be recorded; in the recorded run others may have had a hand in it."""
        try:
            self._check_same("x_t", x_t, self._recorded_x_t(), SAME_STATE)
        except RecordingError as error:
            if not self._number or not self._edited_here:
                raise
            raise RecordingError(
                f"{error} In the recorded run the latents were changed before this step, after the scheduler's. If a callback did that, "
                "give the same one: lab.fork(recording, step=..., callback_on_step_end=...)."
            ) from None

    @staticmethod
    def _tensor(array: np.ndarray, like: Tensor) -> Tensor:
        return torch.from_numpy(array).to(like)

    def _check_same(self, what: str, here: Tensor, recorded: np.ndarray, allowed: float) -> None:
        mine = here.detach().float().cpu().numpy()
        same_shape = mine.shape == recorded.shape
        off = np.linalg.norm(mine - recorded) / np.linalg.norm(recorded) if same_shape else np.inf
        if not off <= allowed:
            raise RecordingError(
                f"{what} at step {self._number} is not the one of {self._source.path.name}: off by {off:.2g} of its norm, at most "
                f"{allowed:g} is allowed. Was it recorded with another model, scheduler or version? Give the pipeline that made "
                "it: lab.fork(recording, step=..., pipe=...)."
            )
