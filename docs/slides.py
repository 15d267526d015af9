"""Writes the notebooks as slides: `python docs/slides.py FOLDER [NOTEBOOK ...]`. A browser is all that they need, and no network.

Each `##` begins a slide, and so does each cell whose output is a picture. What is shown is what the notebooks hold: nothing is run.
Arrow keys and the space bar move; `c` shows the code.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from html import escape
from pathlib import Path

import nbformat
from docutils.utils.math.latex2mathml import tex2mathml
from nbconvert.filters import markdown2html
from plotly.offline import get_plotlyjs

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from stg_lab.files import write  # noqa: E402

PLOT = "application/vnd.plotly.v1+json"
STATIC = ROOT / "docs" / "site" / "slides"


def slides_of(notebook: nbformat.NotebookNode) -> Iterator[str]:
    """The slides of a notebook, as HTML."""
    slide = ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            first, *others = re.split(r"^(?=## )", cell.source, flags=re.MULTILINE)
            slide += words(first)
            for part in others:
                if slide.strip():
                    yield slide
                slide = words(part)
            continue
        shown = "".join(map(output, cell.outputs))
        slide += f"<details class='code'><summary>code</summary><pre>{escape(cell.source)}</pre></details>{shown}"
        if "class='shown'" in shown:
            yield slide
            slide = ""
    if slide.strip():
        yield slide


def words(markdown: str) -> str:
    """Markdown as HTML, formulas as MathML; links into the repository are plain words here."""
    html = markdown2html(markdown) if markdown.strip() else ""
    html = re.sub(r"\$\$(.+?)\$\$", lambda m: tex2mathml(m[1], as_block=True), html, flags=re.DOTALL)
    html = re.sub(r"\$(.+?)\$", lambda m: tex2mathml(m[1]), html)
    return re.sub(r"<a href=\"(?!http)[^\"]*\">(.*?)</a>", r"<em>\1</em>", html)


def output(one: nbformat.NotebookNode) -> str:
    """What a cell shows: a plot, a picture, a table, or words."""
    data = one.get("data", {})
    if PLOT in data:
        figure = json.dumps({"data": data[PLOT]["data"], "layout": data[PLOT].get("layout", {})}).replace(
            "<", "\\u003c"
        )
        return f"<div class='shown'><div class='plot'></div><script type='application/json'>{figure}</script></div>"
    if "image/png" in data:
        return f"<div class='shown'><img alt='' src='data:image/png;base64,{''.join(data['image/png'].split())}'></div>"
    if "image/gif" in data:
        return f"<div class='shown'><img alt='' src='data:image/gif;base64,{''.join(data['image/gif'].split())}'></div>"
    if "text/html" in data:
        return f"<div class='table'>{data['text/html']}</div>"
    text = one.get("text") or data.get("text/plain", "")
    return (
        ""
        if (one.output_type == "stream" and one.name == "stderr") or "it/s]" in text
        else f"<pre>{escape(text)}</pre>"
    )


def page(path: Path) -> str:
    """A notebook as one HTML file."""
    notebook = nbformat.read(path, as_version=4)
    slides = [f"<section><div>{slide}</div></section>" for slide in slides_of(notebook)]
    title = escape(notebook.cells[0].source.splitlines()[0].lstrip("# "))
    plots = f"<script>{get_plotlyjs()}</script>" if any("class='plot'" in slide for slide in slides) else ""
    style, code = ((STATIC / name).read_text(encoding="utf-8") for name in ("slides.css", "slides.js"))
    return (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
        f"<title>{title}</title><link rel='icon' href='data:,'><style>{style}</style></head><body>\n"
        + "\n".join(slides)
        + f"\n<output id='place'></output>{plots}<script>{code}</script></body></html>\n"
    )


def main(folder: Path, names: list[str]) -> None:
    """Write the slides of some notebooks, or of all."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        if not names or path.stem in names or path.stem[:2] in names:
            write(folder / f"{path.stem}.html", page(path).encode())
            print(folder / f"{path.stem}.html")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
