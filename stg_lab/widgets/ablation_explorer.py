"""The ablation explorer: every weak model of a sweep in one grid, two of them side by side, and the shortlist."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from stg_lab.analysis import Advice, Candidate, advise
from stg_lab.analysis.sweep import MODEL, SIGNED, cells, check_score, column_name, columns, one_step_videos, sweep_of
from stg_lab.errors import CallError, RecordingError, did_you_mean
from stg_lab.given import Text, takes
from stg_lab.guidance import COND, UNCOND
from stg_lab.guidance.scores import SCORES
from stg_lab.palette import colour
from stg_lab.recording import ablation_preview
from stg_lab.weak import described
from stg_lab.weak import parse as parse_weak
from stg_lab.widgets.base import Explorer, Sampled, module, style
from stg_lab.widgets.outcomes import Outcomes
from stg_lab.widgets.sprites import GAINS, sheet_png, shrunk
from stg_lab.widgets.still import Still, Strip, cut

if TYPE_CHECKING:
    import xarray as xr

BUDGET = 24_000_000  # pixels of all sheets; above it pictures are made smaller


class AblationExplorer(Sampled, Explorer):
    """Scores and one-step predictions of a sweep, all on board. Make it with `ablation_explorer`.

    Attributes:
        step: which of the sweep's steps is shown, as the scheduler counts them.
        sample: the sample that is shown, from 0.
        score: the score that colours the grid.
        cell: specification of the chosen weak model, such as "skip:block:4", or its place where there is none.
        pinned: another one to compare it to, or "".
        gain: what the vector's pixels are multiplied by.
        view, arrays, sheets: what is shown; fixed.
    """

    _esm, _css = module("ablation_explorer"), style("ablation_explorer")
    STATE = ("step", "sample", "score", "cell", "pinned", "gain")

    step = traitlets.Int(0).tag(sync=True)
    score = traitlets.Unicode("sharpness_lost").tag(sync=True)
    cell = traitlets.Unicode("").tag(sync=True)
    pinned = traitlets.Unicode("").tag(sync=True)
    gain = traitlets.Float(1.0).tag(sync=True)

    @traitlets.validate("step")
    def _check_step(self, proposal: Any) -> int:
        steps = [one["step"] for one in self.view["steps"]]
        if proposal["value"] not in steps:
            raise CallError(f"step {proposal['value']} is not in this sweep. It has: {', '.join(map(str, steps))}.")
        return proposal["value"]

    @traitlets.validate("score")
    def _check_score(self, proposal: Any) -> str:
        known = [one["name"] for one in self.view["scores"]]
        return proposal["value"] if proposal["value"] in known else check_score(proposal["value"])

    @traitlets.validate("cell", "pinned")
    def _check_cell(self, proposal: Any) -> str:
        known = [cell["name"] for cell in self.view["cells"]]
        name = proposal["value"]
        if name not in known and not (proposal["trait"].name == "pinned" and name == ""):
            raise CallError(f"{name!r} is not in this sweep.{did_you_mean(name, known)} Such as {known[0]!r}.")
        return name

    @traitlets.validate("gain")
    def _check_gain(self, proposal: Any) -> float:
        if not 0 < proposal["value"] <= 1000:
            raise CallError(f"gain is a number above 0 and at most 1000, got {proposal['value']}.")
        return proposal["value"]

    def still(self) -> Still | None:
        """The chosen weak model's prediction beside the model's own, at the step and sample that are shown."""
        step = [one["step"] for one in self.view["steps"]].index(self.step)
        words = {cell["name"]: cell["words"] for cell in self.view["cells"]} | {COND: COND, UNCOND: UNCOND}
        names = [name for name in (COND, UNCOND, self.cell, self.pinned) if f"{name}/{self.sample}" in self.sheets]
        weak = [self.cell, self.pinned]
        strips = [
            Strip(words[name], colour(name, weak), cut(self.sheets[f"{name}/{self.sample}"], self.view["height"], step))
            for name in names
        ]
        return Still(f"A weak model of a sweep at step {self.step}, {self.caption}", strips) if strips else None

    def __repr__(self) -> str:
        view = self.view
        return (
            f"AblationExplorer({len(view['cells'])} weak models x {len(view['steps'])} steps x {len(view['samples'])} "
            f"samples, at {self.cell})"
        )


@takes(score=Text(), cell=Text(), pinned=Text())
def ablation_explorer(
    sweep: xr.Dataset | str | Path,
    *,
    score: str = "sharpness_lost",
    cell: str | None = None,
    pinned: str = "",
    outcomes: Any = None,
) -> AblationExplorer:
    """Look through a sweep: which weak model does what, and which are worth a test.

    The grid has a button for each layer x (part, axis), coloured by a score; where there is no weak model it is hatched, and
    says why. A chosen cell shows its one-step prediction beside those of `cond` and `uncond`, its guidance vector in pixels,
    and all its scores; a pinned one stays beside it. The shortlist is `lab.advise`'s, over all states of the sweep.

    Args:
        sweep: of `lab.ablate` or `lab.open_ablation`, or its path, or the name of one that ships. Without one-step predictions
            (`keep_x0=False`), or without a preview of its latents, it shows grid, scores and shortlist.
        score: one of `stg_lab.guidance.scores.SCORES`, or "measured: NAME" of `outcomes`.
        cell: specification of the weak model to show first; the first of the shortlist by default.
        pinned: specification of one to compare it to.
        outcomes: what `lab.search` found of weak models of this sweep: its first score colours the grid as "measured: NAME" and
            stands among the scores, with intervals among the reasons.

    Returns:
        A widget; its state (`step`, `sample`, `score`, `cell`, `pinned`, `gain`) can be set from Python.

    Raises:
        CallError: not a sweep, or no such score or cell.
        RecordingError: there is no such sweep at a path.

    >>> ablation_explorer("layers")  # doctest: +SKIP
    """
    ds = sweep_of(sweep)
    measured = Outcomes(outcomes)
    if not (measured.name and score == measured.score["name"]):
        check_score(score)
    advice = advise(ds)
    grid = _cells(ds, advice)
    for one in grid:
        _tell(one, measured)
    sheets, shape, gain, why = _pictures(ds, grid)
    view = {
        "steps": [
            {"step": int(s), "sigma": _finite(ds.sigma.values[k]), "timestep": _finite(ds.timestep.values[k])}
            for k, s in enumerate(ds.step.values)
        ],
        "samples": _samples(ds),
        "guidance": str(ds.attrs.get("arguments", {}).get("guidance") or ""),
        "preview": _preview_note(ds),
        "layers": [int(layer) for layer in ds.layer.values],
        "columns": [column_name(*column) for column in columns(ds)],
        "cells": grid,
        "scores": [{"name": name, **SCORES[name].attrs(), "signed": name in SIGNED} for name in SCORES]
        + ([measured.score] if measured.name else []),
        "advice": {
            "basis": advice.basis,
            "asked": advice.asked,
            "count": len(advice),
            "met": len(advice.shortlist),
            "told": advice.told,
        },
        "shortlist": [_candidate(one) for one in advice.shown],
        "why": why,
        "gains": list(GAINS),
        **shape,
    }
    first = cell or (advice[0].weak if len(advice) else grid[0]["name"])
    state = {"step": int(ds.step.values[-1]), "score": score, "cell": first, "pinned": pinned, "gain": float(gain)}
    return AblationExplorer(view, sheets, _numbers(ds, grid, measured), **state)


def _cells(ds: xr.Dataset, advice: Advice) -> list[dict[str, Any]]:
    """Every place of the grid, by column and layer, with what was found of it."""
    places, known = columns(ds), {one.weak: one for one in advice}
    found = []
    for at, specification in cells(ds):
        column = (str(ds.part.values[at["part"]]), str(ds.axis.values[at["axis"]]))
        if column not in places:
            continue  # no layer has it
        layer = int(ds.layer.values[at["layer"]])
        name = specification or f"{layer} {' '.join(column)}"
        candidate = known.get(specification)
        found.append(
            {
                "name": name,
                "at": [at[d] for d in MODEL],
                "layer": layer,
                "column": places.index(column),
                "words": described(specification) if specification else f"{column_name(*column)} of block {layer}",
                "typed": repr(parse_weak(specification)) if specification else "",
                "why": "" if candidate else advice.left_out.get(name, "there is no such weak model"),
                "advice": None if candidate is None else _candidate(candidate),
            }
        )
    return found


def _candidate(one: Candidate) -> dict[str, Any]:
    return {
        "name": one.weak,
        "rank": one.rank,
        "typed": one.typed,
        "words": described(one.weak),
        "met": one.met,
        "of": len(one.held),
        "once": one.at_once,
        "change": one.scores["x0_distance"].mean,
        "along": _finite(one.scores["cosine_cfg"].mean),
        "for": list(one.reasons_for),
        "against": list(one.reasons_against),
    }


def _tell(cell: dict[str, Any], measured: Outcomes) -> None:
    """Put what was measured before the reasons of a cell."""
    told = measured.words(cell["name"])
    if told is not None and cell["advice"] is not None:
        words, speaks_for = told
        cell["advice"]["for" if speaks_for else "against"].insert(0, words)


def _numbers(ds: xr.Dataset, grid: list[dict[str, Any]], measured: Outcomes) -> dict[str, np.ndarray]:
    """Scores `(score, step, sample, cell)`; NaN where there are none. What was measured is the same at every step and sample."""
    stacked = np.stack([ds[name].transpose("step", "sample", *MODEL).values for name in SCORES])
    scores = np.stack([stacked[(..., *cell["at"])] for cell in grid], axis=-1)
    if measured.name:
        own = np.broadcast_to(measured.values([cell["name"] for cell in grid]), (1, *scores.shape[1:]))
        scores = np.concatenate([scores, own])
    return {"scores": scores}


def _pictures(ds: xr.Dataset, grid: list[dict[str, Any]]) -> tuple[dict[str, bytes], dict[str, Any], float, str]:
    """Sheets by "row/sample", the size of a picture, the gain that shows vectors best, and why there are none."""
    try:
        videos = {COND: one_step_videos(ds, "x0_cond")}
        if "x0_uncond" in ds:
            videos[UNCOND] = one_step_videos(ds, "x0_uncond")
    except RecordingError as error:
        return {}, {"frames": 0, "height": 1, "width": 1, "shrink": 1}, 1.0, str(error)
    there = [cell for cell in grid if not cell["why"]] if "x0" in ds else []
    steps, samples, frames, height, width, _ = videos[COND].shape
    pixels = (len(there) + len(videos)) * steps * samples * frames * height * width
    shrink = max(1, math.ceil(math.sqrt(pixels / BUDGET)))
    videos |= {cell["name"]: one_step_videos(ds, "x0", dict(zip(MODEL, cell["at"], strict=True))) for cell in there}
    sheets = {
        f"{name}/{i}": sheet_png(shrunk(video[:, i], shrink)) for name, video in videos.items() for i in range(samples)
    }
    strong = [np.nanquantile(np.abs(v - videos[COND])[..., ::3, ::3, :], 0.99) for n, v in videos.items() if n != COND]
    gain = max((g for g in GAINS if g * float(np.median(strong or [1])) <= 0.6), default=1)
    why = "" if "x0" in ds else "this sweep kept scores alone; lab.ablate(..., keep_x0=True) keeps predictions too"
    return sheets, {"frames": frames, "height": height // shrink, "width": width // shrink, "shrink": shrink}, gain, why


def _samples(ds: xr.Dataset) -> list[dict[str, Any]]:
    captions = ds.caption.values if "caption" in ds.coords else [""] * ds.sizes["sample"]
    seeds = ds.seed.values if "seed" in ds.coords else [None] * ds.sizes["sample"]
    return [{"caption": str(c), "seed": None if s is None else int(s)} for c, s in zip(captions, seeds, strict=True)]


def _preview_note(ds: xr.Dataset) -> str:
    preview = ablation_preview(ds)
    return "" if preview is None or preview.exact else f"linear preview of the latents, R² {preview.r2:.2f}"


def _finite(value: Any) -> float | None:
    """JSON has no NaN."""
    return float(value) if np.isfinite(value) else None
