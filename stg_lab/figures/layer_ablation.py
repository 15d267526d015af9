"""What skipping each layer does, in one picture (after Hyung et al. 2025, figure 9)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stg_lab.analysis.sweep import (
    SIGNED,
    check_score,
    check_step,
    column_name,
    one_step_videos,
    score_table,
    sweep_of,
)
from stg_lab.errors import CallError, RecordingError
from stg_lab.figures.style import NARROW, SMALL, TITLE, Sheet, Width, fitted, inches, said, scaled, spread, text_height
from stg_lab.given import Several, Text, Whole, takes
from stg_lab.guidance.scores import SCORES

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

GAP, NUMBER, LARGEST = 0.03, 0.15, 0.8  # inches: between tiles, a score's strip, a tile
MOST, LEAST = 12, 0.31  # layers that can be looked through at once; inches that the score of one needs


@takes(score=Text(), frame=Whole(), layers=Several(Whole()))
def layer_ablation(
    sweep: xr.Dataset | str | Path,
    *,
    score: str = "sharpness_lost",
    step: int | None = None,
    sample: int = 0,
    frame: int | None = None,
    layers: Sequence[int] | None = None,
    width: Width = "page",
) -> Figure:
    """One-step predictions of every weak model of a sweep, layers across, each over its score.

    The paper's figure 9 shows finished videos for three skipped layers; this shows, for all of them, what the weak model
    itself predicts at one step of the same run, which costs one pass each. A sweep without one-step predictions, or without
    a preview of its latents, gives the scores alone.

    Args:
        sweep: of `lab.ablate` or `lab.open_ablation`, or its path, or the name of one that ships.
        score: one of `stg_lab.guidance.scores.SCORES`; the mean over the samples at the step.
        step: one of the sweep's steps; its last by default.
        sample: which sample is shown.
        frame: which frame of it; the middle one by default.
        layers: which layers; by default all, or where they have no room (12 on a page, 8 in a column) as many spread evenly
            over all, and the title says how many there are.
        width: "page", "column", or inches.

    Returns:
        A matplotlib figure; `lab.figures.save(figure, "layer_ablation")` writes PDF and PNG.

    Raises:
        CallError: no sweep, no such score, or a width, layer or frame that cannot be.
        RecordingError: no such sweep at a path, or no such step or sample in it.
    """
    ds, score, total = sweep_of(sweep), check_score(score), inches(width)
    step = check_step(ds, step)
    if not 0 <= sample < ds.sizes["sample"]:
        raise RecordingError(f"sample {sample} is out of range: this sweep has samples 0 to {ds.sizes['sample'] - 1}.")
    known = [int(layer) for layer in ds.layer.values]
    most = min(MOST, int((total - _label(total)) / scaled(LEAST)))
    chosen = [known[i] for i in spread(len(known), most)] if layers is None else list(np.atleast_1d(layers))
    if not chosen or not set(chosen) <= set(known):
        raise CallError(f"layers={list(layers or [])} are not in this sweep. It has: {', '.join(map(str, known))}.")
    values, columns = score_table(ds, score, step)
    values = values[:, [known.index(layer) for layer in chosen]]
    tiles = _tiles(ds, step, sample, frame, [known.index(layer) for layer in chosen], columns)
    caption = str(ds.caption.values[sample]) if "caption" in ds.coords and tiles else ""
    what = "one-step predictions" if tiles else "weak models"
    title = f"{f'“{caption}”, ' if caption else ''}{what} at step {step}, σ = {float(ds.sigma.sel(step=step)):.2f}"
    title = title[0].upper() + title[1:]
    if layers is None and len(chosen) < len(known):
        title += f", {len(chosen)} of {len(known)} layers"
    count = f", mean of {ds.sizes['sample']} samples" if ds.sizes["sample"] > 1 else ""
    names = [column_name(*column) for column in columns]
    return _draw(values, names, chosen, tiles, title, f"{SCORES[score].long_name}{count}", score in SIGNED, total)


Tiles = dict[Any, np.ndarray]  # a picture (height, width, 3) by (column, layer) numbers, "cond" or "uncond"


def _tiles(
    ds: xr.Dataset, step: int, sample: int, frame: int | None, layers: list[int], columns: list[tuple[str, str]]
) -> Tiles:
    """The pictures that there are; none where the sweep holds none."""
    state = ds.sel(step=[step]).isel(sample=[sample])
    found: Tiles = {}
    try:
        clips = {"cond": one_step_videos(state, "x0_cond")}
        if "x0_uncond" in ds:
            clips["uncond"] = one_step_videos(state, "x0_uncond")
        for c, (part, axis) in enumerate(columns if "x0" in ds else []):
            there = {"part": list(ds.part.values).index(part), "axis": list(ds.axis.values).index(axis)}
            for k, layer in enumerate(layers):
                clip = one_step_videos(state, "x0", {"layer": layer, **there})
                if np.isfinite(clip).all():
                    clips[c, k] = clip  # type: ignore[index]
    except RecordingError:
        return {}
    count = clips["cond"].shape[2]
    if frame is not None and not 0 <= frame < count:
        raise CallError(f"frame {frame} is out of range: the pictures are 0 to {count - 1}.")
    for name, clip in clips.items():
        found[name] = clip[0, 0, count // 2 if frame is None else frame]
    return found if any(isinstance(name, tuple) for name in found) else {}


def _draw(
    values: np.ndarray,
    names: list[str],
    layers: list[int],
    tiles: Tiles,
    title: str,
    score: str,
    signed: bool,
    width: float,
) -> Figure:
    label = _label(width)
    names = [fitted(said(name), label - 0.1) for name in names]
    pitch = min((width - label - 0.05) / len(layers), LARGEST)
    side = pitch - GAP
    ratio = tiles["cond"].shape[0] / tiles["cond"].shape[1] if tiles else 0.0
    strip, line = scaled(NUMBER), scaled(0.2)
    row = side * ratio + strip + 0.05
    title = fitted(said(title), width - 0.1, TITLE)
    head = 0.08 + text_height(title, TITLE)
    left = label + (2 * pitch + 0.15 if tiles else 0.0)
    score = fitted(said(f"{score[0].upper()}{score[1:]}"), width - left - 0.1)
    top = head + (
        max(line + 0.12 + side * ratio, line + 0.27 + text_height(score)) if tiles else line + 0.22 + text_height(score)
    )
    sheet = Sheet(width, top + line + row * len(names) + 0.05)
    sheet.text(0.05, 0.05, title, size=TITLE, ha="left", va="top")
    for k, name in enumerate([n for n in ("cond", "uncond") if n in tiles]):
        sheet.text(label + k * pitch + side / 2, head + 0.6 * line, said(name), size=SMALL, ha="center", va="center")
        sheet.picture(label + k * pitch, head + line, side, side * ratio, tiles[name])
    colours, low, high = _colours(values, signed)
    _bar(
        sheet,
        left,
        head + (line + 0.02 if tiles else 0.08),
        min(scaled(1.3), width - left - 0.3),
        score,
        colours,
        low,
        high,
    )
    for k, layer in enumerate(layers):
        words = said(f"layer {layer}") if k == 0 and side > scaled(0.35) else str(layer)
        sheet.text(label + k * pitch + side / 2, top + 0.65 * line, words, size=SMALL, ha="center", va="baseline")
    for r, name in enumerate(names):
        y = top + line + r * row
        sheet.text(label - 0.07, y + (side * ratio + strip) / 2, name, ha="right", va="center")
        for k in range(len(layers)):
            x = label + k * pitch
            if (r, k) in tiles:
                sheet.picture(x, y, side, side * ratio, tiles[r, k])
            _number(sheet, x, y + side * ratio, side, values[r, k], colours((values[r, k] - low) / (high - low or 1)))
    return sheet.figure


def _label(width: float) -> float:
    """Inches of the column of names."""
    return scaled(0.95 if width >= NARROW else 0.7)


def _colours(values: np.ndarray, signed: bool) -> tuple[Any, float, float]:
    """A colour map and its range; signed scores diverge from 0."""
    import matplotlib as mpl

    there = values[np.isfinite(values)]
    low, high = (float(there.min()), float(there.max())) if there.size else (0.0, 1.0)
    if signed:
        low, high = -max(abs(low), abs(high)), max(abs(low), abs(high))
    return mpl.colormaps["RdBu_r" if signed else "viridis"], low, high


def _number(sheet: Sheet, left: float, top: float, width: float, value: float, colour: Any) -> None:
    """A score on its colour; hatched where there is none."""
    axes = sheet.axes(left, top, width, scaled(NUMBER))
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    if not np.isfinite(value):
        axes.set_facecolor("#eeeeee")
        axes.patch.set_hatch("/////")
        axes.patch.set_edgecolor("#bbbbbb")
        return
    axes.set_facecolor(colour)
    red, green, blue, _ = colour
    ink = "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.55 else "white"
    digits = f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"
    sheet.text(left + width / 2, top + scaled(NUMBER) / 2, digits, size=SMALL, ha="center", va="center", color=ink)


def _bar(
    sheet: Sheet, left: float, top: float, width: float, score: str, colours: Any, low: float, high: float
) -> None:
    """What the colours mean."""
    sheet.text(left, top, score, ha="left", va="top")
    y = top + text_height(score) + 0.04
    strip = np.repeat(np.asarray(colours(np.linspace(0, 1, 64)))[None, :, :3], 2, axis=0)
    sheet.picture(left, y, width, 0.08, strip)
    sheet.text(left, y + 0.08 + scaled(0.07), f"{low:.2f}", size=SMALL, ha="left", va="center")
    sheet.text(left + width, y + 0.08 + scaled(0.07), f"{high:.2f}", size=SMALL, ha="right", va="center")
