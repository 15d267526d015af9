"""Which candidate is best: successive halving on paired states, and a test of the winner on states that took no part.

Two questions are kept apart, since one set of videos cannot answer both: the best of many looks better than it is.

*Choosing.* Every candidate that is left makes the same states (caption and seed), in rounds of equal cost, so that each round
has about twice the states of the one before (sequential halving: Karnin, Koren and Somekh 2013; Jamieson and Talwalkar 2016). After
a round a candidate goes for one of two reasons. It is *worse*: its paired interval against the leader lies below zero. The intervals
share the error of the whole race (Bonferroni over candidates and rounds, as racing does since Maron and Moore 1994), so that the
truly best one is dropped for that reason in at most `error` of all races. Or it is *behind*: the budget has no room for more than
half of those that are left. That is a bet, and is told as one.

*Telling.* The winner and the baselines make fresh states. The interval is of these alone, for one candidate fixed before they were
looked at, so it needs no correction for the choice: where all candidates are equal, a winner is declared in at most `error / 2` of
all searches, whatever happened while choosing.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from stg_lab.errors import CallError

#: Values of states first..last of some settings, fresh ones or not: `(state, score)` each, more is better. A sentence instead of
#: values says why a setting failed.
Measure = Callable[[Sequence[str], int, int, bool], Mapping[str, "np.ndarray | str"]]

FRESH_SHARE = 0.35  # of the budget, for telling; tests/search/test_search_power.py shows what comes of it
FEWEST = (
    8  # states of a first round, and of the test: of fewer, Student's interval says little where values are not normal
)


@dataclass
class Entry:
    """What one candidate did.

    Attributes:
        values: of the states that it made while choosing, `(state, score)`.
        dropped: the round after which it was dropped, from 1; 0 where it was not.
        why: the reason, as a sentence; "" where it was not.
    """

    values: np.ndarray
    dropped: int = 0
    why: str = ""


@dataclass(frozen=True)
class Race:
    """One race for the best candidate; `choose` runs it.

    Args:
        costs: of one state, by candidate.
        reference: the baseline that candidates are added to, and its cost. It makes every state, too.
        states: how many states there are to choose by.
        budget: what may be spent, in the unit of the costs; infinity for as much as the states take.
        error: the chance, over the whole race, that the best candidate is dropped as worse.
    """

    costs: Mapping[str, float]
    reference: tuple[str, float]
    states: int
    budget: float = math.inf
    error: float = 0.05

    @property
    def rounds(self) -> int:
        """Rounds in which halving comes down to one."""
        return max(1, math.ceil(math.log2(len(self.costs))))

    def choose(
        self, measure: Measure, told: Callable[[int, list[str]], None] = lambda number, left: None
    ) -> dict[str, Entry]:
        """What each candidate and the reference did. Of those that were not dropped the first is the best.

        Args:
            measure: makes states and gives their values.
            told: called before every round with its number and those that are left.

        Raises:
            CallError: the reference failed, or every candidate.
        """
        entries = {name: Entry(np.empty((0, 0))) for name in (self.reference[0], *self.costs)}
        left, done, spent = list(self.costs), 0, 0.0
        for number in range(1, self.rounds + 1):
            cost = self.reference[1] + sum(self.costs[name] for name in left)
            more = self._more(number, done, spent, cost)
            if more < 1 or (len(left) == 1 and done):
                break
            told(number, left)
            values = measure([self.reference[0], *left], done, done + more, False)
            left = _entered(entries, values, left, number)
            done, spent = done + more, spent + more * cost
            left = self._drop(entries, left, number, everyone=math.isinf(self.budget) or done >= self.states)
        return {name: entries[name] for name in (self.reference[0], *left, *(n for n in self.costs if n not in left))}

    def _more(self, number: int, done: int, spent: float, cost: float) -> int:
        """How many states a round adds: an equal share of what is left."""
        if math.isinf(self.budget):
            return math.ceil(self.states / 2 ** (self.rounds - number)) - done
        affordable = math.floor((self.budget - spent) / (self.rounds - number + 1) / cost)
        if not done:  # the first round has enough to compare, if the whole budget allows it
            affordable = max(affordable, min(FEWEST, math.floor(self.budget / cost)), 1)
        return min(affordable, self.states - done)

    def _drop(self, entries: dict[str, Entry], left: list[str], number: int, *, everyone: bool) -> list[str]:
        """Those that stay, best first.

        Args:
            everyone: whether all that are not worse may stay, or at most half of them.
        """
        order = ranked({name: entries[name].values for name in left})
        level = self.error / (max(len(self.costs) - 1, 1) * self.rounds)
        stay = []
        for place, name in enumerate(order):
            mine = entries[name]
            better = next((o for o in order[:place] if _worse(mine.values, entries[o].values, level)), None)
            if better is None:
                stay.append(name)
            else:
                mine.dropped, mine.why = number, f"worse than {better}"
        kept = len(stay) if everyone else min(len(stay), math.ceil(len(left) / 2))
        for name in stay[kept:]:
            entries[name].dropped, entries[name].why = number, f"behind {stay[0]}: the budget is for half of those left"
        return stay[:kept]


def _entered(
    entries: dict[str, Entry], values: Mapping[str, np.ndarray | str], left: list[str], number: int
) -> list[str]:
    """Add what a round gave; those that did not fail."""
    for name, found in values.items():
        entry = entries[name]
        if isinstance(found, str):
            entry.dropped, entry.why = number, f"failed: {found}"
        else:
            entry.values = np.concatenate([entry.values, found]) if len(entry.values) else found
    failed = {name: entries[name].why for name in values if entries[name].why}
    still = [name for name in left if name not in failed]
    if not still or len(failed) > len(left) - len(still):  # all of them, or the reference
        name, why = next(iter(failed.items()))
        raise CallError(f"{name} {why}")
    return still


def fresh_states(cost: float, states: int, left: float) -> int:
    """How many fresh states the winner is told by.

    Args:
        cost: of one state of the winner and all baselines.
        states: how many there are.
        left: what is left of the budget.
    """
    return states if math.isinf(left) else min(states, max(math.floor(left / cost), 1))


def ranked(values: Mapping[str, np.ndarray]) -> list[str]:
    """Names, best first: fewest that are better in all scores, then the mean of the first score."""
    means = {name: v.mean(0) for name, v in values.items()}
    beaten = {name: sum(bool((other > mine).all()) for other in means.values()) for name, mine in means.items()}
    several = next(iter(means.values())).size > 1
    return sorted(means, key=lambda name: (beaten[name] if several else 0, -means[name][0]))


def _worse(one: np.ndarray, other: np.ndarray, level: float) -> bool:
    """Whether one is worse than another in every score, each at a one-sided level.

    In every score at once: that all are worse is more than that one of them is, so no share of the level is needed for each
    (an intersection-union test, Berger 1982).
    """
    return all(paired_interval(one[:, k], other[:, k], 2 * level)[1] < 0 for k in range(one.shape[1]))


def paired_t(differences: np.ndarray, error: float = 0.05) -> tuple[float, float]:
    """Student's interval of a mean difference at a two-sided error; of fewer than two values, everything."""
    n = len(differences)
    if n < 2:
        return -math.inf, math.inf
    half = _quantile(error, n - 1) * differences.std(ddof=1) / math.sqrt(n)
    return float(differences.mean() - half), float(differences.mean() + half)


def paired_shares(one: np.ndarray, other: np.ndarray, error: float = 0.05) -> tuple[float, float]:
    """Interval of the difference of two shares of the same states: Agresti and Min (2005), Wald's after half a state was added to
    each of the four cells. Values are 0 or 1.

    Unlike Student's it is not empty where nothing differs.
    """
    n = len(one) + 2
    won, lost = ((one > other).sum() + 0.5) / n, ((one < other).sum() + 0.5) / n
    half = _quantile(error) * math.sqrt((won + lost - (won - lost) ** 2) / n)
    return max(float(won - lost - half), -1.0), min(float(won - lost + half), 1.0)


def paired_interval(one: np.ndarray, other: np.ndarray, error: float = 0.05) -> tuple[float, float]:
    """The paired interval that fits the values: of shares where all are 0 or 1, else Student's."""
    if np.isin(one, (0, 1)).all() and np.isin(other, (0, 1)).all():
        return paired_shares(one, other, error)
    return paired_t(one - other, error)


@functools.cache
def _quantile(error: float, freedom: float = math.inf) -> float:
    """Of Student's distribution; with infinite degrees of freedom the normal one."""
    return float(stats.t.ppf(1 - error / 2, freedom))
