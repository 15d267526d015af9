"""`stg-lab ablate`: every layer as a weak model at the same states, scored one step ahead."""

from __future__ import annotations

import argparse
from typing import Any

from stg_lab.commands.typed import add_call, call_of, pipe_of, prompts_of, typed, written
from stg_lab.given import Place, Whole


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "ablate",
        help="every layer as a weak model at one state, scored one step ahead: a shortlist, in minutes",
        description="Score every layer x part x axis as a weak model at the same states, and list what is worth a test. The scores look "
        "one step ahead: what comes out in the end is a question for stg-lab search. What was stopped goes on when the same command is "
        "given again.",
    )
    add_call(parser, seeds=1)
    parser.add_argument(
        "--step", nargs="+", type=typed(Whole(), int), metavar="K", help="steps to look at (default: 10)"
    )
    parser.add_argument("--layers", nargs="+", type=typed(Whole(), int), metavar="L", help="default: all")
    parser.add_argument(
        "--parts", nargs="+", default=["block", "attention"], metavar="PART", help="default: block attention"
    )
    parser.add_argument(
        "--out", type=typed(Place()), required=True, metavar="DIR", help="folder of the sweep, ending in .zarr"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace another sweep there")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from stg_lab.analysis import advise
    from stg_lab.guidance import CFG
    from stg_lab.sampling import ablate

    found = ablate(
        pipe_of(options),
        options.step,
        prompts_of(options),
        layers=options.layers,
        parts=options.parts,
        seed=list(range(options.seed, options.seed + options.seeds)),
        guidance=None if options.cfg is None else CFG(options.cfg),
        record=options.out,
        overwrite=options.overwrite,
        **call_of(options),
    )
    print(advise(found))
    print()
    written(options.out, f"scores of every weak model: lab.open_ablation({str(options.out)!r})")
    return 0
