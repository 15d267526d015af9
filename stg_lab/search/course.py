"""The course of a search: races one after the other, each around the best of the one before, and at the end the test."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from stg_lab.errors import CallError
from stg_lab.search.candidates import Candidate
from stg_lab.search.folder import Missing
from stg_lab.search.race import FEWEST, FRESH_SHARE, Entry, Measure, Race, fresh_states

#: What may be tried around the best so far at a step from 0; none where the course ends.
Propose = Callable[[int, "Candidate | None"], Sequence[Candidate]]


@dataclass
class Result:
    """What came of a search, as far as it went.

    Attributes:
        candidates: all that were tried, by name, the reference and the baselines among them.
        entries: what each did, and in which step, from 0.
        reference: name of the guidance that candidates are added to.
        winner: the best by the states to choose by; "" before there is one.
        fresh: values of fresh states, of the winner and the baselines.
        notes: what was left out, and why.
        waiting: what is missing; "" where the search is done.
    """

    candidates: dict[str, Candidate]
    reference: str
    entries: dict[str, tuple[Entry, int]] = field(default_factory=dict)
    winner: str = ""
    fresh: dict[str, np.ndarray] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    waiting: str = ""


@dataclass
class Course:
    """A search, with whoever makes its states or reads them.

    Args:
        reference: the guidance that candidates are added to.
        propose: gives the candidates of each step.
        measure: gives values of states.
        baselines: gives what a winner is told with; the reference is the first.
        states: how many there are to choose by, and fresh ones.
        budget: in passes, or in videos.
        by_videos: whether every video costs 1.
        error: of the races, and of the interval in the end.
        growing: whether what is proposed depends on the best so far; each step then takes half of what is left.
        told: called with a sentence as it goes on.
    """

    reference: Candidate
    propose: Propose
    measure: Measure
    baselines: Callable[[Candidate], Sequence[Candidate]]
    states: tuple[int, int]
    budget: float = math.inf
    by_videos: bool = False
    error: float = 0.05
    growing: bool = False
    told: Callable[[str], None] = lambda sentence: None

    def run(self) -> Result:
        """Run it to its end, or to where states are missing that nobody makes."""
        found = Result({self.reference.name: self.reference}, self.reference.name)
        try:
            self._choose(found)
            self._tell(found)
        except Missing as missing:
            found.waiting = f"states of {missing} are missing"
        return found

    def cost(self, one: Candidate) -> float:
        """Of one video, in the unit of the budget."""
        return 1.0 if self.by_videos else one.cost

    def _choose(self, found: Result) -> None:
        best: Candidate | None = None
        step = 0
        while more := list(self.propose(step, best)):
            left = (1 - FRESH_SHARE) * self.budget - self._spent(found)
            share = left / 2 if self.growing else left
            field_ = {one.name: one for one in ([best] if best else []) + more}
            costs = {name: self.cost(one) for name, one in field_.items()}
            if step and share < FEWEST * (sum(costs.values()) + self.cost(self.reference)):
                found.notes.append(
                    f"the budget has no room for {len(more)} more around {field_[next(iter(field_))].name}"
                )
                return
            found.candidates |= field_
            race = Race(costs, (self.reference.name, self.cost(self.reference)), self.states[0], share, self.error)
            entries = race.choose(self.measure, lambda n, left, r=race, s=step: self._say(n, left, r, s))  # type: ignore[misc]
            first = next(name for name, entry in entries.items() if name != self.reference.name and not entry.dropped)
            grown = best is None or _better(entries[first], entries[best.name])
            self._merge(found, entries, step, best, field_[first] if grown else None)
            if not grown:
                return
            best = field_[first]
            found.winner, step = best.name, step + 1

    def _spent(self, found: Result) -> float:
        """On the states to choose by, so far."""
        return sum(len(e.values) * self.cost(found.candidates[name]) for name, (e, _) in found.entries.items())

    def _say(self, number: int, left: list[str], race: Race, step: int) -> None:
        where = f"step {step + 1}, " if step else ""
        self.told(f"{where}round {number} of {race.rounds}: {len(left)} candidate{'s' * (len(left) > 1)}")

    def _merge(
        self, found: Result, entries: dict[str, Entry], step: int, before: Candidate | None, best: Candidate | None
    ) -> None:
        """Enter what a step gave. Of who was there before, what it did then stays where that is more."""
        for name, entry in entries.items():
            if name in found.entries:
                old, since = found.entries[name]
                found.entries[name] = (entry if len(entry.values) > len(old.values) else old, since)
            else:
                found.entries[name] = (entry, step)
        if before is None:
            return
        for name, (entry, _) in found.entries.items():
            if name == before.name:
                entry.dropped, entry.why = (0, "") if best is None else (entry.dropped or 1, f"{best.name} is better")
            elif best is None and name in entries and not entry.dropped and name != self.reference.name:
                entry.dropped, entry.why = 1, f"not better than {before.name} by more than a standard error"

    def _tell(self, found: Result) -> None:
        winner = found.candidates[found.winner]
        against = {one.name: one for one in self.baselines(winner)}
        found.candidates |= against
        cost = self.cost(winner) + sum(map(self.cost, against.values()))
        count = fresh_states(cost, self.states[1], self.budget - self._spent(found))
        self.told(f"{winner.name} and {len(against)} baseline{'s' * (len(against) > 1)} on {count} fresh states")
        values = self.measure([*against, winner.name], 0, count, True)
        for name, value in values.items():
            if isinstance(value, str):
                if name in (winner.name, self.reference.name):
                    raise CallError(f"{name} failed: {value}")
                found.notes.append(f"{name} failed: {value}")
            else:
                found.fresh[name] = value


def _better(one: Entry, other: Entry) -> bool:
    """Whether one is better than what was best before by more than a standard error, on the states that both made: of what is as
    good the simpler one stays (Breiman et al. 1984)."""
    n = min(len(one.values), len(other.values))
    gain = one.values[:n, 0] - other.values[:n, 0]
    return n > 1 and gain.mean() > gain.std(ddof=1) / n**0.5
