"""Where the files lie that ship with the lab."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def data_folder(kind: str) -> Path:
    """A folder of data that ships: in the checkout's data/, else the installed copy."""
    checkout = _PACKAGE.parent / "data" / kind
    return checkout if checkout.is_dir() else _PACKAGE / "_data" / kind
