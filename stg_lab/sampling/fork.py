"""`fork`: sample on from a recorded step under another guidance, with exactly the history that the recorded run had."""

from __future__ import annotations

import contextlib
import inspect
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from stg_lab.errors import CallError, GuidanceError, RecordingError, UnsupportedPipelineError, did_you_mean
from stg_lab.families import Family, family_of
from stg_lab.given import shown, takes
from stg_lab.guidance import CFG, COND, GUIDED, UNCOND, Edit, Guidance, Term
from stg_lab.interop import as_guidance
from stg_lab.loading import load
from stg_lab.recording import Name, Recording, as_source, recording_of
from stg_lab.reuse import PASSES, Passes
from stg_lab.sampling.calls import pipeline_arguments
from stg_lab.sampling.checks import check_weak
from stg_lab.sampling.resting import Resting
from stg_lab.sampling.run import Run
from stg_lab.sampling.sample import call_settings, lost_arguments, made, own_scale, recorded_call, sample
from stg_lab.sampling.seen import Seen
from stg_lab.sampling.settings import other_weights
from stg_lab.sampling.states import SAME_STATE, hands_over
from stg_lab.sampling.trace import Trace
from stg_lab.seams import Coming, Step

if TYPE_CHECKING:
    from stg_lab.families.noise import NoiseLevel
    from stg_lab.weak import Weak

#: How far cond of the first step may lie from the recorded one, relative to its norm: other kernels and half precision stay
#: below, another model does not.
SAME_MODEL = 0.05
#: And how far a step from a state and a prediction that float16 has rounded may end from the recorded one.
ROUNDED = 5e-3


@takes(passes=PASSES, step=None)
def fork(
    source: Run | Recording | Name,
    step: int,
    guidance: Guidance | Term | Any | None = None,
    *,
    pipe: Any = None,
    record: bool | str | Path = True,
    record_dtype: str | None = None,
    overwrite: bool = False,
    passes: Passes | None = None,
    on_step: Callable[[Seen], None] | None = None,
    **again: Any,
) -> Run:
    """Sample on from exactly the recorded state at a step, under another guidance.

    The recorded call is made again. At the steps before `step` the model does not compute (but for the first one, which shows
    that it is the recorded model): the scheduler is handed the recorded guided prediction and the recorded x_t, so that
    schedulers with a memory have the history they had. From `step` on the run is guided anew. With the recorded guidance a
    fork of a float32 recording is the recorded run, bit for bit, on the same machine.

    Args:
        source: a recorded run, a recording, or the path or name of one.
        step: the first step that is guided anew, from 0. At 0 this is sampling anew.
        guidance: the whole sum from there on, CFG among it; None for the recorded one. Its schedules and windows count the
            steps of the whole run.
        pipe: the pipeline; None for the run's own, or the one that the recording names.
        record, overwrite, passes, on_step: as for `sample`; the steps before are copied, `on_step` hears of the later ones.
        record_dtype: "float32" or "float16"; None for the source's own.
        **again: arguments of the recorded call that its file could not hold, such as a large `image`, given once more. A `Run`
            has its own at hand.

    Returns:
        A `Run`. Its recording holds all steps, those before `step` as they were recorded, and says `fork_step`,
        `forked_from`, `forked_guidance` and `fork_exact` in its settings. `fork_exact` is False where a float16 recording was
        forked: what its scheduler is handed is rounded.

    Raises:
        CallError: the step is out of range, the recording has rounds of Restart, it does not hold its call, or `record` is
            its own place.
        GuidanceError: the guidance does not fit the pipeline, or its Restart begins before the step.
        RecordingError: the recording is of another model, scheduler or seed.
        UnsupportedPipelineError: recorded latents are not what this family's pipelines have at `scheduler.step`.

    >>> again = fork(run, step=10, guidance=CFG(4) + STG(2, skip([5])))  # doctest: +SKIP
    """
    given: Run | Recording = as_source(source)
    recording, again = recording_of(given), _given_again(given, again)
    if _checked_step(recording, step, again) and not is_exact(recording):
        warnings.warn(
            f"{recording.path.name} is float16, so this fork starts near the recorded run, not exactly from it.",
            stacklevel=3,
        )
    options = {"record": record, "record_dtype": record_dtype, "overwrite": overwrite}
    return sampled_on(given, step, guidance, pipe=pipe, passes=passes, on_step=on_step, again=again, **options)


def is_exact(recording: Recording) -> bool:
    """Whether a recording's states and predictions are what the sampler had, not rounded."""
    return recording.record_dtype == "float32"


def sampled_on(
    source: Run | Recording,
    step: int,
    guidance: Guidance | Term | Any | None,
    *,
    pipe: Any,
    record: Any = True,
    record_dtype: Any = None,
    overwrite: Any = False,
    passes: Passes | None = None,
    on_step: Callable[[Seen], None] | None = None,
    again: Mapping[str, Any] | None = None,
) -> Run:
    """`fork` without its warning, for who tells it in another way."""
    recording = recording_of(source)
    known = _given_again(source, again or {})
    step = _checked_step(recording, step, known)
    _check_not_itself(recording, record)
    given, own, seed = recorded_call(recording, known)
    pipe = pipe if pipe is not None else getattr(source, "pipe", None) or load(recording.settings["model"])
    family = family_of(pipe)
    _check_family(family, pipe)
    if other := other_weights(recording.settings, pipe):
        raise RecordingError(
            f"{recording.path.name} cannot be sampled on with this pipeline: {other}. Give it the same, for example with "
            "pipe.set_adapters(names, weights), or make the run anew: lab.rerun(recording, pipe)."
        )
    wanted = own
    if guidance is not None:
        given.pop(family.scale_argument, None)  # the new sum says it
        wanted = as_guidance(guidance, pipe, given)
        check_weak(wanted, family, family.denoisers(pipe))
    arguments = pipeline_arguments(pipe, family, wanted, seed, given)
    settings = call_settings(family, arguments, wanted, seed) | _origin(recording, step)
    trace = Forked(pipe, wanted, recording, step, settings, passes, on_step)
    dtype = recording.record_dtype if record_dtype is None else record_dtype

    def baseline() -> Run:
        call = {k: v for k, v in given.items() if k != family.scale_argument}
        alone = CFG(own_scale(pipe, family, wanted, arguments))
        return sample(pipe, guidance=alone, seed=seed, record=record is not False, record_dtype=dtype, **call)

    return made(trace, wanted, arguments, passes, baseline, record=record, record_dtype=dtype, overwrite=overwrite)


def can_fork(source: Run | Recording) -> None:
    """Whether a run or a recording can be forked, as far as it says so itself.

    Raises:
        CallError: it has rounds of Restart, or it does not hold its call.
    """
    _check_forkable(recording_of(source), _given_again(source, {}))


def _check_forkable(recording: Recording, known: Mapping[str, Any]) -> None:
    if recording.settings.get("section"):
        raise CallError(
            f"{recording.path.name} is loop {recording.settings['section']} of a call that samples in several, and begins from what the "
            "loops before it gave. Fork the recording of the first loop, or make the call again: lab.rerun(recording, pipe)."
        )
    recorded_call(recording, known)
    if (recording.ds.restart.values > 0).any():
        raise CallError(
            f"{recording.path.name} has rounds of Restart, which go back up on the way, so it has no one history to sample on "
            "from. Fork a run without .restart(...)."
        )


def _given_again(source: Run | Recording, again: Mapping[str, Any]) -> dict[str, Any]:
    """What the file could not hold of a call: as given once more, or as a run still has it."""
    lost, own = lost_arguments(recording_of(source)), getattr(source, "call", {})
    if other := [name for name in again if name not in lost]:
        options = [*lost, *(n for n in inspect.signature(fork).parameters if n != "again")]
        raise CallError(
            f"a fork makes the recorded call again, so it takes no {other[0]!r}.{did_you_mean(other[0], options)} "
            "For another call type lab.rerun(recording, pipe, ...)."
        )
    return {name: own[name] for name in lost if name in own} | dict(again)


def _checked_step(recording: Recording, step: int, known: Mapping[str, Any]) -> int:
    _check_forkable(recording, known)
    if isinstance(step, bool) or not isinstance(step, int | np.integer) or not 0 <= step < recording.steps:
        raise CallError(
            f"step is a whole number from 0 to {recording.steps - 1}, which {recording.path.name} has, got {shown(step)}. "
            f"Type for example step={recording.steps // 2}."
        )
    return int(step)


def _check_not_itself(recording: Recording, record: Any) -> None:
    """A fork reads its source to the end, and keeps what lies before the step: it cannot take the source's place."""
    if isinstance(record, str | Path) and Path(record).resolve() == recording.path.resolve():
        raise CallError(
            f"record={str(record)!r} is the recording that is forked, and a fork reads it on the way: overwrite=True would cost "
            f"both. Give the fork a name of its own, such as record={f'{recording.path.stem}-fork.zarr'!r}."
        )


def _check_family(family: Family, pipe: Any) -> None:
    if not hands_over(family):
        raise UnsupportedPipelineError(
            f"{type(pipe).__name__} ({family.name}) packs its latents in another way than recordings keep them, so a recorded "
            "state cannot be handed back to it. Sample anew instead: lab.rerun(recording, pipe, guidance=...)."
        )


def _origin(recording: Recording, step: int) -> dict[str, Any]:
    return {
        "forked_from": str(recording.path),
        "forked_guidance": str(recording.settings.get("guidance_text") or ""),
        "fork_step": step,
        "fork_exact": is_exact(recording) or not step,
    }


class Forked(Trace):
    """Hands over what was recorded before a step, and guides and records from there on."""

    def __init__(
        self,
        pipe: Any,
        guidance: Guidance | None,
        source: Recording,
        first: int,
        settings: Mapping[str, Any],
        passes: Passes | None,
        on_step: Callable[[Seen], None] | None,
    ) -> None:
        super().__init__(pipe, guidance, settings, passes, on_step)
        self._source, self._first = source, first
        self._loop = 0  # of a call that samples in several, of which the first one was recorded
        self._resting = Resting(self.family.denoisers(pipe).values(), lambda: self._step == 0 and self._handing)
        self._like: Tensor | None = None  # a prediction of the first step, for its dtype and device

    def around(self) -> contextlib.AbstractContextManager[Any]:
        return self._resting.listening()

    @property
    def _handing(self) -> bool:
        return self._step < self._first and self._loop <= 1

    @property
    def _edited_here(self) -> bool:
        """Whether somebody changed the recorded latents before the current step; they do it again in this call."""
        return bool(self._source.ds.edited[self._step])

    @property
    def _same_edits(self) -> bool:
        """Whether what is computed under the caption can be held against what was recorded: both under the same edits."""
        terms = (self._source.settings.get("guidance") or {}).get("terms", [])
        recorded = [term["weak"] for term in terms if term["method"] == "Edit"]
        return recorded == [str(t.weak_model) for t in self._sum.terms if type(t) is Edit]

    # ---- what the seams call ----

    def on_step(self, step: Step) -> Tensor:
        if not self._handing:
            return super().on_step(step)
        self._check.edited = self._edited_here
        self._check_x_t(step.sample)
        if self._step == 0:
            self._predictions = self.family.combined(self._predictions, step.model_output, step.sample)
            self._check_rebuilt(step)
            self._like = self._predictions[COND]
            if self._same_edits:
                self._check_same(COND, self._like, self._recorded_predictions()[COND], SAME_MODEL)
        self._remember(step)
        return self._tensor(self._recorded_predictions()[GUIDED], step.model_output)

    def after_step(self, step: Step, sample: Tensor) -> Tensor:
        before = self._handing
        sample = super().after_step(step, sample)
        self._resting.rest(self._handing)
        if not before or self._edited_here:
            return sample
        self._check_came_down(sample)
        return self._tensor(self._recorded_x_t(), sample)

    # ---- their parts ----

    def _begin(self, call: Coming) -> None:
        super()._begin(call)
        self._loop += 1
        if self._loop > 1:
            return
        recorded = self._source.ds.timestep.values[: self._first + 1]
        mine = self.pipe.scheduler.timesteps[self._offset :]
        here = np.array([float(t) for t in mine[: self._first + 1]])
        if self._steps != self._source.planned or not np.allclose(here, recorded, rtol=1e-4):
            raise RecordingError(
                f"{type(self.pipe.scheduler).__name__} makes {self._steps} steps, and not those of {self._source.path.name}. "
                "Was it recorded with another scheduler? Give the pipeline the one it had."
            )
        if self._rounds is not None and self._rounds.first < self._first:
            raise GuidanceError(
                f"Restart begins again at step {self._rounds.first}, which lies before the fork at step {self._first}. Fork "
                f"at step {self._rounds.first} or earlier, or leave .restart(...) out."
            )

    def _repeating(self, branches: tuple[str, ...]) -> list[tuple[int, dict[Weak, str]]]:
        return [] if self._handing else super()._repeating(branches)

    def _look(self, level: NoiseLevel, sample: Tensor, guided: Tensor) -> Seen:
        if not self._handing:
            return super()._look(level, sample, guided)
        x_t, predictions = self._recorded_x_t(), self._recorded_predictions()
        arrays = {name: lambda array=array: array for name, array in predictions.items()}
        return Seen(self._step, self._steps, 0, level, lambda: x_t, arrays)

    def _own_scale(self) -> float:
        return float(self._source.ds.guidance_scale[self._step]) if self._handing else super()._own_scale()

    @property
    def _knows_x0(self) -> bool:
        return bool(self._source.ds.x0_guided[self._step]) if self._handing else super()._knows_x0

    def _show(self) -> None:
        if self._step > self._first:  # one more than the step that is done
            super()._show()

    def _remember(self, step: Step) -> None:
        """Methods with a momentum (APG) carry it over from the recorded steps, where all that it takes was recorded."""
        if not any(term.rules for term in self._sum.terms):
            return
        assert self._like is not None
        self._predictions = {
            name: self._tensor(array, self._like)
            for name, array in self._recorded_predictions().items()
            if name != GUIDED
        }
        with contextlib.suppress(GuidanceError):
            self._guide(step)

    def _recorded_x_t(self) -> np.ndarray:
        """x_t before the current step, `(sample, channel, frame, y, x)`, float32."""
        return self._source.ds.x_t.isel(step=self._step).values.astype(np.float32)

    def _recorded_predictions(self) -> dict[str, np.ndarray]:
        """What was recorded of the current step, by the names that its branches have here; weak models are told apart by what
        they are."""
        ours = {str(model): name for name, model in self._sum.weak.items()}
        names = {b: ours.get(spec) for b, spec in self._source.weak.items()}
        names |= {b: b for b in (COND, UNCOND, GUIDED) if b in self._source.branches}
        row = self._source.ds.prediction.isel(step=self._step)
        found = {name: row.sel(branch=b).values.astype(np.float32) for b, name in names.items() if name}
        return {name: array for name, array in found.items() if not np.isnan(array).any()}

    def _check_came_down(self, sample: Tensor) -> None:
        """From the recorded prediction the scheduler must come to the recorded x_t, or it has not the history it had."""
        try:
            self._check_same(
                "x_t", sample, self._recorded_x_t(), SAME_STATE if self.settings["fork_exact"] else ROUNDED
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
            if not self._step or not self._edited_here:
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
                f"{what} at step {self._step} is not the one of {self._source.path.name}: off by {off:.2g} of its norm, at most "
                f"{allowed:g} is allowed. Was it recorded with another model, scheduler or version? Give the pipeline that made "
                "it: lab.fork(recording, step=..., pipe=...)."
            )
