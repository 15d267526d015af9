"""A sweep of `lab.ablate` as its analyses take it: opened, with all its dimensions, and checked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from stg_lab.errors import CallError, RecordingError, did_you_mean
from stg_lab.given import shown
from stg_lab.guidance.scores import SCORES
from stg_lab.recording import ablation_preview, open_ablation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MODEL = ("layer", "part", "axis")
DIMS = ("step", *MODEL, "sample")
SIGNED = (
    "cosine_cfg",
    "cosine_cond",
    "sharpness_lost",
)  # scores whose zero means something: colours diverge from there
COORDS = {"weak": MODEL, "timestep": ("step",), "sigma": ("step",), "seed": ("sample",), "caption": ("sample",)}
#: The dimensions that each variable of a sweep has, beside those of its latents.
OWN = {
    **dict.fromkeys((*SCORES, "nothing_changed", "x0"), DIMS),
    **dict.fromkeys(("x0_cond", "x0_uncond"), ("step", "sample")),
    "why": MODEL,
    **COORDS,
}


def sweep_of(sweep: xr.Dataset | str | Path) -> xr.Dataset:
    """A sweep with the dimensions (step, layer, part, axis, sample), also where one was selected from it.

    Args:
        sweep: of `lab.ablate` or `lab.open_ablation`, or its path, or the name of one that ships.

    Raises:
        CallError: neither.
        RecordingError: there is no such sweep.
    """
    if isinstance(sweep, str | Path):
        sweep = open_ablation(sweep)
    lacks = [n for n in SCORES if n not in sweep] if isinstance(sweep, xr.Dataset) else list(SCORES)
    if lacks:
        kind = (
            f"a Dataset without {', '.join(lacks)}"
            if isinstance(sweep, xr.Dataset)
            else f"a {type(sweep).__name__}: {shown(sweep)}"
        )
        raise CallError(
            f"give a sweep of lab.ablate(...), or its path or name, got {kind}. Type for example lab.open_ablation('layers')."
        )
    for name in [n for n in OWN if n in sweep.variables]:
        lost = [dim for dim in OWN[name] if dim not in sweep[name].dims and (dim in sweep.coords or dim == "sample")]
        if lost:  # one was selected
            sizes = {dim: np.atleast_1d(sweep[dim].values) if dim != "sample" else 1 for dim in lost}
            whole = sweep[name].reset_coords(drop=True).expand_dims(sizes).transpose(*OWN[name], ...)
            add = xr.Dataset.assign_coords if name in COORDS else xr.Dataset.assign
            sweep = add(sweep.drop_vars(name), {name: whole})
    gone = [dim for dim in DIMS if dim not in sweep.rms.dims]
    if gone or not all(sweep.sizes[dim] for dim in DIMS):
        raise CallError(
            f"this sweep has no {', '.join(gone) or 'weak model'} left. Give the whole one of lab.ablate(...)."
        )
    return sweep


def check_score(score: str) -> str:
    """The name of a score.

    Raises:
        CallError: there is none of that name.
    """
    if not isinstance(score, str) or score not in SCORES:
        raise CallError(
            f"score {shown(score)} is unknown.{did_you_mean(score, SCORES)} There are: {', '.join(SCORES)}."
        )
    return score


def check_step(ds: xr.Dataset, step: int | None) -> int:
    """One of a sweep's steps; its last where nothing is said.

    Raises:
        RecordingError: it has no such step.
    """
    known = [int(one) for one in ds.step.values]
    if step is not None and step not in known:
        raise RecordingError(f"step {step} is not in this sweep. It has: {', '.join(map(str, known))}.")
    return known[-1] if step is None else step


def score_table(ds: xr.Dataset, score: str, step: int) -> tuple[np.ndarray, list[tuple[str, str]]]:
    """Mean over the samples of a score at a step, `(column, layer)`, and the (part, axis) of each column; NaN where there is
    no weak model."""
    shown = columns(ds)
    means = ds[score].sel(step=step).mean("sample")
    rows = [means.sel(part=part, axis=axis).transpose("layer").values for part, axis in shown]
    return np.array(rows, float).reshape(len(shown), ds.sizes["layer"]), shown


def cells(ds: xr.Dataset) -> Iterator[tuple[dict[str, int], str]]:
    """Where each weak model of a sweep lies, by number along (layer, part, axis), and its specification; "" where none is."""
    for index in np.ndindex(*(ds.sizes[d] for d in MODEL)):
        at = dict(zip(MODEL, map(int, index), strict=True))
        yield at, str(ds.weak.transpose(*MODEL).values[index])


def columns(ds: xr.Dataset) -> list[tuple[str, str]]:
    """The (part, axis) that have a weak model in at least one layer, in order."""
    weak = ds.weak.transpose("part", "axis", "layer").values
    return [
        (str(p), str(a))
        for i, p in enumerate(ds.part.values)
        for j, a in enumerate(ds.axis.values)
        if (weak[i, j] != "").any()
    ]


def column_name(part: str, axis: str) -> str:
    """A column's name in few words: the axis is left out where it is joint."""
    words = part.replace("_", " ")
    return words if axis == "joint" else f"{words}, {axis}"


def one_step_videos(ds: xr.Dataset, name: str, at: Mapping[str, int] | None = None) -> np.ndarray:
    """One-step predictions as pictures, by the sweep's own preview.

    Args:
        ds: a sweep with all its dimensions, see `sweep_of`.
        name: "x0_cond", "x0_uncond", or "x0" with `at`.
        at: numbers along (layer, part, axis).

    Returns:
        float32 `(step, sample, frame, height, width, 3)` in [0, 1]; NaN where a pass was not made.

    Raises:
        RecordingError: the sweep kept no such predictions, or carries no preview.
    """
    if name not in ds:
        raise RecordingError(f"this sweep holds no {name}. Make one with lab.ablate(..., keep_x0=True).")
    preview = ablation_preview(ds)
    if preview is None:
        raise RecordingError(
            "this sweep carries no preview of its latents, so its predictions cannot be shown without the model. Decode them "
            "with it: lab.decode(pipe, ds.x0_cond[0].values)."
        )
    x0 = (ds[name] if at is None else ds[name].isel(at)).transpose("step", "sample", ...).values.astype(np.float32)
    missing = np.isnan(x0).any((2, 3, 4, 5))
    videos = np.stack([preview.decode(np.nan_to_num(one)) for one in x0])
    videos[missing] = np.nan
    return videos
