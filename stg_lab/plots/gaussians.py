"""Guidance in the plane: quality against variety as the scale grows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import xarray as xr

from stg_lab.gaussians import SWEPT
from stg_lab.given import takes
from stg_lab.palette import SERIES

if TYPE_CHECKING:
    import plotly.graph_objects as go


@takes(swept=SWEPT)
def gaussian_scores(swept: xr.Dataset, *, height: int = 420) -> go.Figure:
    """Strays against modes kept, a path for each weak model, a point for each scale. Right and low is better.

    Args:
        swept: from `lab.gaussians.sweep`.
        height: of the figure, in pixels.

    Returns:
        A plotly figure; scale and width of each point are in the hover text.
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    for k, name in enumerate(map(str, swept.weak.values)):
        one = swept.sel(weak=name)
        figure.add_scatter(
            x=one.modes.values,
            y=one.strays.values,
            name=name,
            mode="lines+markers+text",
            text=[f"{scale:g}" if k == 0 else "" for scale in one.scale.values],
            textposition="top center",
            line={"color": SERIES[k % len(SERIES)], "width": 2.5},
            marker={"size": 7},
            customdata=list(zip(one.scale.values, one.width.values, strict=True)),
            hovertemplate="scale %{customdata[0]:g}<br>strays %{y:.1%}<br>modes %{x:.2f}<br>width %{customdata[1]:.2f}"
            + f"<extra>{name}</extra>",
        )
    figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": 60, "r": 20, "t": 56, "b": 48},
        title={"text": "Quality against variety as the scale grows", "x": 0.01},
        xaxis={"title": "effective number of modes (more: more varied)"},
        yaxis={"title": "strays (fewer: better)", "tickformat": ".0%", "rangemode": "tozero"},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 1, "xanchor": "right"},
    )
    return figure
