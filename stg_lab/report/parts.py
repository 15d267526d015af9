"""The pieces of the page: plain functions from values to escaped HTML."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping
from functools import cache
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from stg_lab.guidance import number
from stg_lab.widgets import X0Explorer
from stg_lab.widgets.base import Explorer, style

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from stg_lab.recording import Recording

#: Nothing may be asked of any network; only what stands in the file itself is shown and run.
POLICY = (
    "default-src 'none'; img-src data: blob:; media-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'"
)
PLOT_CONFIG = {"displaylogo": False, "showSendToCloud": False, "responsive": True}


def page(title: str, sections: list[str]) -> str:
    """The whole document."""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>
{_static("report.css")}
{style("x0_explorer")}
</style>
</head>
<body>
<main>
{"".join(sections)}
</main>
</body>
</html>
"""


def lead(title: str, recording: Recording) -> str:
    """Heading, what guidance is, this run's own sum, and what to look for."""
    return f"""<header>
<h1>{escape(title)}</h1>
<p class="sum" role="math"><var>guided</var> = <var>cond</var> + Σ<sub>i</sub> <var>w</var><sub>i</sub>
(<var>cond</var> − <var>weak</var><sub>i</sub>)</p>
<p>At each step the model predicts the clean video from the noisy one: once with the caption (<var>cond</var>), and once
more with every <em>weak</em> model, which is the same model without its caption, or with some of its layers skipped. The
sampler goes from <var>cond</var> <em>away</em> from each weak prediction, <var>w</var><sub>i</sub> times their difference. Classifier-free
guidance (CFG) and Spatiotemporal Skip Guidance (STG) are two terms of this one sum.{_own_sum(recording)}</p>
<p><strong>What to look for.</strong> A good weak model errs as the model itself errs, only more: its pictures show the same
thing in the same place with worse shape or motion. Then the difference points at what to mend. If the weak picture shows
something else altogether, or nothing at all, the guidance pushes away from the content, and colours and motion suffer.</p>
</header>
"""


def _own_sum(recording: Recording) -> str:
    terms = recording.settings.get("guidance", {}).get("terms", [])
    parts = []
    for term in terms:
        weight = term["scale"] - 1 if term["method"] == "CFG" else term["scale"]
        weak = term.get("weak", "uncond").partition(":")[0]
        sign = "−" if weight < 0 else "+"
        parts.append(f" {sign} {escape(number(abs(weight)))} (<var>cond</var> − <var>{escape(weak)}</var>)")
    return f" Here: <span class='own'><var>guided</var> = <var>cond</var>{''.join(parts)}</span>." if parts else ""


def facts(recording: Recording) -> str:
    """What was run, as a table."""
    s = recording.settings
    seeds = [str(v) for v in recording.ds.seed.values] if "seed" in recording.ds.coords else []
    captions = "".join(
        f"<li>{escape(c or '(no caption)')}{f' <span>seed {escape(seeds[i])}</span>' if seeds else ''}</li>"
        for i, c in enumerate(recording.captions)
    )
    steps = str(recording.steps)
    if not recording.complete:
        steps = f"{recording.steps} of {recording.planned}: the run was cut off"
    rows = {
        "Captions": f"<ol start='0'>{captions}</ol>",
        "Guidance": f"<code>{escape(str(s.get('guidance_text')))}</code>",
        "Steps": f"{escape(steps)}, {escape(str(s.get('scheduler', {}).get('class', 'unknown scheduler')))}",
        "Model": f"{escape(s.get('model') or '(unnamed)')}, {escape(str(s.get('pipeline')))} on {escape(str(s.get('device')))}",
        "Made": escape(str(s.get("created", "unknown"))),
        "Versions": escape(", ".join(f"{k} {v}" for k, v in s.get("versions", {}).items())),
    }
    body = "".join(f"<tr><th scope='row'>{k}</th><td>{v}</td></tr>\n" for k, v in rows.items())
    return f"<section id='facts'>\n<h2>The run</h2>\n<table>\n{body}</table>\n</section>\n"


def videos(clips: Mapping[str, bytes]) -> str:
    """The videos side by side, looping."""
    if not clips:
        return ""
    cards = "".join(
        f"<figure><figcaption>{escape(name)}</figcaption>"
        f"<video loop muted autoplay playsinline controls aria-label='{escape(name)}' "
        f"src='data:video/mp4;base64,{_base64(clip)}'>This browser cannot play mp4; "
        "the explorer below shows the same frames as pictures.</video></figure>\n"
        for name, clip in clips.items()
    )
    return f"<section id='videos'>\n<h2>The videos</h2>\n<div class='videos'>\n{cards}</div>\n</section>\n"


def explorer(widget: X0Explorer | None, note: str) -> str:
    """The x0 explorer with its pictures, run by the very module that serves notebooks."""
    heading = "<section id='explorer'>\n<h2>What each branch predicts</h2>\n"
    words = f"<p>{escape(note)}</p>\n" if note else ""
    if widget is None:
        return f"{heading}{words}</section>\n"
    return (
        f"{heading}<p>Each row starts from the same noisy video and jumps to the clean one in a single step. Drag the "
        f"slider, or click on it and use the arrow keys.</p>\n{words}{live(widget, 'x0-explorer')}</section>\n"
    )


def live(widget: Explorer, id: str) -> str:
    """Any explorer on a page without a kernel; its style sheet is the page's matter."""
    data = {
        "values": {"view": widget.view, "problem": "", **widget.state},
        "sheets": {name: _base64(png) for name, png in widget.sheets.items()},
        "arrays": {name: _base64(numbers) for name, numbers in widget.arrays.items()},
    }
    return (
        f"<div id='{id}'></div>\n{_json(data, id=f'{id}-data')}"
        f"<script type='module'>\n{widget._esm}\n{_static('explorer.js')}mount('{id}');\n</script>\n"
    )


def plots(figures: Mapping[str, Figure]) -> str:
    """Plotly figures under their titles, with one copy of plotly.js for all."""
    if not figures:
        return ""
    cards = "".join(
        f"<figure class='plot'><figcaption>{escape(name)}</figcaption><div class='plotly-figure' data-figure='{i}'></div></figure>\n"
        for i, name in enumerate(figures)
    )
    data = _json(
        {"config": PLOT_CONFIG, "figures": [json.loads(str(f.to_json())) for f in figures.values()]}, id="plot-data"
    )
    library = f"<script type='text/plain' id='plotly-js'>{_plotly_js()}</script>\n"
    return (
        f"<section id='plots'>\n<h2>Measured</h2>\n{cards}{data}{library}"
        f"<script type='module'>\n{_static('plots.js')}</script>\n</section>\n"
    )


def figure(png: bytes | None) -> str:
    """The figure for print."""
    if png is None:
        return ""
    return (
        "<section id='figure'>\n<h2>Figure</h2>\n<figure class='print'>"
        f"<img alt='The figure for print' src='data:image/png;base64,{_base64(png)}'></figure>\n</section>\n"
    )


def settings(values: dict[str, Any]) -> str:
    """Every setting, folded away."""
    text = escape(json.dumps(values, indent=2, default=str, ensure_ascii=False))
    return f"<section id='settings'>\n<details><summary>All settings</summary><pre>{text}</pre></details>\n</section>\n"


def _json(value: Any, *, id: str) -> str:
    """Data for a script. `<` is written so that no text in it can end the element."""
    text = json.dumps(value, default=str).replace("<", "\\u003c")
    return f"<script type='application/json' id='{id}'>{text}</script>\n"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


@cache
def _plotly_js() -> str:
    """The library, packed: 2 MB on the page in place of 5."""
    from plotly.offline import get_plotlyjs

    return _base64(gzip.compress(get_plotlyjs().encode(), 9, mtime=0))


@cache
def _static(name: str) -> str:
    return (files("stg_lab.report") / "static" / name).read_text(encoding="utf-8")
