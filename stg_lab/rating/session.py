"""One rater's session: the next question, the answer, and what all answers amount to."""

from __future__ import annotations

import glob
import os
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from stg_lab.errors import CallError, RatingError
from stg_lab.given import Place, Several, Text, Whole, shown, takes
from stg_lab.given import read as read_typed
from stg_lab.rating.journal import Answer, Head, Journal, read
from stg_lab.rating.pairs import ANSWERS, ASPECTS, check_aspects, paired, without_partner
from stg_lab.rating.result import PAIR, Result, check_unit
from stg_lab.rating.sources import Clips

RATER = re.compile(r"[A-Za-z]|[0-9]{1,4}")


@dataclass(frozen=True)
class Question:
    """What a rater is asked. Nothing in it says which setting made which video.

    Attributes:
        number: of the question in the session, from 0.
        pair: number of the pair in the session, from 0.
        caption: what both videos were to show; "" if that is not known.
        aspect: what is judged, a key of `ASPECTS`.
        words: the question.
        left, right: the videos, in [0, 1].
    """

    number: int
    pair: int
    caption: str
    aspect: str
    words: str
    left: Float[ndarray, "frame height width 3"] = field(repr=False)
    right: Float[ndarray, "frame height width 3"] = field(repr=False)


class Rating:
    """Blind pairs, asked one after the other. Make it with `lab.rate`.

    Attributes:
        settings: names of what is compared, in alphabetical order.
        aspects: what is asked of every pair; the caption's match only where there is a caption.
        rater: the number or letters that stand for the rater in the file.
        path: the file of answers.
        left_out: the videos that have no partner, as "setting: caption, seed".
    """

    def __init__(
        self,
        clips: Sequence[Clips],
        *,
        out: str | os.PathLike[str],
        aspects: Sequence[str] = tuple(ASPECTS),
        rater: str | int | None = None,
        seed: int | None = None,
    ) -> None:
        """Open or begin the file of answers.

        Raises:
            CallError: nothing to compare, or an aspect, rater or seed that cannot be.
            RatingError: the file is of other videos, settings, aspects, another rater or seed; or it cannot be written.
        """
        wanted = Head(
            _rater(rater),
            secrets.randbelow(2**32) if seed is None else _seed(seed),
            check_aspects(aspects),
            {one.name: one.fingerprint for one in sorted(clips, key=lambda one: one.name)},
        )
        paired(clips, seed=0, rater="")  # there is something to compare, or no file is begun
        self._journal = Journal(Path(out), wanted)
        head = self._journal.head
        _check_same(self._journal.path, head, wanted, ("rater", rater is not None), ("seed", seed is not None))
        self._clips = {one.name: one for one in clips}
        self._pairs = paired(clips, seed=head.seed, rater=head.rater)
        self._questions = [
            (number, pair, aspect)
            for number, pair in enumerate(self._pairs)
            for aspect in head.aspects
            if pair.key.caption or aspect != "match to caption"
        ]
        self.settings, self.aspects = tuple(head.settings), head.aspects
        self.rater, self.path = head.rater, self._journal.path
        self.left_out = without_partner(clips)

    @property
    def total(self) -> int:
        """How many questions there are."""
        return len(self._questions)

    @property
    def pairs(self) -> int:
        """How many pairs of videos there are."""
        return len(self._pairs)

    @property
    def done(self) -> int:
        """How many questions are answered."""
        return len(self._journal.answers)

    def next(self) -> Question | None:
        """The question that is to be answered; None when all are."""
        place = self._place()
        if place is None:
            return None
        number, pair, aspect = self._questions[place]
        left, right = (self._clips[name][pair.key].astype(np.float32) / 255 for name in (pair.left, pair.right))
        return Question(place, number, pair.key.caption, aspect, ASPECTS[aspect], left, right)

    def answer(self, which: str) -> None:
        """Answer the question that `next` gives; it is on the disk when this returns.

        Args:
            which: "left", "right" or "equal".

        Raises:
            CallError: another word, or there is no question left.
            RatingError: it cannot be written.
        """
        if which not in ANSWERS:
            raise CallError(f"an answer is {', '.join(map(repr, ANSWERS))}, got {which!r}.")
        place = self._place()
        if place is None:
            raise CallError(
                "all questions are answered. Type rating.result(), or rating.undo() to take the last answer back."
            )
        _, pair, aspect = self._questions[place]
        self._journal.add(Answer(pair, aspect, which))

    def undo(self) -> None:
        """Take the last answer back: its question comes next.

        Raises:
            RatingError: there is none, or this cannot be written.
        """
        self._journal.undo()

    def result(self, *, by: str = PAIR) -> Result:
        """What the answers so far amount to.

        Args:
            by: what intervals are over: "pair", other captions and seeds, or "caption", other captions, where several seeds of one
                caption are judged alike.

        Raises:
            CallError: another unit.
            RatingError: there is no answer yet.
        """
        return Result([self._journal.answers], self.settings, self.aspects, by=by)

    def _place(self) -> int | None:
        known = {answer.question for answer in self._journal.answers}
        open_ = (
            i for i, (_, pair, aspect) in enumerate(self._questions) if (pair.key, pair.settings, aspect) not in known
        )
        return next(open_, None)

    def __repr__(self) -> str:
        left_out = f", {len(self.left_out)} videos without a partner" if self.left_out else ""
        return f"Rating({self.done} of {self.total} questions about {self.pairs} pairs of {len(self.settings)} settings{left_out})"


@takes(by=Text())
def ratings(files: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], *, by: str = PAIR) -> Result:
    """What several raters' files amount to together.

    Args:
        files: a file, a pattern such as "out/*.jsonl", or several of them.
        by: see `Rating.result`.

    Returns:
        The result over all raters. Each answer counts the same; intervals are over captions and seeds, for these raters.

    Raises:
        RatingError: no file, one that holds no ratings, files of different videos, or one rater's file twice.
        CallError: another unit.
    """
    check_unit(by)
    read_files = read_typed("files", files, Several(Place()), RatingError, "lab.ratings('out/*.jsonl')")
    given = read_files if isinstance(read_files, list) else [read_files]
    found = [path for one in given for path in sorted(glob.glob(os.fspath(one))) or [os.fspath(one)]]
    paths = {Path(path).resolve(): Path(path) for path in found}.values()
    if not paths:
        raise RatingError("no file of ratings was given. Type lab.ratings('out/*.jsonl').")
    heads: dict[Path, Head] = {}
    answers = []
    for path in paths:
        head, one = read(path)
        for other, known in heads.items():
            _check_together(path, head, other, known)
        heads[path] = head
        answers.append(one)
    aspects = dict.fromkeys(aspect for head in heads.values() for aspect in head.aspects)
    return Result(answers, tuple(next(iter(heads.values())).settings), tuple(a for a in ASPECTS if a in aspects), by=by)


def _rater(given: str | int | None) -> str:
    if given is None:
        return secrets.token_hex(3)
    if not isinstance(given, str | int) or isinstance(given, bool) or not RATER.fullmatch(str(given)):
        raise CallError(
            f"a rater is one letter or a number, so that no file holds a name: rater='1', got {shown(given)}."
        )
    return str(given)


def _seed(given: int) -> int:
    return read_typed("seed, where it is not drawn,", given, Whole(), example="seed=0")


def _check_same(path: Path, head: Head, wanted: Head, *given: tuple[str, bool]) -> None:
    """A file that is there must be of the same question."""
    other = "Type another name: lab.rate(..., out='out/ratings-2.jsonl')."
    if head.settings.keys() != wanted.settings.keys():
        raise RatingError(
            f"{path} is of other settings, {', '.join(head.settings)}, not {', '.join(wanted.settings)}. {other}"
        )
    changed = [name for name, mark in wanted.settings.items() if head.settings[name] != mark]
    if changed:
        raise RatingError(f"{path} is of other videos of {', '.join(changed)}. {other}")
    if head.aspects != wanted.aspects:
        raise RatingError(f"{path} asks for {', '.join(head.aspects)}, not {', '.join(wanted.aspects)}. {other}")
    for name, asked in given:
        if asked and getattr(head, name) != getattr(wanted, name):
            raise RatingError(f"{path} is of {name} {getattr(head, name)}, not {getattr(wanted, name)}. {other}")


def _check_together(path: Path, head: Head, other: Path, known: Head) -> None:
    if head.settings != known.settings:
        raise RatingError(f"{path} and {other} are of different settings or videos. Read them apart.")
    if (head.rater, head.seed) == (known.rater, known.seed):
        raise RatingError(f"{path} and {other} are of the same rater and seed: one is a copy. Leave one out.")
