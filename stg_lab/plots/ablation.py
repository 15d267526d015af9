"""Sweeps of weak models: a score over layers, and how far each weak model goes for what it loses."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stg_lab import analysis, palette
from stg_lab.analysis.sweep import SIGNED, check_score, check_step, column_name, columns, score_table, sweep_of
from stg_lab.given import Text, takes
from stg_lab.guidance.scores import SCORES

if TYPE_CHECKING:
    import plotly.graph_objects as go
    import xarray as xr


@takes(score=Text())
def layer_scores(
    sweep: xr.Dataset | str | Path, *, score: str = "sharpness_lost", step: int | None = None, height: int | None = None
) -> go.Figure:
    """A score of every weak model of a sweep: layers across, part and axis down.

    Args:
        sweep: of `lab.ablate` or `lab.open_ablation`, or its path, or the name of one that ships.
        score: one of `stg_lab.guidance.scores.SCORES`; the mean over the samples is shown, their range in the hover text.
        step: one of the sweep's steps; its last by default.
        height: of the figure, in pixels.

    Returns:
        A plotly figure. Signed scores have colours that diverge from 0; empty cells have no weak model.

    Raises:
        CallError: no sweep, or no such score.
        RecordingError: no such sweep at a path, or no such step in it.
    """
    import plotly.graph_objects as go

    ds, score = sweep_of(sweep), check_score(score)
    step = check_step(ds, step)
    values, shown = score_table(ds, score, step)
    here = ds[score].sel(step=step)
    low, high = here.min("sample"), here.max("sample")
    text = [
        [f"{low.sel(where).item():.3f} to {high.sel(where).item():.3f}" for where in _places(ds, column)]
        for column in shown
    ]
    signed = score in SIGNED
    most = float(np.nanmax(np.abs(values))) if np.isfinite(values).any() else 1.0
    words = SCORES[score].long_name
    heat = go.Heatmap(
        z=values,
        x=[str(layer) for layer in ds.layer.values],
        y=[column_name(*column) for column in shown],
        customdata=text,
        colorscale="RdBu_r" if signed else "Viridis",
        zmin=-most if signed else None,
        zmax=most if signed else None,
        xgap=2,
        ygap=2,
        texttemplate="%{z:.2f}" if ds.sizes["layer"] <= 16 else None,
        hovertemplate="%{y}, layer %{x}<br>" + words + " %{z:.3f}<br>samples %{customdata}<extra></extra>",
    )
    figure = go.Figure(heat)
    figure.update_layout(
        template="plotly_white",
        height=height or 150 + 42 * len(shown),
        margin={"l": 10, "r": 10, "t": 48, "b": 44},
        title={"text": f"{words[0].upper()}{words[1:]}, step {step}, mean of {ds.sizes['sample']}", "x": 0.01},
        xaxis={"title": "layer", "type": "category"},
        yaxis={"autorange": "reversed", "automargin": True},
    )
    return figure


@takes()
def aligned_and_worse(sweep: xr.Dataset | str | Path, *, height: int = 440) -> go.Figure:
    """Each weak model of a sweep by how far it goes and how much sharpness it loses on the way; means over all states.

    The paper asks for weak models that are aligned (left) and worse (up). The shaded part is where the criteria of `lab.advise`
    hold for the means, acting and aligned; a full marker is on its shortlist, where they hold in each state. How much
    sharpness is lost decides nothing there: it did not predict outcomes.

    Args:
        sweep: of `lab.ablate` or `lab.open_ablation`, or its path, or the name of one that ships.
        height: of the figure, in pixels.

    Returns:
        A plotly figure; what to type for each weak model is in the hover text.

    Raises:
        CallError: no sweep.
        RecordingError: there is no such sweep at a path.
    """
    import plotly.graph_objects as go

    ds = sweep_of(sweep)
    advice = analysis.advise(ds)
    asked = advice.criteria
    figure = go.Figure()
    figure.add_vrect(
        x0=asked["acts"].threshold,
        x1=asked["aligned"].threshold,
        fillcolor="#0072B2",
        opacity=0.09,
        line={"width": 0},
        layer="below",
    )
    for k, column in enumerate(columns(ds)):
        mine = [one for one in advice if (one.part, one.axis) == column]
        ink = palette.SERIES[k % len(palette.SERIES)]
        figure.add_scatter(
            x=[one.scores["x0_distance"].mean for one in mine],
            y=[one.scores["sharpness_lost"].mean for one in mine],
            text=[str(one.layer) for one in mine],
            customdata=[[one.typed, one.rank] for one in mine],
            name=column_name(*column),
            mode="markers+text",
            textposition="top center",
            textfont={"color": ink, "size": 11},
            marker={
                "size": 11,
                "color": [ink if one.shortlisted else "white" for one in mine],
                "line": {"color": ink, "width": 2},
            },
            hovertemplate="%{customdata[0]}<br>rank %{customdata[1]}<br>change %{x:.2f}, lost %{y:.2f}<extra></extra>",
        )
    figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": 60, "r": 20, "t": 48, "b": 90},
        title={"text": "Aligned (left) and worse (up); numbers are layers, full is shortlisted", "x": 0.01},
        xaxis={"title": "change of the one-step prediction, |x0(weak) − x0(cond)| / |x0(cond)|", "rangemode": "tozero"},
        yaxis={"title": "sharpness lost"},
        legend={"orientation": "h", "yanchor": "top", "y": -0.16, "x": 0.0},
    )
    return figure


def _places(ds: xr.Dataset, column: tuple[str, str]) -> list[dict[str, object]]:
    return [{"layer": layer, "part": column[0], "axis": column[1]} for layer in ds.layer.values]
