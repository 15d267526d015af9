"""What sampling found of weak models, to stand beside scores that look one step ahead."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from stg_lab.errors import CallError


class Outcomes:
    """The first score of a search, by weak model.

    Args:
        found: what `lab.search` or `lab.open_search` gave; None for none.

    Attributes:
        name: of the score; "" where there is none.

    Raises:
        CallError: something else.
    """

    def __init__(self, found: Any) -> None:
        self.name = ""
        self._rows: dict[str, dict[str, Any]] = {}
        if found is None:
            return
        if not (hasattr(found, "table") and hasattr(found, "scores")):
            raise CallError(f"outcomes= is what lab.search or lab.open_search gave, got {type(found).__name__}.")
        self.name = str(found.scores[0])
        for row in found.table.to_dict("records"):  # best first; what fresh seeds say counts more
            if row["weak"] and (row["weak"] not in self._rows or row["states"] == "fresh") and row["videos"]:
                self._rows[row["weak"]] = row

    @property
    def score(self) -> dict[str, Any]:
        """The score as the explorer lists it."""
        return {
            "name": f"measured: {self.name}",
            "long_name": f"Measured: {self.name}",
            "definition": "mean over the videos that a search sampled with STG by this weak model",
            "units": "1",
            "valid_range": "the same at every step",
            "signed": False,
        }

    def values(self, names: Sequence[str]) -> np.ndarray:
        """The means by weak model, `(cell,)`; NaN where nothing was sampled."""
        return np.array([self._rows.get(name, {}).get(self.name, math.nan) for name in names], np.float64)

    def words(self, name: str) -> tuple[str, bool] | None:
        """What was measured of a weak model, and whether it speaks for it; None where nothing was sampled."""
        row = self._rows.get(name)
        if row is None:
            return None
        gain, low, high = (row.get(f"{self.name} {end}") for end in ("gain", "low", "high"))
        told = f"measured: {self.name} {row[self.name]:.3g} of {row['videos']} videos at scale {row['scale']:g}"
        if gain is None or not math.isfinite(gain):
            return told, True
        fresh = "fresh seeds" if row["states"] == "fresh" else "seeds to choose by"
        return f"{told}; {gain:+.2f} ({low:.2f} to {high:.2f}) against the same seeds without it, {fresh}", gain > 0
