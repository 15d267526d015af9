"""What ratings amount to: shares of each two settings, and a strength of each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import combinations

import numpy as np
from numpy import ndarray

from stg_lab.errors import CallError, RatingError
from stg_lab.given import shown
from stg_lab.metrics.intervals import Interval
from stg_lab.metrics.table import aligned
from stg_lab.rating.journal import Answer
from stg_lab.rating.strengths import bradley_terry, drawn, hang_together, prior

PAIR, CAPTION = "pair", "caption"
SIDES = (2.5, 97.5)


@dataclass(frozen=True)
class Share:
    """How two settings compare in one aspect.

    Attributes:
        first, equal, second: how often the first was preferred, none, or the second, as shares of all answers.
        share: of the first, an equal counting half, with its 95 % interval; its count is the number of answers.
    """

    first: float
    equal: float
    second: float
    share: Interval


class Result:
    """Shares and strengths of rated settings, with 95 % intervals. Shows itself as a table; `lab.plots.strengths` draws it.

    Intervals are over captions and seeds (`by`), those of the Bayesian bootstrap (Rubin 1981) with half a win for either side
    beforehand; see `stg_lab.rating.strengths`. Raters are not drawn anew: what others would say is not known from it.

    Attributes:
        settings: names, in alphabetical order.
        aspects: those that were asked.
        raters: how many there are.
        answers: how many there are.
        shares: by aspect and pair of settings: `result.shares["motion"]["CFG(4)", "CFG(4) + STG(1, ...)"]`.
        strengths: by aspect and setting, Bradley and Terry's (1952), ties as half a win for either: a is preferred over b with
            probability s_a / (s_a + s_b). Their geometric mean is 1. Those of settings that nothing connects are left out.
    """

    def __init__(
        self, answers: Sequence[Sequence[Answer]], settings: Sequence[str], aspects: Sequence[str], *, by: str = PAIR
    ) -> None:
        """Take the answers of each rater together.

        Raises:
            CallError: `by` is no such unit.
            RatingError: there is no answer.
        """
        self.by = check_unit(by)
        self.settings, self.aspects = tuple(settings), tuple(aspects)
        self.raters = sum(bool(one) for one in answers)
        every = [answer for one in answers for answer in one]
        self.answers = len(every)
        if not every:
            raise RatingError("there is no answer yet. Rate at least one pair.")
        self.shares: dict[str, dict[tuple[str, str], Share]] = {}
        self.strengths: dict[str, dict[str, Interval]] = {}
        for aspect in self.aspects:
            these = [answer for answer in every if answer.aspect == aspect]
            if these:
                self._count(aspect, these)

    def _count(self, aspect: str, answers: list[Answer]) -> None:
        won, tied = _wins(answers, self.settings, self.by)
        wins = won + tied / 2  # [unit, setting, setting]
        again = drawn(wins)
        self.shares[aspect] = {
            (a, b): _share(won.sum(0), tied.sum(0), again, i, j)
            for (i, a), (j, b) in combinations(enumerate(self.settings), 2)
            if wins[:, [i, j], [j, i]].any()
        }
        self.strengths[aspect] = {}
        if hang_together(wins):
            values, spread = bradley_terry(wins.sum(0) + prior(wins)), bradley_terry(again)
            low, high = np.percentile(spread, SIDES, axis=0)
            counts = (wins + wins.transpose(0, 2, 1)).sum((0, 2))
            for i, name in enumerate(self.settings):
                self.strengths[aspect][name] = Interval(
                    float(values[i]), float(low[i]), float(high[i]), round(counts[i])
                )

    @property
    def letters(self) -> dict[str, str]:
        """A letter for each setting, since names are long: A, B, ..., Z, S26, S27, ..."""
        return {name: chr(65 + i) if i < 26 else f"S{i}" for i, name in enumerate(self.settings)}

    def __repr__(self) -> str:
        letters = self.letters
        shares: list[tuple[str, ...]] = [("aspect", "", "share of the first", "first / equal / second", "answers")]
        rows: list[tuple[str, ...]] = [("aspect", "", "strength", "answers")]
        for aspect, pairs in self.shares.items():
            for (a, b), one in pairs.items():
                shares.append(
                    (
                        aspect,
                        f"{letters[a]} over {letters[b]}",
                        _share_text(one.share),
                        _split(one),
                        str(one.share.count),
                    )
                )
            for name, strength in self.strengths[aspect].items():
                rows.append((aspect, letters[name], _ratio(strength), str(strength.count)))
        legend = aligned([(letter, name) for name, letter in letters.items()])
        return "\n\n".join([self._summary(), legend, aligned(shares), *([aligned(rows)] if len(rows) > 1 else [])])

    def _summary(self) -> str:
        who = f"{self.answers} answer{'s' if self.answers > 1 else ''} of {self.raters} rater{'s' if self.raters > 1 else ''}"
        return f"{who}. An equal counts half for either; intervals are 95 %, over {self.by}s."

    def _repr_html_(self) -> str:
        names = "".join(f"<div><b>{letter}</b>&ensp;{escape(name)}</div>" for name, letter in self.letters.items())
        sections = [
            _section(aspect, self.shares[aspect], self.strengths[aspect], self.letters) for aspect in self.shares
        ]
        return f"<div><div style='opacity:.75'>{escape(self._summary())}</div><div style='margin:8px 0'>{names}</div>{''.join(sections)}</div>"


def check_unit(by: str) -> str:
    """What intervals are over.

    Raises:
        CallError: neither "pair" nor "caption".
    """
    if by not in (PAIR, CAPTION):
        raise CallError(f"by is 'pair' or 'caption', got {shown(by)}.")
    return by


def _wins(answers: list[Answer], settings: Sequence[str], by: str) -> tuple[ndarray, ndarray]:
    """How often i was preferred over j in each unit, and how often neither was, `(unit, setting, setting)` each."""
    place = {name: i for i, name in enumerate(settings)}
    units = {unit: i for i, unit in enumerate(dict.fromkeys(_unit(answer, by) for answer in answers))}
    won, tied = np.zeros((2, len(units), len(settings), len(settings)))
    for answer in answers:
        unit, left, right = units[_unit(answer, by)], place[answer.pair.left], place[answer.pair.right]
        if answer.answer == "equal":
            tied[unit, left, right] += 1
            tied[unit, right, left] += 1
        else:
            better, worse = (left, right) if answer.answer == "left" else (right, left)
            won[unit, better, worse] += 1
    return won, tied


def _unit(answer: Answer, by: str) -> object:
    return answer.pair.key.caption if by == CAPTION else answer.pair.key


def _share(won: ndarray, tied: ndarray, again: ndarray, i: int, j: int) -> Share:
    count = won[i, j] + won[j, i] + tied[i, j]
    value = float((won[i, j] + tied[i, j] / 2) / count)
    low, high = np.percentile(again[:, i, j] / (again[:, i, j] + again[:, j, i]), SIDES)
    # Where one side won everything the interval reaches the end, as Brown, Cai and DasGupta (2001) have it.
    interval = Interval(value, float(min(low, value)), float(max(high, value)), int(count))
    return Share(float(won[i, j] / count), float(tied[i, j] / count), float(won[j, i] / count), interval)


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def _share_text(one: Interval) -> str:
    return f"{_percent(one.value)} ({100 * one.low:.0f} to {100 * one.high:.0f})"


def _split(one: Share) -> str:
    return " / ".join(f"{100 * part:.0f}" for part in (one.first, one.equal, one.second)) + " %"


def _ratio(one: Interval) -> str:
    return f"{one.value:.2f} ({one.low:.2f} to {one.high:.2f})"


# ---- the table as HTML: inline styles only, which survive in a notebook that is not trusted ----

CELL = "padding:2px 14px 2px 0;border:0;background:none;text-align:left;vertical-align:middle;font-weight:400;white-space:nowrap"


def _section(
    aspect: str, shares: dict[tuple[str, str], Share], strengths: dict[str, Interval], letters: dict[str, str]
) -> str:
    ends = [abs(math.log(x)) for one in strengths.values() for x in (one.low, one.high)]
    reach = 1.05 * max(1.0, *ends, 0.0)
    rows = [(f"<b>{letters[name]}</b>", _dot(one, reach), _ratio(one)) for name, one in strengths.items()]
    pairs = [
        (f"<b>{letters[a]}</b> over <b>{letters[b]}</b>", _share_text(one.share), _split(one), str(one.share.count))
        for (a, b), one in shares.items()
    ]
    tables = _table(("", "strength", ""), rows) if rows else ""
    tables += _table(("", "share of the first", "first / equal / second", "answers"), pairs)
    return (
        f"<div style='margin:12px 0 2px;font-weight:650'>{escape(aspect)}</div>"
        f"<div style='display:flex;flex-wrap:wrap;gap:4px 36px'>{tables}</div>"
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    names = "".join(f"<th style='{CELL};opacity:.75'>{name}</th>" for name in head)
    body = "".join(f"<tr>{''.join(f'<td style={CELL!r}>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return (
        f"<table style='width:auto;margin:0;border-collapse:collapse;font-size:inherit'><tr>{names}</tr>{body}</table>"
    )


def _dot(one: Interval, reach: float) -> str:
    """A strength with its interval on a logarithmic scale; 1, where all are alike, is the line in the middle."""
    value, low, high = (50 + 50 * math.log(x) / reach for x in (one.value, one.low, one.high))
    part = "<span style='position:absolute;{}'></span>"
    line = part.format("left:50%;top:0;bottom:0;width:1px;background:currentColor;opacity:.35")
    bar = part.format(f"left:{low:.1f}%;width:{high - low:.1f}%;top:8px;height:2px;background:#0072B2")
    dot = part.format(
        f"left:calc({value:.1f}% - 5px);top:4px;width:10px;height:10px;border-radius:5px;background:#0072B2"
    )
    return f"<span style='position:relative;display:inline-block;width:180px;height:18px'>{line}{bar}{dot}</span>"
