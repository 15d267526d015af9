"""What was found, for notebooks: verdicts, tables and figures, from the findings that ship. Nothing is run."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stg_lab.errors import LabError
from stg_lab.evidence.claim import CLAIMS, Finding, Panel
from stg_lab.evidence.findings import file_of, read
from stg_lab.evidence.page import cell, figure_of
from stg_lab.evidence.statistics import FAILS, HOLDS, Estimate
from stg_lab.palette import SERIES
from stg_lab.shipped import data_folder

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from IPython.display import Image
    from matplotlib.figure import Figure

#: How a verdict looks: a sign that is told apart without colour, and a colour of the palette.
MARKS = {HOLDS: ("✓", "#009E73"), FAILS: ("✗", "#D55E00")}
LOG = {"type": "log", "dtick": "D2", "tickformat": "~g"}  # ticks at 1, 2 and 5, written out
CELL = "style='text-align:left;vertical-align:top;padding:4px 14px 4px 0'"


class NoFindingError(LabError):
    """A claim was not put to a model yet."""


@dataclass(frozen=True)
class Found:
    """One claim on one model: the finding, and what it rests on.

    Attributes:
        number: of the claim, as in docs/evidence.md.
        model: an embedded model's name.
        finding: verdict, numbers, table and panels.
        about: videos a cell, fingerprints of weights and judge, device and versions.
        folder: where the finding's contact sheets lie.
    """

    number: int
    model: str
    finding: Finding
    about: dict[str, Any]
    folder: Path = Path()

    @property
    def title(self) -> str:
        """The claim in a line."""
        return CLAIMS[self.number].title

    @property
    def stale(self) -> bool:
        """Whether it rests on other rules than the claim has now, and is to be made anew."""
        return self.about.get("test") != CLAIMS[self.number].test

    def figure(self) -> Figure:
        """Estimates with 95 % intervals, as on docs/evidence.md.

        Raises:
            NoFindingError: the finding is a table alone.
        """
        if not self.finding.panels:
            raise NoFindingError(f"claim {self.number} on {self.model} has a table alone: show the finding itself.")
        return figure_of(self.finding.panels)

    def plot(self, panel: int = 0) -> go.Figure:
        """One panel as an interactive plotly figure."""
        return _plot(self.finding.panels[panel])

    def sheet(self, number: int = -1) -> Image:
        """A contact sheet as a picture for notebooks; the last one unless another is asked for.

        Raises:
            NoFindingError: the finding has no such sheet; says which there are.
        """
        import PIL.Image
        from IPython.display import Image

        sheets = self.finding.sheets
        if not -len(sheets) <= number < len(sheets):
            there = ", ".join(f"{n} ({sheet.title})" for n, sheet in enumerate(sheets)) or "none"
            raise NoFindingError(f"claim {self.number} on {self.model} has no sheet {number}. There are: {there}.")
        jpeg = io.BytesIO()  # which every viewer of notebooks shows; small, as a notebook stores it
        with PIL.Image.open(self.folder / sheets[number].file) as picture:
            picture.convert("RGB").save(jpeg, "JPEG", quality=55, optimize=True)
        return Image(jpeg.getvalue(), format="jpeg")

    def __repr__(self) -> str:
        earlier = ", by earlier rules" * self.stale
        return f"Claim {self.number} on {self.model}: {self.finding.verdict}{earlier} ({self.finding.because})"

    def _repr_html_(self) -> str:
        names = list(self.finding.rows[0])
        head = "".join(f"<th {CELL}>{escape(name)}</th>" for name in names)
        body = "".join(
            "<tr>" + "".join(f"<td {CELL}>{escape(cell(row[name]))}</td>" for name in names) + "</tr>"
            for row in self.finding.rows
        )
        return (
            f"<div><b>{self.number}. {escape(self.title)}</b><br>{_mark(self.finding.verdict)} on {escape(self.model)}: "
            f"{escape(self.finding.because)} <i>({self.about['videos']} videos a cell{', by earlier rules' * self.stale})</i>"
            f"<table><tr>{head}</tr>{body}</table></div>"
        )


class Evidence:
    """All findings that are there. Iterate over them, or ask for one: `evidence[5]`, `evidence[5, "digits-joint"]`."""

    def __init__(self, folder: Path | None = None) -> None:
        folder = folder or data_folder("evidence")
        self._all = {
            (number, model): Found(number, model, *read(file_of(folder, number, model)), folder)
            for number, claim in sorted(CLAIMS.items())
            for model in claim.models
            if file_of(folder, number, model).exists()
        }

    def __iter__(self) -> Iterator[Found]:
        return iter(self._all.values())

    def __len__(self) -> int:
        return len(self._all)

    def __getitem__(self, key: int | tuple[int, str]) -> Found:
        """A claim's finding; on the first model that it was put to, unless one is named.

        Raises:
            NoFindingError: there is none; says what there is.
        """
        number, model = key if isinstance(key, tuple) else (key, None)
        for (n, m), found in self._all.items():
            if n == number and model in (None, m):
                return found
        there = ", ".join(f"{n} ({m})" for n, m in self._all) or "none"
        raise NoFindingError(
            f"claim {number}{f' on {model}' if model else ''} was not put to the test yet. Found so far: {there}. "
            f"Type: make evidence CLAIMS={number}"
        )

    def __repr__(self) -> str:
        return "\n".join(map(repr, self)) or "no findings yet: make evidence"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td {CELL}>{number}</td><td {CELL}>{escape(claim.title)}<br><small>{escape(claim.source)}</small></td>"
            f"<td {CELL}>{self._verdicts(number, claim.models)}</td></tr>"
            for number, claim in sorted(CLAIMS.items())
        )
        return f"<table><tr><th></th><th {CELL}>claim</th><th {CELL}>verdict here</th></tr>{rows}</table>"

    def _verdicts(self, number: int, models: tuple[str, ...]) -> str:
        found = [self._all[number, m] for m in models if (number, m) in self._all]
        told = [
            f"{_mark(f.finding.verdict)} {escape(f.model)}, {f.about['videos']} videos{' (earlier rules)' * f.stale}"
            for f in found
        ]
        lines = "<br>".join(told) or "not tested yet"
        return f"<span style='white-space:nowrap'>{lines}</span>"


def _mark(verdict: str) -> str:
    sign, colour = MARKS.get(verdict, ("?", "#5a6270"))
    return f"<b style='color:{colour}'>{sign} {escape(verdict)}</b>"


def _reach(estimates: Sequence[Any]) -> dict[str, Any]:
    """Intervals as plotly's error bars."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [e.high - e.value for e in estimates],
        "arrayminus": [e.value - e.low for e in estimates],
        "thickness": 1.2,
    }


def _plot(panel: Panel) -> go.Figure:
    import plotly.graph_objects as go

    figure = go.Figure()
    for number, line in enumerate(panel.lines):
        y, colour = line.y, SERIES[number % len(SERIES)]
        figure.add_scatter(
            x=[x.value if isinstance(x, Estimate) else x for x in line.x],
            y=[e.value for e in y],
            error_x=_reach(line.x) if panel.is_plane else None,
            error_y=_reach(y),
            mode="lines+markers" if isinstance(line.x[0], int | float) else "markers",
            name=line.name or panel.ylabel,
            marker={"color": colour, "size": 8},
            line={"color": colour},
        )
    if panel.real is not None:
        figure.add_hline(panel.real, line={"dash": "dash", "color": "#888"}, annotation_text="rendered clips")
    if panel.bar is not None:
        figure.add_hline(panel.bar, line={"dash": "dot", "color": SERIES[1]}, annotation_text="asked for")
    figure.update_layout(
        template="plotly_white",
        height=360,
        margin={"l": 60, "r": 20, "t": 48, "b": 48},
        title={"text": panel.title, "x": 0.01},
        xaxis={"title": panel.xlabel},
        yaxis={"title": panel.ylabel, **(LOG if panel.log else {"type": "linear"})},
        showlegend=len(panel.lines) > 1,
    )
    return figure
