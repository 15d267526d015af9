"""A bar: what is made, of how much, and what time is left."""

from __future__ import annotations

import math
from typing import Any, Self


class Progress:
    """A bar over the budget, in passes or videos.

    Attributes:
        total: how much there will be; infinity where that is not known.
    """

    def __init__(self, *, shown: bool) -> None:
        from tqdm.auto import tqdm

        self._bar: Any = tqdm(desc="search", disable=not shown, unit=" passes", bar_format=FORMAT)
        self._made = 0

    @property
    def total(self) -> float:
        return self._bar.total or math.inf

    @total.setter
    def total(self, amount: float) -> None:
        self._bar.total = None if math.isinf(amount) else round(amount)
        self._bar.refresh()

    def made(self, cost: float) -> None:
        """A video is done."""
        self._made += 1
        self._bar.set_postfix_str(f"{self._made} videos", refresh=False)
        self._bar.update(round(cost, 1))

    def say(self, sentence: str) -> None:
        """What is done now."""
        if not self._bar.disable:
            self._bar.write(f"search: {sentence}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()


FORMAT = "{desc}: {percentage:3.0f}%|{bar:20}| {n:.0f}/{total_fmt}{unit}, {elapsed}<{remaining}{postfix}"
