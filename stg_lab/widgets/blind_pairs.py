"""Blind pairs: two videos side by side, one question at a time, answered by buttons or keys."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import traitlets

from stg_lab.errors import CallError
from stg_lab.given import takes
from stg_lab.rating import ASPECTS, Rating, gather
from stg_lab.widgets.base import Explorer, module, shows_problems, style
from stg_lab.widgets.sprites import strip
from stg_lab.widgets.still import Still, Strip, whole

OUT = "out/ratings.jsonl"
PIXELS = 12_000_000  # of one video; larger ones are shown smaller, and the widget says so


class BlindPairs(Explorer):
    """The questions of a rating, for a person to answer. `lab.rate` makes it.

    Until the result is shown nothing of it says which setting made which video.

    Attributes:
        question: the question that is shown, as plain values; empty when all are answered.
        progress: how many questions are answered.
        given: what the browser did last: `count`, of all that it did; `do`, an answer, "undo", "stop" or "go on"; and `number`,
            the question that was answered.
        heard: the last `count` that was dealt with.
        result: the result as HTML; "" until all is answered or the rater stops.
        playing: whether the videos move.
    """

    _esm, _css = module("working", "blind_pairs"), style("blind_pairs")
    STATE = ("question", "progress", "result", "playing", "given", "heard")

    question = traitlets.Dict().tag(sync=True)
    progress = traitlets.Int(0).tag(sync=True)
    given = traitlets.Dict().tag(sync=True)
    heard = traitlets.Int(0).tag(sync=True)
    result = traitlets.Unicode("").tag(sync=True)
    playing = traitlets.Bool(True).tag(sync=True)

    def __init__(self, rating: ShownRating, *, fps: float = 8) -> None:
        self._rating = rating
        without = len(rating.left_out)
        super().__init__(
            {
                "total": rating.total,
                "pairs": rating.pairs,
                "aspects": list(rating.aspects),
                "fps": fps,
                "note": f"{without} video{'s have' if without > 1 else ' has'} no partner of the same caption and seed"
                if without
                else "",
            }
        )
        self.show()

    @shows_problems
    def do(self, what: str) -> None:
        """Answer ("left", "right", "equal"), "undo", "stop" or "go on", as the buttons do."""
        if what in ("stop", "go on"):
            self.show(stop=what == "stop")
        elif what == "undo":
            self._rating.undo()
        else:
            self._rating.answer(what)

    def show(self, *, stop: bool = False) -> None:
        """Put the next question before the rater, or the result where there is none or the rater stops."""
        asked = None if stop else self._rating.next()
        with self.hold_sync():  # question and pictures arrive together
            self.progress = self._rating.done
            if asked is None:
                self.result, self.question, self.sheets = self._told(), {}, {}
                return
            self.result = ""
            sheets, size = self.sheets, self.question.get("size", {})
            if f"left/{asked.pair}" not in sheets:
                (left, size), (right, _) = strip(asked.left, PIXELS), strip(asked.right, PIXELS)
                sheets = {f"left/{asked.pair}": left, f"right/{asked.pair}": right}
            shrink = round(asked.left.shape[2] / size["width"])
            self.sheets = sheets
            self.question = {
                "number": asked.number, "pair": asked.pair, "caption": asked.caption, "aspect": asked.aspect, "words": asked.words,
                "size": size, "shrink": shrink,
            }  # fmt: skip

    def _told(self) -> str:
        return self._rating.result()._repr_html_() if self._rating.done else "<p>Nothing has been rated.</p>"

    @traitlets.observe("given")
    def _given(self, change: Any) -> None:
        asked = change["new"]
        with self.hold_sync():  # who sees the next question can answer it: that it was heard arrives together with it
            try:
                answers = asked["do"] not in ("undo", "stop", "go on")
                if not answers or asked["number"] == self.question.get("number"):  # a second view may have been quicker
                    self.do(asked["do"])
            finally:
                self.heard = asked["count"]

    def still(self) -> Still | None:
        """The two videos of the question; None where there is none."""
        if not self.question:
            return None
        pair = self.question["pair"]
        strips = [Strip(side, "#16181d", whole(self.sheets[f"{side}/{pair}"])) for side in ("left", "right")]
        return Still(f"Pair {pair + 1} of {self.view['pairs']}: {self.question['words']}", strips)

    def __repr__(self) -> str:
        return f"BlindPairs({self.progress} of {self.view['total']} questions answered)"


class ShownRating(Rating):
    """A rating that shows itself in a notebook; what a script answers meanwhile is followed there."""

    fps = 8.0

    def answer(self, which: str) -> None:
        super().answer(which)
        self._follow()

    def undo(self) -> None:
        super().undo()
        self._follow()

    def _follow(self) -> None:
        if "widget" in self.__dict__:  # else nobody looks on
            self.widget.show()

    @cached_property
    def widget(self) -> BlindPairs:
        """What a notebook shows."""
        return BlindPairs(self, fps=self.fps)

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return self.widget._repr_mimebundle_(**options)


@takes()
def rate(
    *sources: Any,
    out: str | os.PathLike[str] = OUT,
    aspects: Sequence[str] = tuple(ASPECTS),
    captions: Sequence[str] | None = None,
    rater: str | int | None = None,
    seed: int | None = None,
    fps: float = 8,
) -> ShownRating:
    """Judge videos of several settings without knowing which is which: two of one caption and seed side by side, sides at random.

    The last line of a notebook's cell shows the questions; scripts use `rating.next()` and `rating.answer("left")`. Every answer is
    kept at once, and the same call goes on where it stopped. A simple form of the user study of Hyung et al. (2025, appendix A2).

    Args:
        *sources: at least two of runs, recordings, or paths or names of recordings, which are called after their guidance; or one
            dict of name -> source, whose sources may also be arrays `(batch, frame, height, width, 3)` in [0, 1]. Videos are paired by
            caption and seed, or by their place as soon as one source is an array. What has no partner is in `rating.left_out`.
        out: the file of answers, JSON lines; one for each rater.
        aspects: what is asked, of "frame quality", "motion", "match to caption", "overall". Videos without a caption are not asked
            for their match to it.
        captions: of arrays, one a clip.
        rater: one letter or a number; drawn at random by default. No name is kept, nor anything of the machine.
        seed: of the order and the sides; drawn and kept in the file by default.
        fps: frames a second.

    Returns:
        The rating: `result()`, `next()`, `answer()`, `undo()`, `left_out`, and `widget`, what a notebook shows.

    Raises:
        CallError: sources that cannot be compared blindly: fewer than two, of different sizes, without names, without any pair; or
            an aspect, rater or seed that cannot be.
        RecordingError: no recording of that name, no final video, or only rough pictures of it.
        RatingError: the file is of other videos, settings, aspects, another rater or seed; or it cannot be written.

    >>> rating = rate("repair_both", "repair_unguided", out="out/ratings.jsonl")  # doctest: +SKIP
    """
    if not 0 < fps <= 120:
        raise CallError(f"fps is the number of frames a second, above 0 and at most 120, got {fps}.")
    if Path(out).is_dir():
        raise CallError(
            f"out={str(out)!r} is a folder. Name the file, for example {str(Path(out) / 'ratings.jsonl')!r}."
        )
    clips = gather(*sources, captions=captions)
    rating = ShownRating(clips, out=out, aspects=aspects, rater=rater, seed=seed)
    rating.fps = fps
    return rating
