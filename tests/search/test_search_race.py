"""The race's statistics on made-up scores whose truth is known: what it claims of its errors is checked by simulation."""

import math

import numpy as np
import pytest
from scipy import stats

import stg_lab as lab
from stg_lab.search.race import (
    Race,
    fresh_states,
    paired_interval,
    paired_shares,
    paired_t,
    ranked,
)

NONE = "no guidance"
NAMES = [f"c{k}" for k in range(8)]


class World:
    """Scores of settings on states that are hard for all or easy for all.

    Args:
        gains: what each setting adds to how likely a video is to be right.
        binary: whether scores are 0 or 1.
    """

    def __init__(self, gains, seed, *, binary=True, states=600):
        rng = np.random.default_rng(seed)
        hard = rng.beta(2, 1, size=(2, states))
        self.values = {}
        for name, gain in gains.items():
            noise = rng.random((2, states))
            self.values[name] = (noise < hard + gain) * 1.0 if binary else hard + gain + (noise - 0.5)
        self.asked = []

    def measure(self, names, first, last, fresh):
        self.asked.append((tuple(names), first, last, fresh))
        return {name: self.values[name][int(fresh), first:last, None] for name in names}

    def race(self, budget=6000.0, error=0.05, states=600):
        costs = dict.fromkeys([n for n in self.values if n != NONE], 1.0)
        return Race(costs, (NONE, 1.0), states, budget, error).choose(self.measure)


def winner(entries):
    return next(name for name, entry in entries.items() if name != NONE and not entry.dropped)


# ---- intervals ----


def test_students_interval_is_that_of_scipy():
    x = np.random.default_rng(0).normal(0.3, 1, 20)
    theirs = stats.ttest_1samp(x, 0).confidence_interval(0.9)
    assert paired_t(x, 0.1) == pytest.approx((theirs.low, theirs.high))
    assert paired_t(x[:1]) == (-math.inf, math.inf)


def test_the_interval_of_shares_is_agresti_and_mins():
    """Their formula (2005, section 3), written out for a table of 12 won, 5 lost of 50."""
    one, other = np.zeros(50), np.zeros(50)
    one[:12], other[12:17] = 1, 1
    p12, p21, n = 12.5 / 52, 5.5 / 52, 52
    half = 1.959964 * math.sqrt((p12 + p21 - (p12 - p21) ** 2) / n)
    assert paired_shares(one, other) == pytest.approx((p12 - p21 - half, p12 - p21 + half), rel=1e-6)


def test_shares_that_do_not_differ_still_might():
    low, high = paired_interval(np.ones(20), np.ones(20))
    assert low == -high
    assert high > 0.05
    assert paired_interval(np.full(20, 0.5), np.full(20, 0.5)) == (0, 0)  # no shares: nothing is added


@pytest.mark.parametrize("count", [16, 64])
@pytest.mark.parametrize("gain", [0.0, 0.15])
def test_intervals_hold_the_truth_as_often_as_they_say(count, gain):
    rng, held = np.random.default_rng(1), []
    for _ in range(1500):
        base = rng.random(count)
        other, one = (base < 0.7) * 1.0, (np.where(rng.random(count) < 0.5, base, rng.random(count)) < 0.7 + gain) * 1.0
        low, high = paired_interval(one, other)
        held.append(low <= gain <= high)
    assert np.mean(held) == pytest.approx(0.955, abs=0.02)


# ---- the race ----


def test_the_best_by_far_wins_and_others_are_dropped_as_worse():
    world = World({NONE: -0.3, **dict.fromkeys(NAMES, -0.3), "c5": 0.3}, seed=0)
    entries = world.race()
    assert winner(entries) == "c5"
    assert list(entries)[:2] == [NONE, "c5"]
    dropped = [entry.why for name, entry in entries.items() if name in NAMES and name != "c5"]
    assert all(dropped)
    assert sum(why == "worse than c5" for why in dropped) >= 5


def test_all_that_are_left_make_the_same_states_and_budgets_are_kept():
    world = World({NONE: 0.0, **dict.fromkeys(NAMES, 0.0), "c1": 0.1}, seed=3)
    entries = world.race(budget=900.0)
    assert sum(len(e.values) for e in entries.values()) <= 900
    assert sum(len(e.values) for e in entries.values()) > 0.9 * 900
    ends = [last for *_, last, _ in world.asked]
    assert [first for _, first, _, _ in world.asked] == [0, *ends[:-1]]  # each round goes on where the last one ended
    assert all(names[0] == NONE for names, *_ in world.asked)
    assert len(world.asked[0][0]) == 9
    for name, entry in entries.items():
        assert np.array_equal(entry.values[:, 0], world.values[name][0, : len(entry.values)])
    behind = [entry for entry in entries.values() if entry.why.startswith("behind")]
    assert behind
    assert {len(entry.values) for entry in behind} <= {last for *_, last, _ in world.asked}


def test_without_a_budget_only_intervals_drop():
    world = World({NONE: 0.0, **dict.fromkeys(NAMES, 0.0), "c7": -0.6}, seed=4)
    entries = world.race(budget=math.inf)
    assert {entry.why.partition(" than")[0] for entry in entries.values()} == {"", "worse"}
    assert entries["c7"].dropped == 1
    assert len(entries[winner(entries)].values) == 600


def test_the_smallest_budget_still_makes_a_race():
    world = World({NONE: 0.0, "c0": 0.0, "c1": 0.0}, seed=5)
    entries = world.race(budget=3.0)
    assert {len(entry.values) for entry in entries.values()} == {1}
    assert winner(entries)


def test_one_candidate_needs_no_choice():
    world = World({NONE: 0.0, "c0": 0.0}, seed=6)
    assert len(world.race(budget=100.0)["c0"].values) == 50


def test_a_candidate_that_fails_is_dropped_and_why_is_kept():
    world = World({NONE: 0.0, "c0": 0.2, "c1": 0.0}, seed=7)

    def measure(names, first, last, fresh):
        return world.measure(names, first, last, fresh) | {n: "no such layer" for n in names if n == "c0"}

    entries = Race({"c0": 1.0, "c1": 1.0}, (NONE, 1.0), 600, 300.0).choose(measure)
    assert winner(entries) == "c1"
    assert entries["c0"].why == "failed: no such layer"
    for bad in ("c1", NONE):
        with pytest.raises(lab.CallError, match="failed: no"):
            Race({"c1": 1.0}, (NONE, 1.0), 600, 300.0).choose(
                lambda names, *a, bad=bad: world.measure(names, *a) | {bad: "no"}
            )


def test_with_several_scores_only_what_is_worse_in_all_is_dropped_as_worse():
    world = World({NONE: 0.0, "good": 0.4, "bad": -0.4, "other": 0.0}, seed=8)

    def measure(names, first, last, fresh):
        found = world.measure(names, first, last, fresh)
        second = {"good": 0.5, "bad": 0.2, "other": 0.9}
        return {
            n: np.concatenate([v, np.full_like(v, second.get(n, 0.5)) + 0.01 * v], axis=1) for n, v in found.items()
        }

    costs = dict.fromkeys(("good", "bad", "other"), 1.0)
    entries = Race(costs, (NONE, 1.0), 600).choose(measure)
    assert (entries["bad"].why, entries["good"].why, entries["other"].why) == ("worse than good", "", "")
    assert ranked({"a": np.array([[1.0, 0]]), "b": np.array([[0.5, -1.0]]), "c": np.array([[0.0, 1.0]])}) == [
        "a",
        "c",
        "b",
    ]


# ---- what is claimed of errors ----


EQUAL = dict.fromkeys([NONE, *NAMES], 0.0)


@pytest.mark.parametrize("binary", [True, False])
def test_the_best_is_dropped_as_worse_no_more_often_than_claimed(binary):
    """Hardest where all are equal: each is a best one, and one of them is looked at."""
    races = (World(EQUAL, seed, binary=binary, states=200).race(700.0, error=0.4, states=200) for seed in range(200))
    assert np.mean(["worse" in entries["c3"].why for entries in races]) <= 0.4


@pytest.mark.parametrize("binary", [True, False])
def test_where_all_are_equal_a_winner_is_declared_as_often_as_claimed(binary):
    """Half of the error of the interval on fresh states: it must lie above zero. The best of eight by the states to choose by, told by
    the same states, wins far more often: that is what fresh ones are for."""
    trials, errors, fresh, same = 400, np.array([0.05, 0.2]), 0, 0
    for seed in range(trials):
        world = World(EQUAL, seed, binary=binary, states=200)
        entries = world.race(700.0, states=200)
        best = winner(entries)
        values = world.measure([best, NONE], 0, fresh_states(3.0, 200, 400.0), True)
        chosen = {n: entries[n].values[: len(entries[best].values)] for n in (best, NONE)}
        fresh, same = (
            before + np.array([paired_interval(v[best][:, 0], v[NONE][:, 0], error)[0] > 0 for error in errors])
            for before, v in ((fresh, values), (same, chosen))
        )
    claimed = errors / 2
    assert np.abs(fresh / trials - claimed) == pytest.approx(0, abs=0.03)
    assert (same / trials > 2 * claimed).all()


def test_fresh_states_are_as_many_as_the_budget_has_room_for():
    assert fresh_states(4.0, 100, 200.0) == 50
    assert fresh_states(4.0, 100, math.inf) == 100
    assert fresh_states(4.0, 100, 3.0) == 1
