"""The language of the digits world: what a caption may say, and how to read one back.

The whole grammar::

    caption  =  "a" colour digit motion
    colour   =  "red" | "green" | "blue" | "yellow" | "white"
    digit    =  "zero" | "one" | "two" | ... | "nine"
    motion   =  "moving left" | "moving right" | "moving up" | "moving down"
              | "turning" | "growing" | "standing still" | "bouncing"

That is 5 x 10 x 8 = 400 captions, and the empty caption, which means "anything" (it is the unconditional prompt).
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

COLOURS = ("red", "green", "blue", "yellow", "white")
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
MOTIONS = ("left", "right", "up", "down", "turning", "growing", "still", "bouncing")

MOTION_PHRASES = {
    "left": "moving left",
    "right": "moving right",
    "up": "moving up",
    "down": "moving down",
    "turning": "turning",
    "growing": "growing",
    "still": "standing still",
    "bouncing": "bouncing",
}
_MOTION_OF_PHRASE = {phrase: motion for motion, phrase in MOTION_PHRASES.items()}

WORDS = ("a", *COLOURS, *DIGITS, "moving", "left", "right", "up", "down", "turning", "growing", "standing", "still", "bouncing")  # fmt: skip


class CaptionError(ValueError):
    """A caption that the digits world cannot show."""


@dataclass(frozen=True)
class Label:
    """What one clip shows. `digit` is 0..9, `colour` one of `COLOURS`, `motion` one of `MOTIONS`."""

    digit: int
    colour: str
    motion: str

    @property
    def caption(self) -> str:
        """The label in words.

        >>> Label(7, "red", "left").caption
        'a red seven moving left'
        """
        return f"a {self.colour} {DIGITS[self.digit]} {MOTION_PHRASES[self.motion]}"


def parse(caption: str) -> Label:
    """Read a caption back into its label. Upper and lower case are the same; spaces are free.

    >>> parse("a red seven moving left")
    Label(digit=7, colour='red', motion='left')

    Raises:
        CaptionError: the caption is outside the grammar; the message names the word and what may stand there.
    """
    words = caption.lower().split()
    slots = (("article", ("a",)), ("colour", COLOURS), ("digit", DIGITS))
    for position, (slot, allowed) in enumerate(slots):
        if position >= len(words):
            raise _error(caption, f"it ends before the {slot}", allowed)
        if words[position] not in allowed:
            raise _error(caption, f"{words[position]!r} is not a {slot}", allowed, words[position])
    phrase = " ".join(words[3:])
    if phrase not in _MOTION_OF_PHRASE:
        what = f"{phrase!r} is not a motion" if phrase else "it ends before the motion"
        raise _error(caption, what, tuple(_MOTION_OF_PHRASE), phrase)
    return Label(DIGITS.index(words[2]), words[1], _MOTION_OF_PHRASE[phrase])


def all_labels() -> Iterator[Label]:
    """Every label of the world, 400 of them, digits slowest."""
    for digit, colour, motion in itertools.product(range(10), COLOURS, MOTIONS):
        yield Label(digit, colour, motion)


def _error(caption: str, what: str, allowed: tuple[str, ...], given: str = "") -> CaptionError:
    close = difflib.get_close_matches(given, allowed, n=1) if given else []
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return CaptionError(
        f"caption {caption!r}: {what}.{hint} Allowed there: {', '.join(allowed)}. "
        f"A whole caption reads like 'a red seven moving left'."
    )
