"""How much each setting was preferred in blind pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stg_lab.given import Having, takes
from stg_lab.palette import SERIES
from stg_lab.rating import Result

if TYPE_CHECKING:
    import plotly.graph_objects as go

TICKS = [digit * 10.0**power for power in range(-4, 5) for digit in (1, 3)]  # plotly's own crowd on a narrow axis


@takes(result=Having(("strengths", "aspects"), "a result of lab.ratings(...) or rating.result()"))
def strengths(result: Result, *, height: int | None = None) -> go.Figure:
    """Bradley-Terry strengths with 95 % intervals, on a logarithmic axis: a panel for each aspect, a row for each setting.

    Args:
        result: of `rating.result()` or `lab.ratings(...)`.
        height: of the figure, in pixels; by default it grows with the settings.

    Returns:
        A plotly figure. 1 is the geometric mean of all settings; a is preferred over b with probability s_a / (s_a + s_b).
    """
    from plotly.subplots import make_subplots

    aspects = [aspect for aspect, known in result.strengths.items() if known] or list(result.aspects)
    figure = make_subplots(1, len(aspects), shared_yaxes=True, subplot_titles=aspects, horizontal_spacing=0.03)
    for column, aspect in enumerate(aspects, 1):
        for k, (name, one) in enumerate(result.strengths.get(aspect, {}).items()):
            figure.add_scatter(
                x=[one.value],
                y=[name],
                error_x={
                    "array": [one.high - one.value],
                    "arrayminus": [one.value - one.low],
                    "thickness": 2,
                    "width": 5,
                },
                mode="markers",
                marker={"size": 11, "color": SERIES[k % len(SERIES)]},
                hovertemplate=f"{one.value:.2f} ({one.low:.2f} to {one.high:.2f})<br>{one.count} answers",
                name=name,
                showlegend=False,
                row=1,
                col=column,
            )
        figure.add_vline(1, line={"color": "#888888", "width": 1, "dash": "dot"}, row=1, col=column)
    figure.update_layout(
        template="plotly_white",
        height=height or 150 + 44 * len(result.settings),
        margin={"l": 20, "r": 20, "t": 40, "b": 50},
    )
    figure.update_xaxes(type="log", title="strength", matches="x", tickvals=TICKS, ticktext=[f"{x:g}" for x in TICKS])
    figure.update_yaxes(automargin=True, autorange="reversed", type="category")
    return figure
