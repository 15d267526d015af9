"""What weak models keep and what they lose, over the steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stg_lab import analysis
from stg_lab.given import takes
from stg_lab.guidance import GUIDED, UNCOND
from stg_lab.palette import colour
from stg_lab.recording import Source, recording_of
from stg_lab.weak import described

if TYPE_CHECKING:
    import plotly.graph_objects as go

PANELS = (
    ("alike", "coarse", "coarse parts: likeness to cond"),
    ("alike", "fine", "fine parts: likeness to cond"),
    ("power", "coarse", "coarse parts: strength / cond’s"),
    ("power", "fine", "fine parts: strength / cond’s"),
)


@takes()
def kept(recording: Source, *, cut: float = 4.0, height: int = 560) -> go.Figure:
    """What each weak model keeps of the conditional one-step prediction: a line for each, mean over samples.

    Args:
        recording: one with weak models, whose latents can be shown without a model.
        cut: where coarse ends and fine begins, in cycles across the picture; see `analysis.kept`.
        height: of the figure, in pixels.

    Returns:
        A plotly figure of four panels: likeness (a correlation) above, strength (an RMS ratio) below.

    Raises:
        RecordingError: see `analysis.kept`.
    """
    recording = recording_of(recording)
    from plotly.subplots import make_subplots

    values = analysis.kept(recording, cut=cut).mean("sample", skipna=False)
    figure = make_subplots(
        2, 2, shared_xaxes=True, vertical_spacing=0.1, subplot_titles=[title for *_, title in PANELS]
    )
    for name in map(str, values.branch.values):
        if name == GUIDED:
            continue
        for k, (what, band, _) in enumerate(PANELS):
            figure.add_scatter(
                x=values.step.values,
                y=values[what].sel(band=band, branch=name).values,
                name="unconditional" if name == UNCOND else described(recording.weak[name]),
                legendgroup=name,
                showlegend=k == 0,
                mode="lines+markers",
                line={"color": colour(name, recording.branches), "width": 2.5},
                marker={"size": 5},
                row=k // 2 + 1,
                col=k % 2 + 1,
            )
    figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": 50, "r": 20, "t": 30, "b": 80},
        legend={"orientation": "h", "yanchor": "top", "y": -0.12, "x": 0},
        hovermode="x unified",
    )
    figure.add_hline(1, line={"color": "#888888", "width": 1, "dash": "dot"})
    figure.update_xaxes(title="step", row=2)
    return figure
