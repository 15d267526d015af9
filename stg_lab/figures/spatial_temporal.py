"""What spatial and temporal guidance each do (Hyung et al. 2025, figures 10 to 13)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from stg_lab import analysis
from stg_lab.analysis.directions import chosen_vectors
from stg_lab.errors import RecordingError
from stg_lab.figures.film import Film, Strip, check_frames, draw
from stg_lab.figures.pictures_at import caption, check_place, final, lettered, one_step
from stg_lab.figures.style import Width, inches
from stg_lab.given import Text, takes
from stg_lab.guidance import CFG, COND, STG, UNCOND, Guidance, Probe, Term, number
from stg_lab.recording import BESIDE, Name, Recording, as_source, baseline_text, recording_of
from stg_lab.sampling import Run
from stg_lab.weak import described, parse

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@takes(spatial=Text(), temporal=Text(), baseline=BESIDE)
def spatial_temporal(
    source: Run | Recording | Name,
    *,
    spatial: str | None = None,
    temporal: str | None = None,
    baseline: Run | Recording | None = None,
    step: int | None = None,
    sample: int = 0,
    frames: int | None = None,
    width: Width = "page",
) -> Figure:
    """One-step predictions with the spatial and the temporal weak model, and with guidance away from one and both.

    Rows: the conditional prediction, the spatial and the temporal weak model, CFG, CFG and the spatial vector, CFG and both
    vectors (the paper's eq. 20), and the final videos that are there. Guided rows start from this run's own latents, so they
    differ by their guidance alone. The title gives the angle between the two vectors.

    Args:
        source: a run, a recording, or the path or name of one, that holds a spatial and a temporal weak model.
        spatial, temporal: their branches; by default the first weak model along each axis.
        baseline: the same call with CFG alone, for its final video. A run samples it when it is not given; a recording
            cannot, and leaves the row out.
        step: which step, from 0; by default a third of the way.
        sample: which sample of the batch.
        frames: how many frames to show, spread over the clip; by default at most 10, or 5 in a column.
        width: "page", "column", or inches.

    Returns:
        A matplotlib figure; `lab.figures.save(figure, "spatial_temporal")` writes PDF and PNG.

    Raises:
        GuidanceError: no spatial or no temporal weak model in the recording.
        RecordingError: the step or sample is out of range, one of the two was not computed at the step, or a recording
            without a model cannot be decoded.
        CallError: a width or a number of frames that cannot be.
    """
    shown: Run | Recording = as_source(source)
    recording = recording_of(shown)
    inches(width)
    check_frames(frames)
    step = check_place(recording, step, sample)
    if spatial is None or temporal is None:
        found = analysis.space_and_time(recording)
        spatial, temporal = spatial or found[0], temporal or found[1]
    chosen_vectors(recording, (spatial, temporal))
    if baseline is None and isinstance(shown, Run):
        baseline = shown.baseline
    rows = _rows(shown, recording, baseline, (spatial, temporal), step, sample)
    labels = lettered([label for label, _ in rows])
    strips = [Strip(label, (clip,)) for label, (_, clip) in zip(labels, rows, strict=True)]
    seen = analysis.angles(recording, spatial, temporal)
    angle = float(seen.angle.values[0, 1, step, sample])
    title = f"{caption(recording, step, sample)}; spatial and temporal vector at {angle:.0f}°"
    return draw(Film(title, strips), width, frames)


def _rows(
    source: Run | Recording,
    recording: Recording,
    baseline: Run | Recording | None,
    pair: tuple[str, str],
    step: int,
    sample: int,
) -> list[tuple[str, np.ndarray]]:
    """Label and clip `(frame, height, width, 3)` of each row."""
    rows = [("conditional", one_step(source, COND, step, sample))]
    for name in pair:
        if np.isnan(recording.prediction(name).isel(step=step, sample=sample).values).any():
            raise RecordingError(
                f"{name} was not computed at step {step}, so there is nothing to show. Choose another step."
            )
        rows.append((f"weak model: {described(recording.weak[name])}", one_step(source, name, step, sample)))
    total, words = _cfg(recording), "cond"
    if total:
        words = f"CFG\u00a0{_weight(total[0])}"
        rows.append((words, _guided(source, recording, total, step, sample)))
    for axis, name in zip(("spatial", "temporal"), pair, strict=True):
        term = _term(recording, name)
        total, words = [*total, term], f"{words} +\u00a0{_weight(term)}\u00a0×\u00a0{axis}"
        rows.append((words, _guided(source, recording, total, step, sample)))
    if baseline is not None:
        rows.append((f"final video, {baseline_text(baseline, recording)}", final(baseline, sample)))
    if recording.complete:
        rows.append((f"final video, {_acted(recording, pair)}", final(source, sample)))
    return rows


def _guided(source: Run | Recording, recording: Recording, terms: list[Term], step: int, sample: int) -> np.ndarray:
    return one_step(source, recording.reweight(Guidance(tuple(terms))), step, sample)


def _recorded(recording: Recording) -> tuple[Term, ...]:
    values = recording.settings.get("guidance")
    return Guidance.from_dict(values, parse).terms if values else ()


def _cfg(recording: Recording) -> list[Term]:
    """The run's own CFG; none where it had none."""
    own: list[Term] = [term for term in _recorded(recording) if term.weak_model is None]
    scale = recording.settings.get("guidance_scale") or 1
    return own or ([CFG(scale)] if UNCOND in recording.branches and scale > 1 else [])


def _term(recording: Recording, name: str) -> Term:
    """The run's own term away from a weak model; scale 1 where it was only looked at."""
    weak = parse(recording.weak[name])
    own = next((term for term in _recorded(recording) if term.weak_model == weak), Probe(weak))
    return STG(1.0, weak) if isinstance(own, Probe) else replace(own, rules=())


def _weight(term: Term) -> str:
    return number(term.scale) if isinstance(term.scale, int | float) else "scheduled"


def _acted(recording: Recording, pair: tuple[str, str]) -> str:
    """What the sampler used, in the words of the rows."""
    weak = {str(term.weak_model) for term in _recorded(recording) if not isinstance(term, Probe)}
    axes = [axis for axis, name in zip(("spatial", "temporal"), pair, strict=True) if recording.weak[name] in weak]
    return " + ".join([*(["CFG"] if _cfg(recording) else []), *axes]) or "as sampled"
