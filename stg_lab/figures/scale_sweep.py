"""What a scale does: the same video at one scale after another (Hyung et al. 2025, figure 3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stg_lab.errors import CallError, RecordingError
from stg_lab.figures.film import Film, Strip, check_frames, draw
from stg_lab.figures.pictures_at import Source, caption, check_place, decoded, final, lettered, one_step
from stg_lab.figures.style import Width, inches
from stg_lab.figures.swept_scale import labels_of, method, recorded_scale, varied, with_scale
from stg_lab.given import Number, Several, shown, takes
from stg_lab.guidance import GUIDED, Guidance
from stg_lab.recording import Name, Recording, as_source, recording_of
from stg_lab.sampling import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Rows = list[tuple[str, np.ndarray]]


@takes(scales=Several(Number(), lone=False, example="[0, 0.5, 1, 2]"))
def scale_sweep(
    runs: Source | Name | Sequence[Source | Name] | Mapping[Any, Source | Name],
    *,
    scales: Iterable[float] | None = None,
    vary: Any = None,
    step: int | None = None,
    sample: int = 0,
    frames: int | None = None,
    width: Width = "page",
) -> Figure:
    """The same video at one scale after another: a film strip a scale, or with `frames=1` a picture a scale.

    From several runs, each sampled at its scale: their final videos, or with `step=` their guided one-step predictions.

    From one recording and `scales=`: what its guided one-step prediction would have been at one step under each scale, by
    `rec.reweight`. Exact for that step from the recorded state, and labelled so. It is not the video that sampling with
    that scale gives, where every step but the first would have started from elsewhere.

    Args:
        runs: one run or recording, or the path or name of one; or several, in a list (labelled by the scale in which they
            differ) or by label or scale.
        scales: for one recording, the scales to show.
        vary: for one recording, whose scale: "CFG", a recorded weak model, or its branch. May be left out where there is
            one weak model that acts.
        step: which step, from 0. One recording: by default a third of the way.
        sample: which sample of the batch.
        frames: how many frames; 1 puts the scales side by side, as in the paper.
        width: "page", "column", or inches.

    Returns:
        A matplotlib figure; `lab.figures.save(figure, "scale_sweep")` writes PDF and PNG.

    Raises:
        CallError: nothing to compare, runs that show different things, or a scale of something not recorded.
        RecordingError: the step or sample is out of range, the term did not run at the step, or a recording without a
            model cannot be decoded.
        GuidanceError: a scale that the term cannot have.
    """
    inches(width)
    check_frames(frames)
    given = as_source(runs)
    if isinstance(given, Run | Recording):
        if scales is None:
            raise CallError("one recording needs scales=[0, 0.5, 1, 2]; or give several runs, each with its own scale.")
        rows, title = _reweighted(given, list(scales), vary, step, sample)
    else:
        if scales is not None or vary is not None:
            raise CallError("scales= and vary= are for one recording; several runs bring their own scales.")
        rows, title = _sampled(given, step, sample)
    return draw(_film(rows, title, frames), width, frames)


def _film(rows: Rows, title: str, frames: int | None) -> Film:
    if frames == 1:  # scales side by side
        length = len(rows[0][1])
        heads = tuple(label for label, _ in rows)
        strip = Strip("", tuple(clip for _, clip in rows))
        return Film(title, [strip], heads, still=f", frame {length // 2} of {length}")
    labels = lettered([label for label, _ in rows])
    return Film(title, [Strip(label, (clip,)) for label, (_, clip) in zip(labels, rows, strict=True)])


def _sampled(
    runs: Sequence[Source | Name] | Mapping[Any, Source | Name], step: int | None, sample: int
) -> tuple[Rows, str]:
    if isinstance(runs, bytes) or not isinstance(runs, Iterable):
        raise CallError(f"a sweep needs two runs or recordings or more, got {shown(runs)}.")
    sources: list[Source] = [as_source(s) for s in (runs.values() if isinstance(runs, Mapping) else runs)]
    wrong = [type(s).__name__ for s in sources if not isinstance(s, Run | Recording)]
    if wrong or len(sources) < 2:
        said = f"got {', '.join(wrong)}" if wrong else f"got {len(sources)}"
        raise CallError(f"a sweep needs two runs or recordings or more, {said}. For one recording say scales=[...].")
    recordings = [recording_of(source) for source in sources]
    for recording in recordings:
        check_place(recording, step or 0, sample)
    _check_alike(recordings, sample)
    if isinstance(runs, Mapping):
        labels = [f"scale {key:g}" if isinstance(key, int | float) else str(key) for key in runs]
    else:
        labels = labels_of(recordings)
    first = recordings[0]
    if step is None:
        clips = [final(source, sample) for source in sources]
        words = f"“{first.captions[sample]}”, " if first.captions[sample] else ""
        title = f"{words}final videos from the same noise"
    else:
        clips = [one_step(source, GUIDED, step, sample) for source in sources]
        title = caption(first, step, sample, "guided one-step predictions")
    return list(zip(labels, clips, strict=True)), title


def _check_alike(recordings: list[Recording], sample: int) -> None:
    """Runs that differ in more than their guidance say nothing about a scale."""
    for name, values in (
        ("prompts", [r.captions[sample] for r in recordings]),
        ("seeds", [str(r.ds.seed.values[sample]) if "seed" in r.ds.coords else "" for r in recordings]),
        ("numbers of steps", [r.planned for r in recordings]),
        ("sizes", [tuple(r.ds.final.shape[1:]) for r in recordings]),
    ):
        if len(set(values)) > 1:
            said = ", ".join(str(v) for v in dict.fromkeys(values))
            raise CallError(f"these runs have different {name} ({said}): sample them alike, but for the guidance.")


def _reweighted(source: Source, scales: list[float], vary: Any, step: int | None, sample: int) -> tuple[Rows, str]:
    recording = recording_of(source)
    step = check_place(recording, step, sample)
    branch = varied(recording, vary)
    guidances = [with_scale(recording, branch, scale) for scale in scales]
    if np.isnan(recording.prediction(branch).isel(step=step, sample=sample).values).any():
        raise RecordingError(f"{branch!r} was not computed at step {step}: its term did not act there. Choose another.")
    own, name = recorded_scale(recording, branch), method(branch)
    rows = []
    for scale, guidance in zip(scales, guidances, strict=True):
        label = f"{name} {scale:g}" + (" (as\u00a0sampled)" if scale == own else "")
        rows.append((label, _one_step(source, recording, guidance, step, sample)))
    return rows, caption(recording, step, sample, "exact one-step predictions")


def _one_step(source: Source, recording: Recording, guidance: Guidance, step: int, sample: int) -> np.ndarray:
    """One step under another guidance; the steps before are needed only by rules that remember them."""
    first = 0 if any(term.rules for term in guidance.terms) else step
    part = recording.ds.isel(step=slice(first, step + 1))
    alone = Recording(part, recording.path, complete=False, planned=recording.planned, preview=None)
    latents = alone.x0(alone.reweight(guidance)).isel(step=-1, sample=[sample])
    return decoded(source, latents.values)[0]
