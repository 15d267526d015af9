"""The pieces of the page: plain functions from values to escaped HTML."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping
from functools import cache
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from stg_lab.guidance import number
from stg_lab.report.sources import Item
from stg_lab.widgets.assets import SHARED, asset
from stg_lab.widgets.base import Explorer
from stg_lab.widgets.page import base64_of, document, explorer_data, script_json

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

PLOT_CONFIG = {"displaylogo": False, "showSendToCloud": False, "responsive": True}


def page(title: str, sections: list[str], explorers: Iterable[Explorer] = ()) -> str:
    """The whole document; style and code of `explorers` are on it once."""
    shown = list(explorers)
    style = "\n".join([_static("report.css"), _static("grid.css"), _styles(shown)])
    return document(title, style, "".join(sections), _codes(shown))


def section(id: str, heading: str, body: str, *, level: int = 2) -> str:
    """A part of the page under its heading, which `contents` finds by its id."""
    return f"<section id='{id}'>\n<h{level}>{escape(heading)}</h{level}>\n{body}</section>\n"


def contents(entries: Mapping[str, str]) -> str:
    """Links to the parts of the page: headings by id."""
    links = "".join(f"<a href='#{id}'>{escape(heading)}</a>\n" for id, heading in entries.items())
    return f"<nav class='contents' aria-label='Contents'>\n{links}</nav>\n" if len(entries) > 1 else ""


def heading(title: str) -> str:
    """The page's own."""
    return f"<h1>{escape(title)}</h1>\n"


def lead(own: str = "") -> str:
    """What guidance is, and what to look for."""
    return f"""<header>
<p class="sum" role="math"><var>guided</var> = <var>cond</var> + Σ<sub>i</sub> <var>w</var><sub>i</sub>
(<var>cond</var> − <var>weak</var><sub>i</sub>)</p>
<p>At each step the model predicts the clean video from the noisy one: once with the caption (<var>cond</var>), and once
more with every <em>weak</em> model, which is the same model without its caption, or with some of its layers skipped. The
sampler goes from <var>cond</var> <em>away</em> from each weak prediction, <var>w</var><sub>i</sub> times their difference. Classifier-free
guidance (CFG) and Spatiotemporal Skip Guidance (STG) are two terms of this one sum.{f" Here: {own}" if own else ""}</p>
<p><strong>What to look for.</strong> A good weak model errs as the model itself errs, only more: its pictures show the same
thing in the same place with worse shape or motion. Then the difference points at what to mend. If the weak picture shows
something else altogether, or nothing at all, the guidance pushes away from the content, and colours and motion suffer.</p>
</header>
"""


def own_sum(item: Item) -> str:
    """The sum of a recording's own guidance; "" where it has none."""
    terms = (item.settings.get("guidance") or {}).get("terms", [])
    parts = []
    for term in terms:
        weight = term["scale"] - 1 if term["method"] == "CFG" else term["scale"]
        weak = term.get("weak", "uncond").partition(":")[0]
        sign = "−" if weight < 0 else "+"
        parts.append(f" {sign} {escape(number(abs(weight)))} (<var>cond</var> − <var>{escape(weak)}</var>)")
    return f"<span class='own'><var>guided</var> = <var>cond</var>{''.join(parts)}</span>." if parts else ""


def facts(item: Item) -> str:
    """What was run, as a table."""
    s = item.settings
    call = s.get("arguments") or s  # a sweep keeps what it was asked for apart
    pairs = zip(item.captions, item.seeds or [""] * len(item.captions), strict=True)
    captions = "".join(
        f"<li>{escape(c or '(no caption)')}{f' <span>seed {escape(seed)}</span>' if seed else ''}</li>"
        for c, seed in pairs
    )
    model = f"{call.get('model') or '(unnamed)'}, {call.get('pipeline')} on {s.get('device')}"
    rows = {
        "Captions": f"<ol start='0'>{captions}</ol>",
        **_what(item),
        "Model": escape(model),
        **({"Made": escape(str(s["created"]))} if "created" in s else {}),
        "Versions": escape(", ".join(f"{k} {v}" for k, v in s.get("versions", {}).items())),
    }
    body = "".join(f"<tr><th scope='row'>{k}</th><td>{v}</td></tr>\n" for k, v in rows.items())
    return f"<table>\n{body}</table>\n"


def _what(item: Item) -> dict[str, str]:
    """Rows that a recording and a sweep do not have in common."""
    s = item.settings
    if (sweep := item.sweep) is not None:
        size = sweep.sizes
        what = f"{size['layer']} layers, parts {', '.join(map(str, sweep.part.values))}, axes {', '.join(map(str, sweep.axis.values))}"
        steps = f"{', '.join(str(k) for k in sweep.step.values)} of {s['arguments'].get('call', {}).get('num_inference_steps', '?')}"
        return {"Weak models": escape(what), "Steps": escape(steps)}
    recording = item.recording
    assert recording is not None
    steps = str(recording.steps)
    if not recording.complete:
        steps = f"{recording.steps} of {recording.planned}: the run was cut off"
    scheduler = (s.get("scheduler") or {}).get("class", "unknown scheduler")
    return {
        "Guidance": f"<code>{escape(str(s.get('guidance_text')))}</code>",
        "Steps": f"{escape(steps)}, {escape(str(scheduler))}",
    }


def overview(rows: Mapping[str, Item]) -> str:
    """All recordings of the page as a table: what each is, by the id of its panel."""
    body = "".join(
        f"<tr><th scope='row'><a href='#{id}'>{escape(item.title)}</a></th><td>{_in_short(item)}</td></tr>\n"
        for id, item in rows.items()
    )
    return f"<table class='overview'>\n{body}</table>\n"


def _in_short(item: Item) -> str:
    captions = escape("; ".join(dict.fromkeys(item.captions)))
    if item.sweep is not None:
        count = len({w for w in map(str, item.sweep.weak.values.ravel()) if w})
        return f"{count} weak models compared at {item.sweep.sizes['step']} step(s)<br><span>{captions}</span>"
    guidance = escape(str(item.settings.get("guidance_text") or "the pipeline alone"))
    steps = item.recording.steps if item.recording is not None else 0
    return f"<code>{guidance}</code>, {steps} steps<br><span>{captions}</span>"


def videos(clips: Mapping[str, bytes], note: str = "") -> str:
    """Videos side by side, looping."""
    cards = "".join(
        f"<figure><figcaption>{escape(name)}</figcaption>"
        f"<video loop muted autoplay playsinline controls aria-label='{escape(name)}' "
        f"src='data:video/mp4;base64,{base64_of(clip)}'>This browser cannot play mp4; "
        "the explorer below shows the same frames as pictures.</video></figure>\n"
        for name, clip in clips.items()
    )
    return f"<div class='videos'>\n{cards}</div>\n{paragraph(note)}"


def paragraph(text: str) -> str:
    """A paragraph of plain text; "" for none."""
    return f"<p class='note'>{escape(text)}</p>\n" if text else ""


def explorer(widget: Explorer, id: str) -> str:
    """An explorer that is started when it is scrolled near; its code and style are the page's matter."""
    return f"<div class='explorer' id='{id}' data-kind='{type(widget).__name__}'></div>\n{explorer_data(widget, id)}"


def _styles(explorers: list[Explorer]) -> str:
    """The shared sheet, then each sort's own, each once."""
    shared = asset("kit.css") + "\n"
    own = dict.fromkeys(str(explorer._css).removeprefix(shared) for explorer in explorers)
    return "\n".join([shared, *own])


def _codes(explorers: list[Explorer]) -> str:
    """The shared modules, then each sort's own, each once, as data that `page.js` puts together."""
    shared = "\n".join(asset(f"{name}.js") for name in SHARED) + "\n"
    own = {type(explorer).__name__: str(explorer._esm).removeprefix(shared) for explorer in explorers}
    code = {"before": shared, "own": own, "after": asset("page_model.js")}
    return f"{script_json(code, id='explorer-code')}<script type='module'>\n{_static('page.js')}</script>\n"


def plots(figures: Mapping[str, Figure], first: int) -> str:
    """Places for plotly figures under their titles, numbered from `first`; see `plotly`."""
    return "".join(
        f"<figure class='plot'><figcaption>{escape(name)}</figcaption><div class='plotly-figure' data-figure='{i}'></div></figure>\n"
        for i, name in enumerate(figures, first)
    )


def plotly(figures: list[Figure]) -> str:
    """The figures themselves with one copy of plotly.js for all; "" for none."""
    if not figures:
        return ""
    data = script_json(
        {"config": PLOT_CONFIG, "figures": [json.loads(str(f.to_json())) for f in figures]}, id="plot-data"
    )
    library = f"<script type='text/plain' id='plotly-js'>{_plotly_js()}</script>\n"
    return f"{data}{library}<script type='module'>\n{_static('plot_look.js')}{_static('plots.js')}</script>\n"


def figure(png: bytes) -> str:
    """The figure for print."""
    return f"<figure class='print'><img alt='The figure for print' src='data:image/png;base64,{base64_of(png)}'></figure>\n"


def settings(values: dict[str, Any]) -> str:
    """Every setting, folded away."""
    text = escape(json.dumps(values, indent=2, default=str, ensure_ascii=False))
    return f"<details><summary>All settings</summary><pre>{text}</pre></details>\n"


def tabs(titles: Mapping[str, str]) -> str:
    """One button a panel, by the panel's id; `page.js` makes them work."""
    buttons = "".join(
        f"<button type='button' role='tab' id='{id}-tab' aria-controls='{id}' aria-selected='false'>{escape(title)}</button>\n"
        for id, title in titles.items()
    )
    return f"<div class='tabs' role='tablist' aria-label='Recordings'>\n{buttons}</div>\n"


def panel(id: str, title: str, body: str) -> str:
    """What a tab shows."""
    return f"<div class='panel' role='tabpanel' id='{id}' aria-labelledby='{id}-tab'>\n<h2>{escape(title)}</h2>\n{body}</div>\n"


@cache
def _plotly_js() -> str:
    """The library, packed: 2 MB on the page in place of 5."""
    from plotly.offline import get_plotlyjs

    return base64_of(gzip.compress(get_plotlyjs().encode(), 9, mtime=0))


@cache
def _static(name: str) -> str:
    return (files("stg_lab.report") / "static" / name).read_text(encoding="utf-8")
