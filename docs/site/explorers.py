"""Explorers on the pages: ```` ```{explorer} lab.widgets.x0_explorer("repair") ```` is live, without a kernel.

The Python expression is evaluated when the documentation is built; what `to_html()` gives is a file of its own, which a frame
loads when it is scrolled near.
"""

from __future__ import annotations

import hashlib
from functools import cache
from html import escape
from pathlib import Path
from typing import ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import stg_lab as lab

FOLDER = "_explorers"  # of the built documentation
HEIGHT = 640  # pixels of a frame until its page has told its own
ROOT = Path(__file__).resolve().parents[2]


class ExplorerDirective(SphinxDirective):
    """An explorer, from a Python expression."""

    required_arguments = 1
    final_argument_whitespace = True
    option_spec: ClassVar = {"title": directives.unchanged, "height": directives.positive_int}

    def run(self) -> list[nodes.Node]:
        """The frame."""
        html = frame(
            " ".join(self.arguments[0].split()),
            outdir=Path(self.env.app.outdir),
            depth=self.env.docname.count("/"),
            title=self.options.get("title", ""),
            height=self.options.get("height", HEIGHT),
        )
        return [nodes.raw("", html, format="html")]


def frame(expression: str, *, outdir: Path, depth: int, title: str = "", height: int = HEIGHT) -> str:
    """A frame that shows the explorer of an expression, on a page that lies so many folders deep."""
    name = f"{hashlib.sha256(expression.encode()).hexdigest()[:16]}.html"
    file = outdir / FOLDER / name
    if not file.exists() or file.stat().st_mtime < newest():
        explorer = eval(expression, {"lab": lab})  # our own pages
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(explorer.to_html(title=title), encoding="utf-8")
    src, title = f"{'../' * depth}{FOLDER}/{name}", escape(title or expression, quote=True)
    return (
        f'<iframe class="stg-explorer" loading="lazy" src="{src}" title="{title}" style="height:{height}px"></iframe>\n'
        f'<p class="stg-explorer-alone"><a href="{src}">On a page of its own</a></p>\n'
    )


@cache
def newest() -> float:
    """When anything that an explorer is made of was changed last."""
    parts = [*(ROOT / "stg_lab").rglob("*.*"), *(ROOT / "data/recordings").iterdir()]
    return max(part.stat().st_mtime for part in parts if part.suffix in (".py", ".js", ".css", ".zip"))


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("explorer", ExplorerDirective)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
