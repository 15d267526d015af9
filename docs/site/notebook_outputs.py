"""Notebooks as pages, from their stored outputs alone: nothing is executed but the making of explorers of recordings that ship.

Plots are drawn in the reader's browser by the plotly.js that lies beside the pages.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import nbformat
from explorers import frame
from plotly.offline import get_plotlyjs
from sphinx.application import Sphinx

WIDGET, PLOT = "application/vnd.jupyter.widget-view+json", "application/vnd.plotly.v1+json"
OPENING = ("open", "open_ablation")
PLOT_LOOK = Path(__file__).resolve().parents[2] / "stg_lab/report/static/plot_look.js"
OUTDIR: list[Path] = []  # of the build that is under way


def read(text: str) -> nbformat.NotebookNode:
    """A notebook whose plots and explorers are written as HTML."""
    notebook = nbformat.reads(text, as_version=4)
    opened: dict[str, ast.expr] = {}  # what its cells so far have opened, by the name that they gave it
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        shown = _shown(cell.source, opened)
        cell.outputs = [output for output in cell.outputs if not _is_progress(output)]
        for output in cell.outputs:
            data = output.get("data", {})
            if PLOT in data:
                data["text/html"] = _plot(data.pop(PLOT))
            elif WIDGET in data:
                del data[WIDGET]
                if shown:
                    data["text/html"] = frame(shown, outdir=OUTDIR[-1], depth=1)
                elif "image/png" not in data:
                    data["text/html"] = "<p class='stg-note'>An explorer stands here while the notebook runs.</p>"
    return notebook


def _is_progress(output: nbformat.NotebookNode) -> bool:
    """Whether it is a progress bar, which says nothing any more."""
    return WIDGET in output.get("data", {}) and "it/s]" in output.data.get("text/plain", "")


def _shown(source: str, opened: dict[str, ast.expr]) -> str:
    """The explorer that a cell shows as an expression that needs nothing but recordings that ship; "" where it needs more."""
    found = ""
    for name, value in _bound(ast.parse(source)):
        if _called(value) in [f"lab.{word}" for word in OPENING] and name:
            opened[name] = value
        elif _called(value).startswith("lab.widgets."):
            known = {*opened, "lab"}
            names = {node.id for node in ast.walk(value) if isinstance(node, ast.Name)}
            found = ast.unparse(_Put(opened).visit(value)) if names <= known else ""
    return found


def _bound(module: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """Every expression that a cell evaluates, with the name that it gets; tuples one by one."""
    for line in module.body:
        if isinstance(line, ast.Expr):
            yield "", line.value
        elif isinstance(line, ast.Assign):
            target, value = line.targets[0], line.value
            both = isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple)
            names, values = (target.elts, value.elts) if both else ([target], [value])
            yield from (
                (name.id, given) for name, given in zip(names, values, strict=False) if isinstance(name, ast.Name)
            )


def _called(value: ast.expr) -> str:
    return ast.unparse(value.func) if isinstance(value, ast.Call) else ""


class _Put(ast.NodeTransformer):
    """Puts what was opened in place of its name."""

    def __init__(self, opened: dict[str, ast.expr]) -> None:
        self.opened = opened

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.opened.get(node.id, node)


def _plot(figure: dict) -> str:
    """A place for a plot, and its data. `<` is written so that no text in it can end the element."""
    text = json.dumps({name: figure[name] for name in ("data", "layout")}).replace("<", "\\u003c")
    return f"<div class='stg-plotly'></div><script type='application/json'>{text}</script>"


def _begin(app: Sphinx) -> None:
    OUTDIR.append(Path(app.outdir))


def _add_library(app: Sphinx, error: Exception | None) -> None:
    """One copy of plotly.js for all pages, and the look of plots that the report has, too."""
    static = Path(app.outdir) / "_static"
    if error is None and static.exists():
        (static / "plotly.min.js").write_text(get_plotlyjs(), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("builder-inited", _begin)
    app.connect("build-finished", _add_library)
    app.add_js_file(None, body=PLOT_LOOK.read_text(encoding="utf-8"))
    return {"parallel_read_safe": False, "parallel_write_safe": True}
