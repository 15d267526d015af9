"""What the demo's page says: two grids of videos, and sentences with what came out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from stg_lab.demo.wanted import ALONE, BOTH, WITH_CFG, WITH_STG
from stg_lab.guidance import number
from stg_lab.report import Grid

if TYPE_CHECKING:
    from stg_lab.demo.columns import Sampled
    from stg_lab.demo.repair import Repair
    from stg_lab.demo.wanted import Wanted

IN_WORDS = {ALONE: "without guidance", WITH_STG: "with STG", WITH_CFG: "with CFG", BOTH: "with both"}
WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
JUDGED = "Under each video: the judge's probability that all is as the caption asks (✓ or ✗: what it sees), then digit · colour · motion, in %."


def drawn_grid(wanted: Wanted, captions: list[str], columns: Mapping[str, Sampled]) -> Grid:
    """The captions that were drawn or given, in all columns."""
    seeds = [wanted.seed + i for i in range(len(captions))]
    noise = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"
    source = "Captions as given" if wanted.prompts else f"Captions drawn at random with seed {wanted.seed}"
    judged = any(one.shown.right for one in columns.values())
    words = f"{source}, nothing left out; {noise} in every column, {wanted.steps} steps.{f' {JUDGED}' * judged}"
    notes = ([_counts(len(captions), columns)] if judged else []) + [_passes(columns)]
    shown = [one.shown for one in columns.values()]
    how_many = WORDS[len(captions)] if len(captions) < len(WORDS) else str(len(captions))
    heading = f"{how_many.capitalize()} caption{'s' * (len(captions) > 1)}, unpicked"
    return Grid("unpicked", heading, words, captions, seeds, shown, tuple(notes))


def chosen_grid(repair: Repair, columns: Mapping[str, Sampled]) -> Grid:
    """The video that was chosen because STG repairs it, in all columns."""
    words = (
        f"This one was chosen. Of {repair.of} videos with other captions and seeds STG turned {repair.repaired} from wrong to right "
        f"and {repair.broken} from right to wrong; of those repaired, the judge's probability rose most in this one."
    )
    shown = [one.shown for one in columns.values()]
    return Grid("chosen", "One more, chosen because it shows the repair", words, [repair.caption], [repair.seed], shown)


def _counts(of: int, columns: Mapping[str, Sampled]) -> str:
    told = [f"{int(one.shown.right['all three'].sum())} {IN_WORDS[name]}" for name, one in columns.items()]
    return f"Digit, colour and motion are right by the judge in {_listed(told)}, of {of} each."


def _passes(columns: Mapping[str, Sampled]) -> str:
    """What a step costs in each column."""
    whole, reused = ([number(round(getattr(one, kind), 2)) for one in columns.values()] for kind in ("rows", "cost"))
    told = f"A step of one video takes {_listed(whole)} passes through the network, in the order of the columns"
    if whole == reused:
        return f"{told}."
    return f"{told}; since a weak pass begins at the first block that it changes, they cost {_listed(reused)}."


def _listed(parts: list[str]) -> str:
    return f"{', '.join(parts[:-1])} and {parts[-1]}"
