"""What every printed figure shares."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RC: Any = {
    "pdf.fonttype": 42,  # TrueType: venues ask for embedded, selectable fonts
    "ps.fonttype": 42,
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same everywhere
    "font.size": 8,
    "savefig.dpi": 200,
    "image.interpolation": "nearest",
}


@contextlib.contextmanager
def print_style() -> Iterator[None]:
    """The lab's style for print, inside the `with`."""
    import matplotlib as mpl

    with mpl.rc_context(RC):
        yield


def save(figure: Figure, stem: str | Path) -> list[Path]:
    """Write a figure as `stem.pdf` (vector, fonts embedded) and `stem.png`; the same input gives the same bytes.

    Args:
        figure: a matplotlib figure.
        stem: path without suffix.

    Returns:
        The two paths.
    """
    stem = Path(stem)
    stem.parent.mkdir(parents=True, exist_ok=True)
    with print_style():
        figure.savefig(stem.with_suffix(".pdf"), metadata={"CreationDate": None})
        figure.savefig(stem.with_suffix(".png"))
    return [stem.with_suffix(".pdf"), stem.with_suffix(".png")]
