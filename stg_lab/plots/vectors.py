"""Guidance vectors taken apart: lengths by frame and channel, parts, spectra, and where in the picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from stg_lab import analysis, palette
from stg_lab.analysis.vectors import ONTO
from stg_lab.errors import CallError, RecordingError
from stg_lab.given import Text, takes
from stg_lab.guidance import GUIDED, UNCOND
from stg_lab.recording import Source, recording_of

if TYPE_CHECKING:
    import plotly.graph_objects as go

DIRECTIONS = {"cond": "cond", "x0": "x0 of cond", "cfg": "CFG's vector"}


@takes(over=Text())
def vector_lengths(recording: Source, over: str = "frame", *, sample: int = 0, height: int = 300) -> go.Figure:
    """How long every guidance vector is in each frame or channel at every step: a heat map for each vector.

    Args:
        recording: what to plot.
        over: "frame" or "channel", of the latents.
        sample: which sample of the batch.
        height: of the figure, in pixels.

    Returns:
        A plotly figure of RMS; colours run from 0 to the largest value of each vector.

    Raises:
        CallError: `over` is neither.
        RecordingError: no guidance vector, or no such sample.
    """
    recording = recording_of(recording)
    if over not in ("frame", "channel"):
        raise CallError(f"over is 'frame' or 'channel', got {over!r}.")
    values = _sample(analysis.vector_lengths(recording)[f"{over}s"], sample)
    names = _names(values)
    figure = _panels([_short(n) for n in names], height)
    for column, name in enumerate(names, 1):
        figure.add_heatmap(
            z=values.sel(vector=name).transpose(over, "step").values,
            x=values.step.values,
            zmin=0,
            colorscale="Viridis",
            showscale=False,
            hovertemplate=f"{over} %{{y}}, step %{{x}}: %{{z:.3f}}<extra>{_label(name)}</extra>",
            row=1,
            col=column,
        )
        figure.update_xaxes(title_text="step", row=1, col=column)
    figure.update_yaxes(title_text=f"latent {over}", row=1, col=1)
    return figure


@takes(onto=Text())
def vector_parts(recording: Source, onto: str = "x0", *, height: int = 360) -> go.Figure:
    """The parts of every guidance vector along a direction and orthogonal to it, over the steps; means over samples.

    Args:
        recording: what to plot.
        onto: "cond" (the conditional prediction), "x0" (the conditional one-step prediction) or "cfg" (CFG's vector).
        height: of the figure, in pixels.

    Returns:
        A plotly figure with the signed RMS of the parallel parts on the left and the RMS of the rest on the right.

    Raises:
        CallError: `onto` is none of these.
        RecordingError: no guidance vector, or no `uncond` for "cfg".
    """
    recording = recording_of(recording)
    if onto not in ONTO:
        raise CallError(f"onto is {', '.join(map(repr, ONTO))}, got {onto!r}.")
    if onto == "cfg" and UNCOND not in recording.branches:
        raise RecordingError("this recording has no CFG vector: no branch 'uncond'. Use onto='cond' or onto='x0'.")
    parts = analysis.vector_parts(recording).sel(onto=onto).mean("sample", skipna=False)
    figure = _panels([f"along {DIRECTIONS[onto]}", "orthogonal to it"], height)
    for column, values in enumerate((parts.parallel, parts.orthogonal), 1):
        _lines(figure, values, values.step.values, column, "step %{x}<br>%{y:.4f}")
        figure.update_xaxes(title_text="step", row=1, col=column)
    figure.update_yaxes(title_text="RMS of the part", row=1, col=1)
    figure.update_yaxes(zeroline=True, zerolinecolor="#888")
    return figure


@takes()
def vector_spectra(recording: Source, *, step: int, sample: int = 0, height: int = 380) -> go.Figure:
    """Power spectra of every guidance vector at one step, over space and over time.

    Args:
        recording: what to plot.
        step: which step.
        sample: which sample of the batch.
        height: of the figure, in pixels.

    Returns:
        A plotly figure of the mean power of a Fourier mode, on a logarithmic axis; flat is white noise.

    Raises:
        RecordingError: no guidance vector, or no such step or sample.
    """
    recording = recording_of(recording)
    found = analysis.vector_spectra(recording)
    figure = _panels(["over space", "over time (0: what stays over the frames)"], height)
    for column, name in enumerate(("space", "time"), 1):
        axis = "radius" if name == "space" else "frequency"
        power = _sample(_step(found[name] / found[f"{name}_modes"], step), sample).transpose("vector", axis)
        _lines(figure, power, found[axis].values, column, "%{x:.3f}<br>%{y:.2e}")
        figure.update_xaxes(title_text=found[axis].attrs["units"], row=1, col=column)
    figure.update_yaxes(type="log", exponentformat="power", dtick=1)
    figure.update_yaxes(title_text="mean power of a mode", row=1, col=1)
    return figure


@takes()
def vector_map(recording: Source, *, step: int, sample: int = 0, frames: int = 5, height: int = 0) -> go.Figure:
    """Where in the picture every guidance vector points at one step: rows are vectors, columns frames.

    Args:
        recording: one that can be shown without a model.
        step: which step.
        sample: which sample of the batch.
        frames: how many frames, spread over the video.
        height: of the figure, in pixels; 0 fits it to the rows.

    Returns:
        A plotly figure: how much each vector at weight 1 changes each pixel, RMS over its colours. Each row has its own
        range of colours up to its 99th percentile, said in its name.

    Raises:
        RecordingError: no guidance vector, no such step or sample, or latents that cannot be shown without a model.
    """
    recording = recording_of(recording)
    values = _sample(_step(analysis.vector_map(recording, pixels=True), step), sample)
    values = values.sel(vector=[name for name in _names(values) if not bool(np.isnan(values.sel(vector=name)).any())])
    names = _names(values)
    picks = np.unique(np.linspace(0, values.sizes["picture"] - 1, max(frames, 1)).round().astype(int))
    figure = _panels([f"frame {k}" for k in picks], height or 60 + 130 * len(names), rows=len(names))
    for row, name in enumerate(names, 1):
        mine = values.sel(vector=name)
        high = float(np.quantile(mine, 0.99)) or 1.0
        for column, k in enumerate(picks, 1):
            figure.add_heatmap(
                z=mine.isel(picture=int(k)).values.astype(np.float32),
                zmin=0,
                zmax=high,
                colorscale="Viridis",
                showscale=False,
                hovertemplate=f"x %{{x}}, y %{{y}}: %{{z:.3f}}<extra>{_label(name)}</extra>",
                row=row,
                col=column,
            )
        figure.update_yaxes(title_text=f"{_short(name)}<br>0 to {high:.2g}", row=row, col=1)
    figure.update_xaxes(showticklabels=False)
    figure.update_yaxes(showticklabels=False, autorange="reversed")
    return figure


def _panels(titles: list[str], height: int, *, rows: int = 1) -> Any:
    from plotly.subplots import make_subplots

    figure = make_subplots(
        rows=rows,
        cols=len(titles),
        subplot_titles=titles,
        horizontal_spacing=min(0.08, 0.3 / len(titles)),
        vertical_spacing=0.02,
    )
    figure.update_annotations(font_size=13)
    return figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": 70, "r": 20, "t": 40, "b": 60 if rows == 1 else 20},
        legend={"orientation": "h", "yanchor": "top", "y": -0.2, "x": 0},
    )


def _lines(figure: Any, values: xr.DataArray, x: np.ndarray, column: int, hover: str) -> None:
    """A line a vector in a panel; one entry in the legend for all panels."""
    names = _names(values)
    for name in names:
        figure.add_scatter(
            x=x,
            y=values.sel(vector=name).values,
            name=_label(name),
            legendgroup=name,
            showlegend=column == 1,
            mode="lines+markers",
            line={
                "color": palette.vector_colour(name, names),
                "width": 2.5,
                "dash": "dot" if name == GUIDED else "solid",
            },
            marker={"size": 5},
            hovertemplate=f"{hover}<extra>{_label(name)}</extra>",
            row=1,
            col=column,
        )


def _names(values: xr.DataArray) -> list[str]:
    return [str(name) for name in values.vector.values]


def _label(name: str) -> str:
    return {UNCOND: "cond − uncond (CFG's vector)", GUIDED: "guided − cond (the whole push)"}.get(
        name, f"cond − {name}"
    )


def _short(name: str) -> str:
    return {UNCOND: "CFG", GUIDED: "whole push"}.get(name, name)


def _sample(values: xr.DataArray, sample: int) -> xr.DataArray:
    count = values.sizes["sample"]
    if not 0 <= sample < count:
        raise RecordingError(f"sample {sample} is out of range: this recording has samples 0 to {count - 1}.")
    return values.isel(sample=sample)


def _step(values: xr.DataArray, step: int) -> xr.DataArray:
    count = values.sizes["step"]
    if not 0 <= step < count:
        raise RecordingError(f"step {step} is out of range: this recording has steps 0 to {count - 1}.")
    return values.isel(step=step)
