"""`attach`: guidance and recording around the user's own pipeline call."""

from __future__ import annotations

import contextlib
import functools
import warnings
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stg_lab.errors import GuidanceError
from stg_lab.given import takes
from stg_lab.guidance import Guidance, Term
from stg_lab.reuse import PASSES, Passes
from stg_lab.sampling.checks import check_weak
from stg_lab.sampling.claim import claimed
from stg_lab.sampling.reels import Reels
from stg_lab.sampling.trace import Trace
from stg_lab.seams import tapped
from stg_lab.undone import undone

#: Pipelines that are inside an `attach` with guidance now.
_guided: weakref.WeakSet[Any] = weakref.WeakSet()


@takes(passes=PASSES)
@contextlib.contextmanager
def attach(
    pipe: Any,
    *,
    guidance: Guidance | Term | None = None,
    record: bool | str | Path = False,
    record_dtype: str = "float32",
    overwrite: bool = False,
    settings: Mapping[str, Any] | None = None,
    passes: Passes | None = None,
) -> Iterator[Trace]:
    """Guide and record the pipeline calls made inside the `with`; afterwards the pipeline is as it was.

    The pipeline's own `guidance_scale` stays in force. A CFG term in `guidance` must agree with it where all terms act;
    its window is honoured. Without a CFG term, the other terms are added to the pipeline's own CFG.

    Args:
        pipe: a stock diffusers pipeline.
        guidance: terms to add; None only records.
        record: True for a temporary folder, a path to keep the recording, False for none. One recording keeps one call.
        record_dtype: "float32" or "float16"; see `sample`.
        overwrite: replace an earlier recording at `record`.
        settings: plain values to keep in the recording beside what is known anyway.
        passes: how weak passes are made, see `Passes`; None for what is best.

    Yields:
        A `Trace`; its `recording` is there once a step is done.

    Raises:
        GuidanceError, RecordingError, UnsupportedPipelineError: before the first weak pass; see their messages.
        CallError: another thread is sampling with this pipeline.
    """
    with traced(Trace(pipe, guidance, settings, passes), record, record_dtype, overwrite) as trace:
        yield trace


@contextlib.contextmanager
def traced(trace: Trace, record: bool | str | Path, record_dtype: str, overwrite: bool) -> Iterator[Trace]:
    """Open the seams of a trace's pipeline for it, with a recorder; arguments and errors as for `attach`."""
    pipe = trace.pipe
    check_weak(trace.guidance, trace.family, trace.family.denoisers(pipe))
    with claimed(pipe), _alone_in_guiding(trace), undone(functools.partial(_settle, trace)):
        trace.reels = Reels(record, record_dtype, overwrite)
        with (
            telling(trace),
            trace.reels,
            tapped(pipe, trace.family, trace),
            trace.around(),
        ):
            yield trace
            trace.end()


@contextlib.contextmanager
def _alone_in_guiding(trace: Trace) -> Iterator[None]:
    """Two guidances of one pipeline would each take the other's prediction for the pipeline's own."""
    if not trace.guidance.terms:
        yield
        return
    if trace.pipe in _guided:
        raise GuidanceError(
            "this pipeline is already inside a lab.attach with guidance. Add the terms up in one: "
            "lab.attach(pipe, guidance=a + b)."
        )
    with undone(functools.partial(_guided.discard, trace.pipe)):
        _guided.add(trace.pipe)
        yield


def _settle(trace: Trace) -> None:
    """Let go of what weak passes kept, and of the recorders' threads; after a recorder's own end that does nothing."""
    trace._main.end()
    trace._weak.release()
    for recorder in trace.reels.all:
        recorder.__exit__(None, GeneratorExit(), None)  # whatever failed has been told, or something else will be


@contextlib.contextmanager
def telling(trace: Trace) -> Iterator[None]:
    """Say of whatever ends a run on the way, or before its recording is in the caller's hands, where the whole steps are kept,
    and do not let a temporary folder vanish with them."""
    try:
        yield
    except BaseException as error:
        _tell_what_is_kept(trace, error)
        raise


def _tell_what_is_kept(trace: Trace, error: BaseException) -> None:
    if trace.recorder is None or not trace.recorder.written:
        return
    if trace.reels.keep is not None:
        trace.reels.keep.keep()
    where = str(trace.recorder.path)
    told = f"The {trace.recorder.written} whole steps recorded before this are kept: lab.open({where!r})."
    error.add_note(told)
    if isinstance(error, SystemExit | GeneratorExit):  # they end without a traceback, and so would the note
        warnings.warn(told, stacklevel=2)
