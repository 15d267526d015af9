"""What a search goes by: a number for each video, more is better."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from stg_lab import metrics
from stg_lab.digits.captions import CaptionError, parse
from stg_lab.errors import CallError, did_you_mean

Video = Float[ndarray, "frame height width 3"]

#: Scores by the judge of the digits world: of all that a caption asks for. The first is 0 or 1.
JUDGED = {"right": metrics.caption_accuracy, "probability": metrics.caption_probability}
SHARES = ("right", "probability", "preferred")  # told in points, which are hundredths
ASK = "ask"


@dataclass(frozen=True)
class Score:
    """A score.

    Attributes:
        name: what it is called in tables.
        function: the user's own, from a video to a number; None for a score that has a name.
        sign: -1 where less is better.
        source: what tells the user's function from another of the same name.
    """

    name: str
    function: Callable[[np.ndarray], Any] | None = field(default=None, compare=False)
    sign: float = 1.0
    source: str = ""

    @property
    def in_points(self) -> bool:
        """Whether it is a share, and differences are told in points."""
        return self.name in SHARES

    def of(self, video: Video, caption: str) -> float:
        """The score of one video, more is better.

        Args:
            video: in [0, 1].
            caption: what it was to show.

        Raises:
            CallError: the user's function gave no number.
        """
        batch = np.asarray(video, np.float32)[None]
        if self.name in JUDGED and self.function is None:
            return float(JUDGED[self.name](batch, [caption])["all three"][0])
        found = (self.function or metrics.METRICS[self.name].load())(batch)
        try:
            value = float(np.asarray(found[0] if isinstance(found, tuple) else found, np.float64).reshape(-1)[0])
        except (TypeError, ValueError, IndexError):
            value = np.nan
        if not np.isfinite(value):
            raise CallError(
                f"score {self.name} is to give a finite number for a video (1, frame, height, width, 3), it gave {found!r}."
            )
        return self.sign * value


def scores(given: Any, captions: Sequence[str]) -> tuple[Score, ...]:
    """The scores that were asked for.

    Args:
        given: a name, a function from a video `(1, frame, height, width, 3)` in [0, 1] to a number, or a list of these.
        captions: what videos are to show.

    Raises:
        CallError: an unknown name, one of which neither more nor less is better, one that needs a reference, or the judge's where
            a caption is not of the digits world.
    """
    several = list(given) if isinstance(given, list | tuple) else [given]
    found = tuple(_score(one, captions) for one in several)
    names = [one.name for one in found]
    if not found or len(set(names)) < len(names):
        raise CallError(f"score= names one score or several different ones, got {names or given!r}.")
    if ASK in several and len(several) > 1:
        raise CallError(f"score={ASK!r} stands alone: people are asked which video is better, and nothing else counts.")
    return found


def _score(given: Any, captions: Sequence[str]) -> Score:
    if callable(given):
        return Score(getattr(given, "__name__", type(given).__name__), given, source=_source(given))
    if given == ASK:
        return Score("preferred", source=ASK)
    if given in JUDGED:
        for caption in captions:
            try:
                parse(caption)
            except CaptionError as error:
                raise CallError(
                    f"score={given!r} asks the judge of the digits world, and {error} For other models give a function from a video "
                    "to a number, or one of: " + ", ".join(_named()) + "."
                ) from None
        return Score(given)
    metric = metrics.METRICS.get(given) if isinstance(given, str) else None
    if metric is not None and metric.name in _named():
        return Score(metric.name, sign=1.0 if metric.higher_is_better else -1.0)
    why = "is no score"
    if metric is not None:
        why = (
            "is not of one video"
            if metric.of not in ("video", "extra", "digits")
            else "is not better for being more or less"
        )
    raise CallError(
        f"score={given!r} {why}.{did_you_mean(str(given), [*JUDGED, *_named()])} Scores: {', '.join((*JUDGED, ASK, *_named()))}; "
        "or a function from a video (1, frame, height, width, 3) to a number, for example lambda v: -lab.metrics.saturation(v)."
    )


def _named() -> list[str]:
    """Metrics of one video, without a reference, of which more or less is better."""
    every = metrics.METRICS.values()
    return [m.name for m in every if m.of in ("video", "extra", "digits") and m.higher_is_better is not None]


def _source(function: Callable[..., Any]) -> str:
    """A hash of a function's text, or of its code where there is no text."""
    try:
        text = inspect.getsource(function).encode()
    except (OSError, TypeError):
        text = getattr(getattr(function, "__code__", None), "co_code", b"")
    return hashlib.sha256(text).hexdigest()[:16]
