"""The API reference: `.. lab-names::` documents public names of the lab, and with `:rest:` all that no other group has named.

So a name that becomes public is in the reference without anybody's doing, and one that is gone fails the build.
"""

from __future__ import annotations

import inspect
import re
from itertools import zip_longest
from types import ModuleType
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import stg_lab as lab
from stg_lab import metrics, weak

NAMED = "lab_names"  # of the page that is being read


class LabNames(SphinxDirective):
    """Names of `stg_lab`, separated by spaces, each with its documentation."""

    has_content = True
    option_spec: ClassVar = {"rest": directives.flag}

    def run(self) -> list[nodes.Node]:
        """What autodoc makes of them."""
        named: set[str] = self.env.temp_data.setdefault(NAMED, set())
        names = " ".join(self.content).split()
        if "rest" in self.options:
            names += [name for name in public() if name not in named]
        named.update(names)
        return self.parse_text_to_nodes("\n".join(documented(name) for name in names))


def public() -> list[str]:
    """Every public name of the lab that is no room of its own, weak models among them."""
    every = dict.fromkeys([*lab.__all__, *weak.KINDS])
    return [name for name in every if not name.startswith("__") and not isinstance(getattr(lab, name), ModuleType)]


def documented(name: str) -> str:
    """The directive that documents a name."""
    thing: Any = getattr(lab, name)
    if inspect.isclass(thing):
        return f".. autoclass:: stg_lab.{name}\n   :members:\n"
    return f".. autofunction:: stg_lab.{name}\n" if callable(thing) else f".. autodata:: stg_lab.{name}\n"


#: What is as it stands: names in backticks, examples, and the stars of an argument's own name.
KEPT = re.compile(r"(`[^`]*`|^\s*(?:>>>|\.\.\.).*|^\s*\*{1,2}\w+(?=:))")


def plain(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Docstrings here are plain text with names in backticks: `|x|` and `out/*.mp4` mean what they say."""
    signs = "[*|:]" if what in ("attribute", "data", "property") else "[*|]"  # there a colon would end a type
    for number, line in enumerate(lines):
        parts = KEPT.split(line)
        outside = [re.sub(f"({signs})", r"\\\1", part) for part in parts[::2]]
        inside = [f"`{part}`" if part.startswith("`") else part for part in parts[1::2]]
        lines[number] = "".join(part for pair in zip_longest(outside, inside, fillvalue="") for part in pair)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("lab-names", LabNames)
    app.connect("autodoc-process-docstring", plain, priority=100)  # before its sections are written in markup
    for name in metrics.__all__:  # names that are imported when first used are found only then
        getattr(metrics, name)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
