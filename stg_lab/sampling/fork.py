"""`fork`: sample on from a recorded step under another guidance, with exactly the history that the recorded run had."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stg_lab.errors import CallError, RecordingError, UnsupportedPipelineError, did_you_mean
from stg_lab.families import Family, family_of
from stg_lab.given import shown, takes
from stg_lab.guidance import CFG, Guidance, Term
from stg_lab.interop import as_guidance
from stg_lab.loading import load
from stg_lab.passes import PASSES, Passes
from stg_lab.recording import Name, Recording, as_source, recording_of
from stg_lab.sampling.calls import pipeline_arguments
from stg_lab.sampling.checks import check_weak
from stg_lab.sampling.forked import Forked
from stg_lab.sampling.provenance import other_weights
from stg_lab.sampling.run import Run
from stg_lab.sampling.sample import call_settings, lost_arguments, made, own_scale, recorded_call, sample
from stg_lab.sampling.step_view import Seen
from stg_lab.sampling.trace import Trace
from stg_lab.sampling.visitor import hands_over

if TYPE_CHECKING:
    pass


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
    trace = Trace(pipe, wanted, settings, passes, on_step)
    dtype = recording.record_dtype if record_dtype is None else record_dtype

    def baseline() -> Run:
        call = {k: v for k, v in given.items() if k != family.scale_argument}
        alone = CFG(own_scale(pipe, family, wanted, arguments))
        return sample(pipe, guidance=alone, seed=seed, record=record is not False, record_dtype=dtype, **call)

    by = Forked(trace, recording, step)
    return made(trace, wanted, arguments, baseline, record=record, record_dtype=dtype, overwrite=overwrite, by=by)


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
