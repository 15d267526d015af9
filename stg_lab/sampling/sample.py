"""`sample`: one call that guides, records and returns everything."""

from __future__ import annotations

import contextlib
import inspect
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from stg_lab.errors import CallError
from stg_lab.families import Family, family_of
from stg_lab.given import takes
from stg_lab.guidance import CFG, Guidance, Term
from stg_lab.interop import as_guidance
from stg_lab.loading import load
from stg_lab.passes import PASSES, Passes
from stg_lab.recording import Recording
from stg_lab.recording.writer import check_space
from stg_lab.sampling.ahead import Ahead
from stg_lab.sampling.attach import telling, traced
from stg_lab.sampling.calls import accepts, captions, pipeline_arguments, stock_arguments
from stg_lab.sampling.claim import claimed
from stg_lab.sampling.provenance import call_values, given_again, is_lost, other_weights
from stg_lab.sampling.run import Run
from stg_lab.sampling.step_view import Seen
from stg_lab.sampling.temporary import place_of
from stg_lab.sampling.trace import Trace
from stg_lab.sampling.values import check_names, warn_of_noise
from stg_lab.weak import parse

if TYPE_CHECKING:
    from stg_lab.sampling.forked import Forked


@takes(passes=PASSES)
def sample(
    pipe: Any,
    *,
    guidance: Guidance | Term | Any | None = None,
    seed: int | None = None,
    record: bool | str | Path = True,
    record_dtype: str = "float32",
    overwrite: bool = False,
    passes: Passes | None = None,
    on_step: Callable[[Seen], None] | None = None,
    **call: Any,
) -> Run:
    """Sample from a stock pipeline under a guidance, recording every prediction of every step.

    Args:
        pipe: a stock diffusers pipeline, from `lab.load` or your own.
        guidance: a sum such as `lab.CFG(4) + lab.STG(1, lab.skip([5]))`. Its CFG term sets the pipeline's own scale; a sum
            without one means no CFG, unless the call gives `guidance_scale` itself. None leaves the pipeline alone. A guider of
            diffusers is taken for the sum that it means (`lab.from_guider`).
        seed: sample i of the batch gets its own generator seeded `seed + i`, so that a sample never depends on its batch.
            Without seed and generator the seed is 0.
        record: True for a temporary folder, a path to keep the recording, False for none.
        record_dtype: "float32", or "float16" for half the size: latents, predictions and x0 keep three digits there, whatever the
            model predicts.
        overwrite: replace an earlier recording at `record`.
        passes: how weak passes are made, see `Passes`; None for what is best.
        on_step: called after every step with what was recorded of it (`stg_lab.sampling.Seen`). What it raises ends the run; the
            whole steps are kept.
        **call: everything else goes to `pipe(...)` unchanged, under diffusers' own names. Embedded models fill in the sizes
            that they were trained on: height, width, number of frames, and the length that captions are padded to.

    Returns:
        A `Run` with `.video`, `.output` and `.recording`.

    Raises:
        CallError, GuidanceError, RecordingError, UnsupportedPipelineError: before any compute is spent; each message says
            what to type instead.
    """
    family = family_of(pipe)
    check_names(pipe, call, sample)
    wanted = None if guidance is None else as_guidance(guidance, pipe, call)
    arguments = pipeline_arguments(pipe, family, wanted, seed, call)
    warn_of_noise(pipe)
    seeded = accepts(pipe, "generator")
    if seed is not None and not seeded:
        raise CallError(
            f"{type(pipe).__name__} takes no generator, so seed={seed} would decide nothing. Leave seed= out, and call "
            f"torch.manual_seed({seed}) before the run."
        )
    seeds = (seed or 0) if seeded and call.get("generator") is None else None
    settings = call_settings(family, arguments, wanted, seeds)
    fresh = _clones(call.get("generator"))  # the run uses up the user's own
    trace = Trace(pipe, wanted, settings, passes, on_step)

    def again() -> Run:
        alone = CFG(own_scale(pipe, family, wanted, arguments))
        same = {**call, "generator": fresh} if fresh is not None else call
        return sample(pipe, guidance=alone, seed=seed, record=record is not False, record_dtype=record_dtype, **same)

    return made(trace, wanted, arguments, again, record=record, record_dtype=record_dtype, overwrite=overwrite)


def call_settings(
    family: Family, arguments: Mapping[str, Any], wanted: Guidance | None, seed: int | None
) -> dict[str, Any]:
    """What a recording keeps of the call that made it."""
    given = arguments.get("generator")
    lone = [] if given is None or family.samples(dict(arguments)) > 1 else [given]
    own = given if isinstance(given, list) else lone
    return {
        "call": call_values({k: v for k, v in arguments.items() if k != "generator"}),
        "seed": seed,
        **({"generator_seeds": [g.initial_seed() for g in own]} if seed is None and own else {}),
        "captions": captions(family, dict(arguments)),
        "guidance_given": wanted is not None,
    }


def made(
    trace: Trace,
    guidance: Guidance | None,
    arguments: dict[str, Any],
    again: Callable[[], Run],
    *,
    record: bool | str | Path,
    record_dtype: str,
    overwrite: bool,
    by: Forked | None = None,
) -> Run:
    """Make the pipeline's call with a trace at its seams; `again` makes the run's baseline, and `by` is as for `traced`."""
    pipe, family = trace.pipe, trace.family
    with claimed(pipe):  # before planning, which copies the scheduler
        place = place_of(record)
        ahead = Ahead.of(pipe, family, guidance, arguments, recorded=place is not None)
        if (
            ahead is not None and place is not None
        ):  # else the size turns out on the way, and the recorder asks the disk then
            check_space(place, ahead.recording_bytes(record_dtype), record_dtype)
        with traced(trace, record, record_dtype, overwrite, by):
            output = pipe(**arguments)
        with telling(trace):  # decoding takes its time and memory, too
            loops = [] if trace.recorder is None else trace.recordings
            recording = loops[0] if loops else None
            run = Run(pipe, output, guidance, arguments, recording, captions(family, arguments), again, loops)
            # Whoever asks for latents does not want to wait for a decoder; and of several loops each is a part of the video.
            decoded = arguments.get("output_type") != "latent"
            if (
                recording is not None
                and len(loops) == 1
                and recording.complete
                and not recording.has_preview
                and decoded
            ):
                recording.fit_preview(run.video)
    return run


def own_scale(pipe: Any, family: Family, guidance: Guidance | None, arguments: Mapping[str, Any]) -> float:
    """The CFG scale of a call, whoever says it."""
    if not family.scale_argument:  # the pipeline has its scale elsewhere
        return max(family.scale(pipe, component) for component in family.denoisers(pipe))
    if guidance is not None and guidance.has_cfg:
        return guidance.cfg_scale()
    return family.asked_scale({**stock_arguments(pipe), **arguments})


def _clones(generator: Any) -> Any:
    """Generators in the same state, or None where none was given."""
    if generator is None:
        return None
    if isinstance(generator, list):
        return [_clones(g) for g in generator]
    return torch.Generator(generator.device).set_state(generator.get_state())


def rerun(recording: Recording, pipe: Any = None, **changes: Any) -> Run:
    """Make a recorded run again from what the recording says, with changes if you like.

    Args:
        recording: from `lab.open` or `run.recording`.
        pipe: the pipeline; None loads the one that the recording names.
        **changes: arguments of `sample` to change, for example `guidance=...`, `seed=...` or `record="again.zarr"`. What a file
            cannot hold (tensors, functions, pictures of more than 64 kB) is given here once more.

    Raises:
        CallError: the recording was made by `attach` or `fork`, or with a generator, or with tensors and their like that are
            not given again.
    """
    if "fork_step" in recording.settings:
        s = recording.settings
        raise CallError(
            f"this run was forked from {s['forked_from']} at step {s['fork_step']}. Make it again as it was made: "
            f"lab.fork(lab.open({s['forked_from']!r}), step={s['fork_step']}, guidance=...)."
        )
    arguments, guidance, seed = recorded_call(recording, changes)
    arguments |= {"guidance": guidance, "seed": seed}
    pipe = load(recording.settings["model"]) if pipe is None else pipe
    if other := other_weights(recording.settings, pipe):
        warnings.warn(f"this is not the recorded run again: {other}.", stacklevel=2)
    if as_guidance(changes.get("guidance"), pipe, {**arguments, **changes}).has_cfg:
        arguments.pop(family_of(pipe).scale_argument, None)  # the new sum says it
    return sample(pipe, **{**arguments, **changes})


def _check_recorded_names(recording: Recording) -> None:
    """A recording may come from anywhere: it says what the pipeline was called with, never where the lab writes or what it
    calls. `pipeline_arguments` refuses names that the pipeline does not have."""
    call = recording.settings.get("call") or {}
    ours = inspect.signature(sample).parameters.keys() - {"call"}
    called = {n for n, value in call.items() if n.startswith("callback") and value is not None and not is_lost(value)}
    if refused := sorted((ours & call.keys()) | called | ({"generator"} & call.keys())):
        raise CallError(
            f"{recording.path.name} names {', '.join(f'{name}=' for name in refused)} in its recorded call, which the lab never "
            "keeps there: that is for the caller to say. The file was changed or made by something else; type the call "
            "yourself: lab.sample(pipe, ...)."
        )


def lost_arguments(recording: Recording) -> list[str]:
    """Names of the arguments of a recorded call that the file could not hold."""
    return [name for name, value in (recording.settings.get("call") or {}).items() if is_lost(value)]


def recorded_call(
    recording: Recording, again: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], Guidance | None, int]:
    """What a recorded run was made with: the arguments of its call, its guidance (None for the pipeline's own), and its seed.

    Args:
        again: arguments that are given once more; those that the file could not hold are taken from there.

    Raises:
        CallError: the recording was made by `attach`, or with a generator, or with values that a file cannot hold and that are
            not given again; or it names what is not the pipeline's but the caller's to say.
    """
    s, again = recording.settings, again or {}
    _check_recorded_names(recording)
    missing = lost_arguments(recording)
    lost = [name for name in missing if name not in again]
    arguments = {name: given_again(value) for name, value in (s.get("call") or {}).items() if name not in missing}
    arguments |= {name: again[name] for name in missing if name in again}
    if lost or not arguments or s.get("seed") is None:
        why = f"{', '.join(lost)} could not be kept" if lost else "the recording does not hold the call and its seed"
        with contextlib.suppress(KeyError):
            why += f" (made from {s['model']})"
        what = "Call lab.sample with the arguments yourself."
        if lost and s.get("seed") is not None:
            once_more = ", ".join(f"{name}=..." for name in lost)
            what = f"Give it once more in the same call, for example lab.rerun(recording, pipe, {once_more})."
        raise CallError(f"this run cannot be made again: {why}. {what}")
    return arguments, Guidance.from_dict(s["guidance"], parse) if s["guidance_given"] else None, s["seed"]
