"""Where two runs part, over steps, frames and bands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stg_lab import analysis
from stg_lab.given import takes
from stg_lab.palette import SERIES, colour
from stg_lab.recording import Source

if TYPE_CHECKING:
    import plotly.graph_objects as go


@takes()
def comparison(a: Source, b: Source, *, height: int = 420) -> go.Figure:
    """How far two recordings of the same seeds are apart: of x_t and of each branch over the steps, and where in x_t.

    Args:
        a, b: what to compare, see `analysis.compare`.
        height: of the figure, in pixels.

    Returns:
        A plotly figure of two panels: distances relative to a over the steps, as means over samples; and the distance of x_t in
        every frame and band at every step.
    """
    from plotly.subplots import make_subplots

    found = analysis.compare(a, b).ds
    steps, sigma = found.step.values, found.sigma.values
    figure = make_subplots(
        cols=2, column_widths=[0.5, 0.5], subplot_titles=("Distance, relative to a", "x_t by frame and band")
    )
    lines = {"x_t": found.x_t, **{name: found.prediction.sel(branch=name) for name in found.branch.values}}
    weak = [name for name in lines if name not in ("x_t", "cond", "uncond", "guided")]
    for name, values in lines.items():
        figure.add_scatter(
            x=steps,
            y=values.mean("sample").values,
            name=str(name),
            mode="lines+markers",
            line={"color": SERIES[6] if name == "x_t" else colour(name, weak), "width": 2.5},
            marker={"size": 5},
            customdata=sigma,
            hovertemplate="step %{x}, σ = %{customdata:.3f}<br>%{y:.4g}<extra>" + str(name) + "</extra>",
            row=1,
            col=1,
        )
    rows = {f"frame {f}": found.frames.isel(frame=f).mean("sample").values for f in range(found.sizes["frame"])}
    rows |= {
        f"{axis}, {band}": found.bands.sel(axis=axis, band=band).mean("sample").values
        for axis in found.axis.values
        for band in found.band.values
    }
    figure.add_heatmap(
        x=steps,
        y=list(rows),
        z=np.array(list(rows.values())),
        colorscale="Viridis",
        zmin=0,
        colorbar={"title": "", "thickness": 12},
        hovertemplate="step %{x}, %{y}<br>%{z:.4g}<extra></extra>",
        row=1,
        col=2,
    )
    figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": 60, "r": 20, "t": 56, "b": 48},
        legend={"orientation": "h", "yanchor": "top", "y": -0.15, "x": 0},
    )
    figure.update_xaxes(title="step")
    figure.update_yaxes(autorange="reversed", row=1, col=2)
    figure.update_yaxes(rangemode="tozero", row=1, col=1)
    return figure
