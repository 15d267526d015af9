"""Angles between guidance vectors, what eq. 21 removes, and principal components, as plotly figures."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from stg_lab import analysis, palette
from stg_lab.analysis.directions import away_from, chosen_vectors, space_and_time, vector_label
from stg_lab.errors import GuidanceError
from stg_lab.given import Text, takes
from stg_lab.guidance import UNCOND
from stg_lab.recording import Recording, Source, check_number, recording_of

if TYPE_CHECKING:
    import plotly.graph_objects as go
    import xarray as xr

QUIET = "rgba(110, 118, 130, 0.9)"
DASHES = ("solid", "dash", "dot")


@takes(to=Text())
def angles(recording: Source, *names: str, to: str | None = None, cosine: bool = False, height: int = 400) -> go.Figure:
    """The angle between every two guidance vectors at every step: mean over samples, and a band for their range.

    A grey band says where random vectors of as many dimensions would lie: 90 degrees, or cosine 0, give or take two standard
    deviations of 1 / sqrt(n). With just two vectors a wider one says the same of vectors as smooth as they are
    (`analysis.shifted_cosine`).

    Args:
        recording: what to plot.
        names: branches that the vectors point away from. By default the spatial and temporal ones and CFG's where they were
            recorded, else all; with `to`, all.
        to: only angles to this vector, such as "uncond" for CFG's.
        cosine: cosines instead of degrees.
        height: of the figure, in pixels.

    Raises:
        GuidanceError: no such vector.
        RecordingError: fewer than two vectors.
    """
    recording = recording_of(recording)
    import plotly.graph_objects as go

    names = names or (tuple(away_from(recording)) if to else _usual(recording))
    chosen = chosen_vectors(recording, [*names, *([to] if to else [])])
    found = analysis.angles(recording, *chosen)
    data = found.cosine if cosine else found.angle
    pairs = [(a, b) for a, b in combinations(chosen, 2) if to is None or to in (a, b)]
    steps = recording.ds.step.values
    figure = go.Figure()
    for i, (a, b) in enumerate(pairs):
        lines = data.sel(vector=a, other=b)
        label = f"{vector_label(recording, a)} – {vector_label(recording, b)}"
        colour = palette.SERIES[i % len(palette.SERIES)]
        _line(figure, recording, lines, label, colour, DASHES[i // len(palette.SERIES) % 3], "" if cosine else "°")
    if len(pairs) == 1:
        spread = analysis.shifted_cosine(recording, *pairs[0])[0, 1].max("sample", skipna=True).values
        _chance(figure, steps, spread, "the same, moved elsewhere: 2 × RMS", 0.16, cosine)
    n = found.attrs["dimensions"]
    flat = np.full(len(steps), analysis.random_cosine(n))
    _chance(figure, steps, flat, f"random vectors, 2/√{n:,}".replace(",", "\u202f"), 0.4, cosine)
    figure.add_hline(y=0 if cosine else 90, line={"color": QUIET, "width": 1, "dash": "dash"})
    what = "Cosine" if cosine else "Angle"
    _layout(figure, recording, f"{what} between guidance vectors", "cosine" if cosine else "degrees", height)
    if not cosine:
        figure.update_yaxes(tickvals=list(range(0, 181, 15)))
    return figure


@takes(one=Text(), other=Text())
def angle_map(
    recording: Source, one: str | None = None, other: str | None = None, *, sample: int = 0, height: int = 300
) -> go.Figure:
    """The angle between two guidance vectors, latent frame by latent frame: frames as rows, steps as columns.

    Args:
        recording: what to plot.
        one, other: branches of the two; by default the spatial and the temporal one.
        sample: which sample of the batch.
        height: of the figure, in pixels.

    Raises:
        GuidanceError: no such vectors.
    """
    recording = recording_of(recording)
    import plotly.graph_objects as go

    check_number("sample", sample, recording.ds.sizes["sample"])
    one, other = _pair(recording, one, other)
    found = analysis.angles(recording, one, other)
    data = found.frame_angle.sel(vector=one, other=other).isel(sample=sample).transpose("frame", "step")
    spread = np.degrees(analysis.random_cosine(found.attrs["frame_dimensions"]))
    furthest = max(float(np.nanmax(np.abs(data.values - 90))), 1.0)
    heat = go.Heatmap(
        z=data.values,
        x=recording.ds.step.values,
        y=np.arange(data.sizes["frame"]),
        colorscale="RdBu_r",
        zmin=90 - furthest,
        zmax=90 + furthest,
        colorbar={"title": {"text": "degrees"}},
        hovertemplate="step %{x}, latent frame %{y}: %{z:.1f}°<extra></extra>",
    )
    figure = go.Figure(heat)
    names = f"{vector_label(recording, one)} and {vector_label(recording, other)}"
    _layout(figure, recording, f"Angle between {names}, frame by frame (random: 90 ± {spread:.1f}°)", "", height)
    figure.update_yaxes(title="latent frame", dtick=1, autorange="reversed")
    return figure


@takes(spatial=Text(), temporal=Text())
def removed(
    recording: Source, spatial: str | None = None, temporal: str | None = None, *, height: int = 340
) -> go.Figure:
    """What eq. 21 removes at every step: its share of the vector's energy, and of the vector's length.

    Args:
        recording: what to plot.
        spatial, temporal: branches of the two; by default the first weak model along each axis.
        height: of the figure, in pixels.

    Raises:
        GuidanceError: no such vectors.
    """
    recording = recording_of(recording)
    import plotly.graph_objects as go

    spatial, temporal = _pair(recording, spatial, temporal)
    found = analysis.removed(recording, spatial, temporal)
    figure = go.Figure()
    label = vector_label(recording, temporal)
    lines = (("of its energy, cos²", found.share, "#0072B2"), ("of its length, |cos|", found.share**0.5, "#D55E00"))
    for words, share, colour in lines:
        _line(figure, recording, 100 * share, words, colour, "solid", " %")
    title = f"What eq. 21 removes of the vector “{label}”"
    _layout(figure, recording, title, "removed, %", height)
    figure.update_yaxes(rangemode="tozero")
    return figure


@takes()
def components(
    recording: Source, *names: str, sample: int | None = None, unit: bool = False, height: int = 520
) -> go.Figure:
    """The guidance vectors' paths over the steps, in the plane of their two largest principal components.

    The cross is no guidance at all. Both axes have one scale, so that lengths and angles in the plane are what they are; how
    much of the vectors lies in it stands at the axes.

    Args:
        recording: what to plot.
        names: branches that the vectors point away from; all by default.
        sample: one sample, or None for all of them in one plane.
        unit: give every vector the length 1 first.
        height: of the figure, in pixels.

    Raises:
        GuidanceError: no such vector.
        RecordingError: no such sample, or fewer than two points.
    """
    recording = recording_of(recording)
    import plotly.graph_objects as go

    found = analysis.components(recording, *names, sample=sample, unit=unit)
    shown = [str(v) for v in found.vector.values]
    figure = go.Figure()
    for name in shown:
        for i in range(found.sizes["sample"]):
            path = found.score.sel(vector=name).isel(sample=i).values
            _path(figure, recording, name, path, vector_label(recording, name), first=i == 0)
    x, y = found.origin.values
    figure.add_scatter(
        x=[x],
        y=[y],
        mode="markers+text",
        marker={"symbol": "cross", "size": 11, "color": QUIET},
        text=["no guidance"],
        textposition="bottom center",
        textfont={"color": QUIET},
        hoverinfo="skip",
        showlegend=False,
    )
    shares = 100 * found.explained.values
    what = "directions (every vector of length 1)" if unit else "vectors"
    _layout(figure, recording, f"Principal components of the guidance {what}", "", height)
    figure.update_layout(hovermode="closest")
    figure.update_xaxes(title=f"component 1 ({shares[0]:.0f} % of the variance)", dtick=None, zeroline=False)
    figure.update_yaxes(title=f"component 2 ({shares[1]:.0f} %)", scaleanchor="x", zeroline=False)
    return figure


def _usual(recording: Recording) -> tuple[str, ...]:
    """CFG's, the spatial and the temporal vector; nothing, which means all, where they were not recorded."""
    try:
        pair = space_and_time(recording)
    except GuidanceError:
        return ()
    return tuple(name for name in away_from(recording) if name in (UNCOND, *pair))


def _pair(recording: Recording, one: str | None, other: str | None) -> tuple[str, str]:
    if one is not None and other is not None:
        chosen_vectors(recording, (one, other))
        return one, other
    spatial, temporal = space_and_time(recording)
    return one or spatial, other or temporal


def _line(
    figure: go.Figure, recording: Recording, lines: xr.DataArray, label: str, colour: str, dash: str, unit: str
) -> None:
    """Mean over samples at every step, with a band where there are several."""
    steps = recording.ds.step.values
    if lines.sizes["sample"] > 1:
        low, high = lines.min("sample").values, lines.max("sample").values
        _band(figure, steps, low, high, colour, 0.12)
    figure.add_scatter(
        x=steps,
        y=lines.mean("sample").values,
        name=label,
        mode="lines+markers",
        line={"color": colour, "width": 2.5, "dash": dash},
        marker={"size": 5},
        hovertemplate="%{y:.2f}" + unit,
    )


def _chance(figure: go.Figure, steps: np.ndarray, spread: np.ndarray, words: str, opacity: float, cosine: bool) -> None:
    """Where chance alone puts two vectors: two standard deviations of their cosine around a right angle."""
    bound = np.clip(2 * spread, 0, 1)
    middle, half = (0.0, bound) if cosine else (90.0, np.degrees(np.arcsin(bound)))
    there = np.isfinite(half)
    around = "" if np.ptp(half[there]) else f": {middle:g} ± {half[there][0]:.2g}" + ("" if cosine else "°")
    _band(figure, steps[there], middle - half[there], middle + half[there], QUIET, opacity, words + around)


def _band(
    figure: go.Figure, x: np.ndarray, low: np.ndarray, high: np.ndarray, colour: str, opacity: float, name: str = ""
) -> None:
    figure.add_scatter(
        x=np.concatenate([x, x[::-1]]),
        y=np.concatenate([high, low[::-1]]),
        fill="toself",
        fillcolor=colour,
        opacity=opacity,
        mode="lines",
        line={"width": 0, "color": colour},
        hoverinfo="skip",
        name=name,
        showlegend=bool(name),
    )


def _path(figure: go.Figure, recording: Recording, name: str, path: np.ndarray, label: str, *, first: bool) -> None:
    steps = recording.ds.step.values
    said = [str(k) if k in (steps[0], steps[-1]) else "" for k in steps]
    colour = palette.vector_colour(name, recording.branches)
    figure.add_scatter(
        x=path[:, 0],
        y=path[:, 1],
        name=label,
        legendgroup=name,
        showlegend=first,
        mode="lines+markers+text",
        line={"color": colour, "width": 2},
        marker={"size": np.linspace(10, 5, len(steps))},
        text=said,
        textposition="top center",
        textfont={"color": colour, "size": 11},
        customdata=np.stack([steps, recording.ds.sigma.values], axis=1),
        hovertemplate="step %{customdata[0]:.0f}, σ = %{customdata[1]:.3f}<extra>" + label + "</extra>",
    )


def _layout(figure: go.Figure, recording: Recording, title: str, ylabel: str, height: int) -> None:
    steps, sigma = recording.ds.step.values, recording.ds.sigma.values
    figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": 60, "r": 20, "t": 84, "b": 48},
        title={"text": title, "x": 0.01, "y": 0.97, "yanchor": "top"},
        xaxis={
            "title": f"step (σ from {sigma[0]:.2f} down to {sigma[-1]:.2f})",
            "dtick": max(1, round(len(steps) / 12)),
        },
        yaxis={"title": ylabel},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0},
        hovermode="x unified",
    )
