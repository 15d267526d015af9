"""`stg-lab search`: which layers to skip, answered by sampling."""

from __future__ import annotations

import argparse
from typing import Any

from stg_lab.commands.typed import add_call, add_workers, call_of, client_of, pipe_of, prompts_of, typed, written
from stg_lab.given import Number, Place


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "search",
        help="which layers to skip, or which guidance to take: a race of many videos",
        description="Sample candidates on the same captions and seeds, drop those that are worse, and test the best on fresh seeds "
        "against no guidance and CFG. What was stopped goes on when the same command is given again.",
    )
    add_call(parser, seeds=32)
    parser.add_argument(
        "--candidates", nargs="+", metavar="SPEC",
        help="weak models such as skip:block:4 or skip:attention:3-5 (default: every layer, then pairs, then heads)",
    )  # fmt: skip
    parser.add_argument(
        "--scale",
        nargs="+",
        type=typed(Number(), float),
        default=[1.0],
        metavar="S",
        help="of the candidates (default: 1)",
    )
    parser.add_argument(
        "--score",
        nargs="+",
        default=["right"],
        metavar="NAME",
        help="what is better; the first decides (default: right)",
    )
    parser.add_argument("--budget", help="such as 20m, 2h, '400 videos' or '6000 passes' (default: all seeds)")
    parser.add_argument("--out", type=typed(Place()), required=True, metavar="DIR", help="folder of the search")
    parser.add_argument("--overwrite", action="store_true", help="delete another search there")
    add_workers(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from stg_lab.guidance import CFG
    from stg_lab.search import search

    with client_of(options) as client:
        found = search(
            pipe_of(options),
            options.candidates,
            prompts=prompts_of(options),
            seeds=range(options.seed, options.seed + options.seeds),
            guidance=None if options.cfg is None else CFG(options.cfg),
            scale=options.scale,
            score=options.score if len(options.score) > 1 else options.score[0],
            budget=options.budget,
            record=options.out,
            client=client,
            overwrite=options.overwrite,
            **call_of(options),
        )
    print(found)
    print()
    found.table.to_csv(options.out / "table.csv", index=False)
    written(options.out / "table.csv", "every candidate and baseline")
    written(found.grid().save(options.out / "grid.html"), "the videos, side by side")
    return 0
