"""What `advise` answers: candidates in order, with their evidence, as plain values, text and HTML."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from stg_lab.weak import Weak, parse

FRONT = 5  # how many a text shows beside the shortlist
NOTE = (
    "The order is a tendency (claim 19 of docs/evidence.md); which is best only sampling tells: lab.search(pipe, advice.models, "
    "prompts=[...], seeds=range(16))."
)
SHORT = {"x0_distance": "change of x0", "sharpness_lost": "sharpness lost", "cosine_cfg": "cosine to CFG"}


@dataclass(frozen=True)
class Criterion:
    """One inequality: `score` must be `kind` ("at most" or "at least") `threshold`; and what it says if it is or is not."""

    score: str
    kind: str
    threshold: float
    good: str
    bad: str

    def at(self, threshold: float | None) -> Criterion:
        """The same with another threshold; None changes nothing."""
        return self if threshold is None else replace(self, threshold=threshold)

    @property
    def rule(self) -> str:
        """The inequality in words."""
        return f"{self.score} {self.kind} {self.threshold:g}"


@dataclass(frozen=True)
class Spread:
    """A score over the states: mean, lowest and highest; NaN where it has no value."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: np.ndarray) -> Spread:
        """Of the values that are there."""
        there = values[np.isfinite(values)]
        return (
            cls(float(there.mean()), float(there.min()), float(there.max())) if there.size else cls(*[float("nan")] * 3)
        )

    def __str__(self) -> str:
        if np.isnan(self.mean):
            return "no value"
        return f"{self.mean:.2f}" if self.low == self.high else f"{self.mean:.2f} ({self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True)
class Held:
    """In which share of the states a criterion holds (None: it could not be judged, and does not count against), and whether
    that is enough."""

    share: float | None
    met: bool


@dataclass(frozen=True, eq=False)
class Candidate:
    """A weak model and what is known of it.

    Attributes:
        rank: from 1; equals share one.
        weak: its specification, such as "skip:block:4".
        typed: what to type for it, such as "lab.skip([4])".
        layer, part, axis: where it is in the sweep.
        scores: mean and range over the states, by name.
        held: by name of the criterion.
        together: share of the states in which all criteria hold at once.
        states, of: on how many (step, sample) it rests, and how many the sweep has.
        criteria: what it was judged by.
    """

    rank: int
    weak: str
    typed: str
    layer: int
    part: str
    axis: str
    scores: Mapping[str, Spread]
    held: Mapping[str, Held]
    together: float
    states: int
    of: int
    criteria: Mapping[str, Criterion]

    @property
    def met(self) -> int:
        """How many criteria are met."""
        return sum(held.met for held in self.held.values())

    @property
    def shortlisted(self) -> bool:
        """Whether all are."""
        return self.met == len(self.held)

    @property
    def reasons_for(self) -> tuple[str, ...]:
        """What speaks for it, in words."""
        return tuple(
            self._words(n, c.good) for n, c in self.criteria.items() if self.held[n].met and self.held[n].share
        )

    @property
    def reasons_against(self) -> tuple[str, ...]:
        """What speaks against it, and what could not be judged."""
        found = [self._words(name, c.bad) for name, c in self.criteria.items() if not self.held[name].met]
        found += [
            f"{c.score} could not be judged" for name, c in self.criteria.items() if self.held[name].share is None
        ]
        if self.states < self.of:
            found.append(f"rests on {self.states} of {self.of} states")
        return tuple(found)

    @property
    def at_once(self) -> str:
        """In how many states all criteria hold at once, in words."""
        return f"all at once in {round(self.together * self.states)} of {self.states} state{'s' if self.states > 1 else ''}"

    def at_rank(self, rank: int) -> Candidate:
        """The same with its rank."""
        return replace(self, rank=rank)

    def _words(self, name: str, words: str) -> str:
        criterion, share = self.criteria[name], self.held[name].share
        count = (
            ""
            if self.states == 1 or share is None
            else f", holds in {round(share * self.states)} of {self.states} states"
        )
        return f"{words} ({criterion.score} {self.scores[criterion.score]}, {criterion.kind} {criterion.threshold:g}{count})"

    def __repr__(self) -> str:
        return (
            f"Candidate({self.rank}. {self.typed}: {self.met} of {len(self.held)} criteria met in {self.states} states)"
        )


@dataclass(frozen=True, eq=False)
class Advice:
    """Weak models of a sweep, most promising first: a sequence of `Candidate`, shown as a table in a notebook.

    Attributes:
        candidates: all that could be judged, best first.
        left_out: why each of the others could not, by specification, or by its place in the grid where the model has no such
            weak model.
        criteria: what was asked, by name.
        agree: share of the states in which each must hold.
        steps, samples: what it rests on.
        measured_on: what sharpness was measured on.
        absent: which of `left_out` the model does not have, such as block skips along one axis of full 3D attention.
    """

    candidates: tuple[Candidate, ...]
    left_out: Mapping[str, str]
    criteria: Mapping[str, Criterion]
    agree: float
    steps: tuple[int, ...]
    samples: int
    measured_on: str = ""
    absent: frozenset[str] = frozenset()

    @property
    def unjudged(self) -> int:
        """How many weak models that the model has could not be judged."""
        return len(self.left_out.keys() - self.absent)

    @property
    def shortlist(self) -> tuple[Candidate, ...]:
        """Those that meet every criterion."""
        return tuple(one for one in self.candidates if one.shortlisted)

    @property
    def models(self) -> list[Weak]:
        """The shortlist as weak models, for `lab.search`."""
        return [parse(one.weak) for one in self.shortlist]

    def __len__(self) -> int:
        return len(self.candidates)

    def __iter__(self) -> Iterator[Candidate]:
        return iter(self.candidates)

    def __getitem__(self, number: int) -> Candidate:
        return self.candidates[number]

    @property
    def told(self) -> str:
        """How many are worth sampling, and in which order, in a sentence."""
        along = any(np.isfinite(one.scores["cosine_cfg"].mean) for one in self)
        order = "those whose vector points most along CFG's first" if along else "nearest first"
        return f"{len(self.shortlist)} of {len(self)} weak models are worth sampling, {order}."

    @property
    def basis(self) -> str:
        """What it all rests on, in words."""
        steps = f"step{'s' if len(self.steps) > 1 else ''} {', '.join(map(str, self.steps))}"
        few = " One state says little: sweep several captions and steps." if len(self.steps) * self.samples == 1 else ""
        return f"Rests on {self.samples} sample{'s' if self.samples > 1 else ''} at {steps}.{few}"

    @property
    def asked(self) -> str:
        """The criteria in words."""
        rules = "; ".join(f"{name}: {criterion.rule}" for name, criterion in self.criteria.items())
        return f"{rules}; each in at least {100 * self.agree:g} % of the states"

    @property
    def shown(self) -> tuple[Candidate, ...]:
        """The shortlist, and the next few where it is short."""
        return self.candidates[: max(len(self.shortlist), FRONT)]

    def __str__(self) -> str:
        lines = [
            f"{self.told} {self.basis}",
            f"Asked: {self.asked}.",
        ]
        for one in self.shown:
            lines.append(f"{one.rank:3}. {one.typed}   {one.met}/{len(one.held)} criteria, {one.at_once}")
            for sign, reasons in (("+", one.reasons_for), ("-", one.reasons_against)):
                lines += [
                    textwrap.fill(r, 116, initial_indent=f"     {sign} ", subsequent_indent="       ") for r in reasons
                ]
        rest = len(self) - len(self.shown)
        lines += [f"{rest} more below; advice.candidates has all."] if rest else []
        lines += [f"{self.unjudged} could not be judged; advice.left_out says why."] if self.unjudged else []
        return "\n".join([*lines, NOTE])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        heads = ["", "weak model", *(SHORT[s] for s in SHORT), "all at once", "for", "against"]
        head = "".join(f"<th style='text-align:left'>{h}</th>" for h in heads)
        rows = "".join(self._html_row(one) for one in self.shown)
        rest = len(self) - len(self.shown)
        more = f" {rest} more in <code>.candidates</code>." if rest else ""
        out = f" {self.unjudged} could not be judged, see <code>.left_out</code>." if self.unjudged else ""
        told = html.escape(f"{self.told} {self.basis}")
        return (
            f"<div><p>{told}</p><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
            f"<p style='font-size:90%'>Asked: {html.escape(self.asked)}."
            f"{more}{out}<br>{html.escape(NOTE)}</p></div>"
        )

    def _html_row(self, one: Candidate) -> str:
        numbers = [f"{one.scores[s].mean:.2f}<br><small>{_range(one.scores[s])}</small>" for s in SHORT]
        cells = [f"<b>{one.rank}</b>", f"<code>{html.escape(one.typed)}</code>", *numbers]
        cells += [f"{round(one.together * one.states)} of {one.states}"]
        good, bad = ("<br>".join(map(html.escape, words)) for words in _brief(one))
        cells += [f"<small style='white-space:nowrap'>{good}</small>", f"<small>{bad}</small>"]
        faint = "" if one.shortlisted else " style='opacity:0.65'"
        return (
            f"<tr{faint}>"
            + "".join(f"<td style='text-align:left;vertical-align:top'>{c}</td>" for c in cells)
            + "</tr>"
        )


def _brief(one: Candidate) -> tuple[list[str], list[str]]:
    """Reasons for and against without the numbers that stand beside them in the table."""
    good: list[str] = []
    bad: list[str] = []
    for name, criterion in one.criteria.items():
        held = one.held[name]
        if held.share is None:
            bad.append(f"{criterion.score} could not be judged")
        else:
            words = criterion.good if held.met else criterion.bad
            (good if held.met else bad).append(f"{words}: {round(held.share * one.states)} of {one.states}")
    return good, bad + ([f"rests on {one.states} of {one.of} states"] if one.states < one.of else [])


def _range(spread: Spread) -> str:
    return "" if not spread.low < spread.high else f"{spread.low:.2f}&nbsp;to&nbsp;{spread.high:.2f}"
