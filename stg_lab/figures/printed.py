"""The figure class: matplotlib's own, which shows itself in a notebook as it will be printed."""

from __future__ import annotations

import io

from matplotlib.figure import Figure


class PrintedFigure(Figure):
    """A matplotlib figure that shows itself whole, once, and without pyplot having been imported."""

    def _repr_png_(self) -> bytes:
        out = io.BytesIO()
        self.savefig(out, format="png", dpi=self.dpi)
        return out.getvalue()
