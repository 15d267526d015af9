"""Guidance-vector norms over the steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stg_lab import analysis, palette
from stg_lab.errors import RecordingError
from stg_lab.given import takes
from stg_lab.guidance import GUIDED, UNCOND
from stg_lab.recording import Source, recording_of
from stg_lab.weak import described

if TYPE_CHECKING:
    import plotly.graph_objects as go


@takes()
def norms(recording: Source, *, relative: bool = False, height: int = 380) -> go.Figure:
    """How long each guidance vector is at every step: a line for the mean over samples, a band for their range.

    Args:
        recording: what to plot.
        relative: divide by the RMS of the conditional prediction.
        height: of the figure, in pixels.

    Returns:
        A plotly figure; the noise level sigma of each step is in the hover text.
    """
    recording = recording_of(recording)
    import plotly.graph_objects as go

    values = analysis.norms(recording)
    data = values.relative if relative else values.norm
    steps, sigma = recording.ds.step.values, recording.ds.sigma.values
    figure = go.Figure()
    names = [str(v) for v in data.vector.values]
    for name in names:
        lines = data.sel(vector=name)
        colour = palette.vector_colour(name, names)
        if lines.sizes["sample"] > 1:
            _band(figure, steps, lines.min("sample").values, lines.max("sample").values, colour)
        figure.add_scatter(
            x=steps,
            y=lines.mean("sample").values,
            name=_label(name),
            mode="lines+markers",
            line={"color": colour, "width": 2.5, "dash": "dot" if name == GUIDED else "solid"},
            marker={"size": 5},
            customdata=sigma,
            hovertemplate="step %{x}, σ = %{customdata:.3f}<br>%{y:.4f}<extra>" + _label(name) + "</extra>",
        )
    figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": 60, "r": 20, "t": 56, "b": 48},
        title={"text": "Length of the guidance vectors", "x": 0.01},
        xaxis={"title": f"step (σ from {sigma[0]:.2f} down to {sigma[-1]:.2f})", "dtick": _tick(len(steps))},
        yaxis={
            "title": "RMS, relative to cond" if relative else "RMS of cond − branch",
            "rangemode": "tozero",
        },
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 1, "xanchor": "right"},
        hovermode="x unified",
    )
    return figure


@takes()
def norm_map(recording: Source, *, sample: int = 0, height: int = 320) -> go.Figure:
    """How far each weak model is from the conditional prediction, step by step: a heat map, weak models as rows.

    Args:
        recording: a run with several weak models, for example recorded at scale 0.
        sample: which sample of the batch.
        height: of the figure, in pixels.

    Returns:
        A plotly figure of RMS(cond - weak) / RMS(cond).

    Raises:
        RecordingError: no such sample, or no weak model in the recording.
    """
    recording = recording_of(recording)
    import plotly.graph_objects as go

    weak = recording.weak
    count = recording.ds.sizes["sample"]
    if not weak or not 0 <= sample < count:
        what = f"sample {sample} is out of range: 0 to {count - 1}" if weak else "this recording has no weak model"
        raise RecordingError(f"{what}. Record one with lab.Probe(lab.skip([5])).")
    values = analysis.norms(recording).relative.sel(vector=list(weak)).isel(sample=sample)
    heat = go.Heatmap(
        z=values.values,
        x=recording.ds.step.values,
        y=[described(specification) for specification in weak.values()],
        colorscale="Viridis",
        colorbar={"title": {"text": "length<br>/ cond"}},
        hovertemplate="%{y}<br>step %{x}: %{z:.3f}<extra></extra>",
    )
    figure = go.Figure(heat)
    figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": 10, "r": 10, "t": 10, "b": 44},
        xaxis={"title": "step", "dtick": _tick(recording.steps)},
        yaxis={"autorange": "reversed", "automargin": True},
    )
    return figure


def _label(name: str) -> str:
    if name == UNCOND:
        return "cond − uncond (CFG's vector)"
    return "guided − cond (the whole push)" if name == GUIDED else f"cond − {name}"


def _band(figure: go.Figure, steps: np.ndarray, low: np.ndarray, high: np.ndarray, colour: str) -> None:
    figure.add_scatter(
        x=np.concatenate([steps, steps[::-1]]),
        y=np.concatenate([high, low[::-1]]),
        fill="toself",
        fillcolor=colour,
        opacity=0.12,
        line={"width": 0},
        hoverinfo="skip",
        showlegend=False,
    )


def _tick(steps: int) -> int:
    return max(1, round(steps / 12))
