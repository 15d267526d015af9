"""`advise`: which weak models of a sweep are worth sampling, and which of them first.

What a look one step ahead can tell for sure is whether a weak model *acts* at all and whether it still *draws the same thing*; both are
inequalities on one score of the sweep, see `CRITERIA`. A *state* is one sample at one step, and a criterion is met where its
inequality holds in at least `agree` of the states.

Order: first by how many criteria are met; among equals by how far the guidance vector points along CFG's, the mean `cosine_cfg`, and
without an unconditional prediction the nearest first. Equal in both is equal rank.

That order is what outcomes pointed to: the part of the vector along CFG's is the part that mends (claim 16 of docs/evidence.md), and
of all scores of a sweep its cosine agreed best with what came out (claim 19, which also says how well). The paper asks of a weak
model that it be *worse* (Hyung et al. 2025, sections 1 and 4.1) and that its vector be not CFG's once more. Sharpness lost, which
stands for the first, told nothing about outcomes. So both are asked only where a threshold is given for them.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import xarray as xr

from stg_lab.analysis.advice import Advice, Candidate, Criterion, Held, Spread
from stg_lab.analysis.sweep import MODEL, cells, sweep_of
from stg_lab.errors import CallError
from stg_lab.given import real, shown
from stg_lab.weak import parse

SHOWN = ("x0_distance", "sharpness_lost", "cosine_cfg", "ratio")  # the evidence, beside the criteria's own
_TEST: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {"at most": operator.le, "at least": operator.ge}

#: What is asked of a weak model; `advise` takes other thresholds under these names.
CRITERIA = {
    "aligned": Criterion(
        "x0_distance",
        "at most",
        0.5,
        "draws the same thing",
        "its one-step prediction is a different picture, which points to a model driven out of its distribution",
    ),
    "acts": Criterion("x0_distance", "at least", 0.05, "changes enough to push with", "it changes next to nothing"),
}
#: What is asked as well where a threshold is given.
ON_REQUEST = {
    "worse": Criterion(
        "sharpness_lost",
        "at least",
        0.02,
        "loses sharpness",
        "it does not lose so much sharpness; below 0 it adds edges that are not there",
    ),
    "own": Criterion("cosine_cfg", "at most", 0.5, "is not CFG's vector again", "its vector is much like CFG's"),
}


def advise(
    sweep: xr.Dataset | str | Path,
    *,
    aligned: float | None = None,
    acts: float | None = None,
    worse: float | None = None,
    own: float | None = None,
    agree: float = 0.75,
) -> Advice:
    """Say which weak models of a sweep are worth sampling: those that act and still draw the same thing, most promising first.

    The order is a tendency, and no proof; give what it answers to `lab.search`, which samples.

    Args:
        sweep: of `lab.ablate` or `lab.open_ablation`, or its path, or the name of one that ships. A selection such as
            `ds.sel(step=[6], part="block")` is judged by itself.
        aligned: `x0_distance` must be at most this: |x0(weak) - x0(cond)| / |x0(cond)|.
        acts: and at least this.
        worse: `sharpness_lost` must be at least this. None: not asked, since it did not predict outcomes.
        own: `cosine_cfg` must be at most this. None: not asked. Not judged where the sweep has no unconditional prediction.
        agree: share of the states (step x sample) in which each must hold.

    Returns:
        An `Advice`: candidates in order, each with its rank, what to type for it, the scores with their range over the
        states, reasons for and against, and how many states they rest on; and what was left out, and why. Its `models` are the
        weak models worth sampling.

    Raises:
        CallError: no sweep, or a threshold that no score can be compared to.
        RecordingError: there is no such sweep at a path.

    >>> advice = advise("layers_scores")  # doctest: +SKIP
    >>> found = lab.search(pipe, advice.models, prompts=prompts, seeds=range(16))  # doctest: +SKIP
    """
    ds = sweep_of(sweep)
    given = {"aligned": aligned, "acts": acts, "worse": worse, "own": own}
    numbers = {name: _number(name, value) for name, value in given.items()}
    known = CRITERIA | {name: criterion for name, criterion in ON_REQUEST.items() if numbers[name] is not None}
    criteria = {name: criterion.at(numbers[name]) for name, criterion in known.items()}
    if not 0 < _number("agree", agree) <= 1:  # type: ignore[operator]
        raise CallError(f"agree={agree!r} is the share of states in which a criterion must hold: above 0, at most 1.")
    found, left_out, absent = [], {}, set()
    for at, specification in cells(ds):
        one = ds.isel(at)
        name = specification or " ".join(str(ds[d].values[i]) for d, i in at.items())
        states = np.isfinite(one.x0_distance.values) & ~one.nothing_changed.values
        if states.any():
            found.append(_judge(one, specification, criteria, agree, states))
        else:
            left_out[name] = _why_not(one)
            absent |= set() if specification else {name}
    return Advice(
        tuple(_ranked(found)),
        left_out,
        criteria,
        agree,
        tuple(map(int, ds.step.values)),
        ds.sizes["sample"],
        _kind(ds),
        frozenset(absent),
    )


def _number(name: str, value: float | None) -> float | None:
    if value is None:
        return None
    number = real(value)
    if number is None or not np.isfinite(number):
        raise CallError(f"{name}={shown(value)} is no number. Leave it out for the lab's own threshold.")
    return float(number)


def _judge(
    one: xr.Dataset, specification: str, criteria: Mapping[str, Criterion], agree: float, states: np.ndarray
) -> Candidate:
    """One weak model against all criteria."""
    scores, held, together = {}, {}, np.ones(int(states.sum()), bool)
    for score in dict.fromkeys((*SHOWN, *(c.score for c in criteria.values()))):
        scores[score] = Spread.of(one[score].transpose("step", "sample").values[states])
    for name, criterion in criteria.items():
        values = one[criterion.score].transpose("step", "sample").values[states]
        there = np.isfinite(values)
        if not there.any():
            held[name] = Held(None, met=True)
            continue
        holds = there & _TEST[criterion.kind](np.nan_to_num(values), criterion.threshold)
        together &= holds
        share = float(holds.mean())
        held[name] = Held(share, met=share >= agree - 1e-9)
    where = {d: one[d].item() for d in MODEL}
    return Candidate(
        rank=0,
        weak=specification,
        typed=repr(parse(specification)),
        layer=int(where["layer"]),
        part=str(where["part"]),
        axis=str(where["axis"]),
        scores=scores,
        held=held,
        together=float(together.mean()),
        states=int(states.sum()),
        of=states.size,
        criteria=dict(criteria),
    )


def _ranked(found: list[Candidate]) -> list[Candidate]:
    """In order, with equal ranks where both keys are equal; among them in the order of the sweep."""

    def key(one: Candidate) -> tuple[int, float]:
        along = one.scores["cosine_cfg"].mean
        promise = one.scores["x0_distance"].mean if np.isnan(along) else -along
        return -one.met, round(promise, 9)

    ordered = sorted(found, key=key)
    keys = [key(one) for one in ordered]
    return [one.at_rank(1 + keys.index(k)) for one, k in zip(ordered, keys, strict=True)]


def _why_not(one: xr.Dataset) -> str:
    """Why nothing can be said about a weak model."""
    if str(one.why.item()):
        return str(one.why.item())
    if bool(one.nothing_changed.any()):
        return "nothing changed: the weak pass equals the conditional one"
    return "not made: the sweep was cut off before it"


def _kind(ds: xr.Dataset) -> str:
    """What sharpness was measured on."""
    return str(ds.sharpness_lost.attrs.get("measured_on", ""))
