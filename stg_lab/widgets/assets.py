"""The browser's side of the explorers: files that stand beside this one, put together into one module and one style sheet."""

from functools import cache
from importlib.resources import files

SHARED = ("kit", "share", "charts")  # modules that stand in front of every explorer's own


@cache
def asset(name: str) -> str:
    """A file of the browser's side, read once."""
    return (files("stg_lab.widgets") / "static" / name).read_text(encoding="utf-8")


def module(*names: str) -> str:
    """The whole JavaScript module of an explorer: one file for the browser, several to read."""
    return "\n".join(asset(f"{part}.js") for part in (*SHARED, *names))


def style(*names: str) -> str:
    """The whole style sheet of an explorer."""
    return "\n".join(asset(f"{part}.css") for part in ("kit", *names))
