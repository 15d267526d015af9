"""score="ask": people say which of two videos is better, a candidate's or that of the guidance alone, without knowing which is which."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from stg_lab.rating import Rating
from stg_lab.rating.journal import read
from stg_lab.search.bench import Bench
from stg_lab.widgets import rate

PREFERRED = "preferred"
ASPECT = "overall"
EQUAL = 0.5  # what neither is better counts; and what the guidance alone has against itself


class Unanswered(Exception):
    """Questions are open; whoever asked goes on when they are answered.

    Attributes:
        rating: the blind pairs.
    """

    def __init__(self, rating: Rating) -> None:
        super().__init__(f"{rating.total - rating.done} blind pairs are to be answered")
        self.rating = rating


class Asked:
    """Makes states, and has people compare each with that of the guidance alone, of the same caption and seed.

    Args:
        bench: makes the videos.
        reference: name of the guidance alone.
    """

    def __init__(self, bench: Bench, reference: str) -> None:
        self.bench, self.reference = bench, reference

    def measure(self, names: Sequence[str], first: int, last: int, fresh: bool) -> dict[str, np.ndarray | str]:
        """As `Bench.measure`: 1 where a candidate's video was preferred, 0 where the other was, 0.5 where they were equal.

        Raises:
            Unanswered: not all were asked yet.
        """
        folder = self.bench.folder
        self.bench.make(names, first, last, fresh)
        alone = folder.ids(self.reference, fresh)[first:last]
        for id in alone:
            folder.keep_own(id, {PREFERRED: EQUAL})
        for name in names:
            ids = folder.ids(name, fresh)[first:last]
            if name != self.reference and not any(map(folder.failure, ids)):
                self._ask(name, ids, alone)
        return folder.read(names, first, last, fresh)

    def _ask(self, name: str, ids: list[str], alone: list[str]) -> None:
        folder = self.bench.folder
        cells = [folder.cell(id) for id in ids]
        if all(cell and PREFERRED in cell["values"] for cell in cells):
            return
        mark = hashlib.sha256(" ".join([*ids, *alone]).encode()).hexdigest()[:16]
        rating = rate(
            {side: np.stack([folder.video(id) for id in of]) for side, of in ((name, ids), (self.reference, alone))},
            out=folder.path / "answers" / f"{mark}.jsonl",
            aspects=(ASPECT,),
            captions=[cell["caption"] for cell in cells if cell],
        )
        if rating.done < rating.total:
            raise Unanswered(rating)
        for answer in read(rating.path)[1]:
            chosen = {"left": answer.pair.left, "right": answer.pair.right}.get(answer.answer)
            value = EQUAL if chosen is None else float(chosen == name)
            folder.keep_own(ids[answer.pair.key.turn], {PREFERRED: value})
