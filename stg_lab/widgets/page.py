"""An explorer on a page of its own: one file that needs no kernel and asks no network."""

from __future__ import annotations

import base64
import json
from html import escape
from typing import TYPE_CHECKING, Any

import anywidget

from stg_lab.widgets.assets import asset

if TYPE_CHECKING:
    from stg_lab.widgets.base import Explorer

#: Nothing may be asked of any network; only what stands in the file itself is shown and run.
POLICY = (
    "default-src 'none'; img-src data: blob:; media-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'"
)
AT_REST = {"problem": "", "running": False}  # on a page nothing is computed, and nothing goes wrong in a kernel


def alone(explorer: Explorer, *, title: str = "", before: str = "", style: str = "") -> str:
    """A page of one explorer and nothing else, in the element `explorer`.

    Args:
        title: of the page; by default the name of the explorer's class.
        before: JavaScript that runs before it is mounted.
        style: CSS that comes before its own.
    """
    code = "\n".join([str(explorer._esm), asset("page_model.js"), before, "mount('explorer');", asset("in_frame.js")])
    body = f"<div id='explorer'></div>\n{explorer_data(explorer, 'explorer')}"
    look = "\n".join([asset("page.css"), style, str(explorer._css)])
    return document(title or type(explorer).__name__, look, body, f"<script type='module'>\n{code}\n</script>\n")


def document(title: str, style: str, body: str, scripts: str = "") -> str:
    """A whole document that may ask nobody for anything."""
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
{style}
</style>
</head>
<body>
<main>
{body}
</main>
{scripts}</body>
</html>
"""


def explorer_data(explorer: Explorer, id: str) -> str:
    """All that the browser's side of an explorer reads, as data for `mount(id)` of page_model.js: bytes by trait, and `values`."""
    known = anywidget.AnyWidget.class_trait_names()
    traits = {name: getattr(explorer, name) for name in explorer.keys if name not in known and not name.startswith("_")}
    packed = {name: value for name, value in traits.items() if _holds_bytes(value)}
    values = {name: AT_REST.get(name, value) for name, value in traits.items() if name not in packed}
    texts = {trait: {name: base64_of(part) for name, part in parts.items()} for trait, parts in packed.items()}
    return script_json({"values": values, **texts}, id=f"{id}-data")


def _holds_bytes(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(isinstance(part, bytes) for part in value.values())


def script_json(value: Any, *, id: str) -> str:
    """Data for a script. `<` is written so that no text in it can end the element."""
    text = json.dumps(value, default=str).replace("<", "\\u003c")
    return f"<script type='application/json' id='{id}'>{text}</script>\n"


def base64_of(data: bytes) -> str:
    """Bytes as text."""
    return base64.b64encode(data).decode("ascii")
