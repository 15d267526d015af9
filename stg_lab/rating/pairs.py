"""Which pairs are shown, in which order, and which video lies on which side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from stg_lab.errors import CallError
from stg_lab.given import Refused, Several, Text, shown
from stg_lab.rating.sources import Clips, Key

#: What is asked of each pair, and in which words.
ASPECTS = {
    "frame quality": "Which video has the better single frames: sharper, cleaner, better drawn?",
    "motion": "Which video moves better: smoothly, in a way that makes sense, without flicker?",
    "match to caption": "Which video shows more of what the caption says?",
    "overall": "Which video is better overall?",
}
ANSWERS = ("left", "right", "equal")


@dataclass(frozen=True)
class Pair:
    """Two videos of one caption and seed.

    Attributes:
        key: the caption and seed.
        left, right: names of the settings that made them. Never shown to a rater.
    """

    key: Key
    left: str
    right: str

    @property
    def settings(self) -> tuple[str, str]:
        """Both, in an order that does not tell the sides."""
        a, b = sorted((self.left, self.right))
        return a, b


def paired(clips: Sequence[Clips], *, seed: int, rater: str) -> list[Pair]:
    """Every two settings at every caption and seed that both have, in random order.

    Of the pairs of two settings either lies on the left in half of them (one more, if their number is odd), drawn at random: a
    rater who favours one side favours no setting.

    Args:
        clips: the videos of each setting.
        seed, rater: decide order and sides; raters of one seed see different ones.

    Raises:
        CallError: no two videos have the same caption and seed.
    """
    rng = np.random.default_rng([seed, *rater.encode()])
    pairs = []
    for a, b in combinations(sorted(clips, key=lambda one: one.name), 2):
        there = set(b.keys)
        both = sorted((key for key in a.keys if key in there), key=repr)  # in no order of how they were given
        first = rng.permutation((np.arange(len(both)) + rng.integers(2)) % 2)
        pairs += [
            Pair(key, *((a.name, b.name) if one else (b.name, a.name))) for key, one in zip(both, first, strict=True)
        ]
    if not pairs:
        examples = "; ".join(f"{one.name} has '{one.keys[0]}'" for one in clips if one.keys)
        raise CallError(f"no two videos have the same caption and seed, so there is nothing to compare: {examples}.")
    return [pairs[i] for i in rng.permutation(len(pairs))]


def without_partner(clips: Sequence[Clips]) -> list[str]:
    """Each video that no other setting has a partner of, as "setting: caption, seed"."""
    return [
        f"{one.name}: {key}"
        for one in clips
        for key in one.keys
        if not any(key in other.keys for other in clips if other is not one)
    ]


def check_aspects(aspects: Sequence[str]) -> tuple[str, ...]:
    """The aspects to ask for, in the order given.

    Raises:
        CallError: none, or one that is not known.
    """
    try:
        names = Several(Text()).read(aspects)
    except Refused:
        raise CallError(
            f"aspects are some of {', '.join(map(repr, ASPECTS))}, got {shown(aspects) if aspects else 'none'}."
        ) from None
    chosen = (names,) if isinstance(names, str) else tuple(dict.fromkeys(names))
    unknown = [name for name in chosen if name not in ASPECTS]
    if unknown or not chosen:
        raise CallError(
            f"aspects are some of {', '.join(map(repr, ASPECTS))}, got {', '.join(map(repr, unknown)) or 'none'}."
        )
    return chosen
