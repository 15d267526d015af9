"""What a search may cost."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from stg_lab.errors import CallError

SECONDS = {"s": 1, "second": 1, "min": 60, "minute": 60, "m": 60, "h": 3600, "hour": 3600, "d": 86400, "day": 86400}
COUNTS = ("video", "pass")


@dataclass(frozen=True)
class Budget:
    """An amount of one unit: "seconds" of wall time, "videos", or "passes" through the network. Infinity for no bound."""

    amount: float = math.inf
    unit: str = "passes"

    def __str__(self) -> str:
        if math.isinf(self.amount):
            return "no bound"
        return duration(self.amount) if self.unit == "seconds" else f"{self.amount:g} {self.unit}"

    def passes(self, workers: int, seconds_a_pass: float) -> float:
        """In the unit that costs are counted in: passes of the network, or videos.

        Args:
            workers: how many work at a time.
            seconds_a_pass: how long a pass took so far.
        """
        return self.amount * workers / seconds_a_pass if self.unit == "seconds" else self.amount


def budget(given: Any) -> Budget:
    """Read "20 min", "2h", "400 videos", "6000 passes", or a number of videos; None is no bound.

    Raises:
        CallError: anything else.

    >>> budget("20 min")
    Budget(amount=1200.0, unit='seconds')
    >>> budget(400)
    Budget(amount=400.0, unit='videos')
    """
    if given is None or isinstance(given, Budget):
        return given or Budget()
    if isinstance(given, int | float) and not isinstance(given, bool):
        amount, word = float(given), "videos"
    else:
        match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([A-Za-z]+)\s*", given) if isinstance(given, str) else None
        amount, word = (float(match[1]), match[2].lower()) if match else (0.0, "")
    singular = word.removesuffix("es") if word.startswith("pass") else word if word == "s" else word.removesuffix("s")
    known = singular in (*SECONDS, *COUNTS)
    if not known or not 0 < amount < math.inf:
        raise CallError(
            f"budget is a time, a number of videos or of passes, got {given!r}. Type for example budget='20 min', '400 videos' or "
            "'6000 passes'."
        )
    if singular in COUNTS:
        return Budget(amount, "videos" if singular == "video" else "passes")
    return Budget(amount * SECONDS[singular], "seconds")


def duration(seconds: float) -> str:
    """A time in words.

    >>> duration(95)
    '1:35 min'
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"
    return f"{int(seconds) // 3600}:{int(seconds) % 3600 // 60:02d} h"
