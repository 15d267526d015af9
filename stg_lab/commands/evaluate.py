"""`stg-lab evaluate`: videos measured."""

from __future__ import annotations

import argparse
from typing import Any

from stg_lab.commands.typed import typed
from stg_lab.given import Place, Whole
from stg_lab.metrics.table import ALSO


def add(commands: Any) -> None:
    parser = commands.add_parser("evaluate", help="measure videos, and compare them with others, with 95 %% intervals")
    parser.add_argument(
        "videos",
        nargs="*",
        metavar="VIDEOS",
        help="files, folders, patterns, recordings (.zarr, or names that ship); of a folder with recordings these alone",
    )
    parser.add_argument(
        "--against",
        action="append",
        default=[],
        metavar="REFERENCE",
        help="reference videos, likewise; may be given several times",
    )
    parser.add_argument(
        "--captions",
        type=typed(Place()),
        metavar="FILE",
        help="what each video was to show: .txt, a line a video, or .json",
    )
    parser.add_argument("--judge", action="store_true", help="the videos are of the digits world: ask its judge too")
    parser.add_argument("--videomae", metavar="WEIGHTS", help="folder or repository id: compare in VideoMAE's features")
    parser.add_argument(
        "--also",
        nargs="+",
        choices=ALSO,
        metavar="METRIC",
        help="metrics of the extra `metrics`: %(choices)s (of pairs)",
    )
    parser.add_argument("--paired", action="store_true", help="video i of both sides was made from the same seed")
    parser.add_argument("--out", type=typed(Place()), metavar="FILE", help="save the table as .csv or .json")
    parser.add_argument(
        "--resamples",
        type=typed(Whole(1, 10_000_000), int),
        default=2000,
        help="of the bootstrap (default: %(default)s)",
    )
    parser.add_argument("--seed", type=typed(Whole(), int), default=0, help="of the bootstrap (default: %(default)s)")
    parser.add_argument("--list", action="store_true", help="list every metric with unit, range and source, and stop")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    if options.list:
        from stg_lab.metrics.table import describe

        print(describe())
        return 0
    from stg_lab.metrics.files import check_out, evaluate

    if options.out:
        check_out(options.out)
    table = evaluate(
        options.videos,
        against=options.against,
        captions=options.captions,
        judge=options.judge,
        videomae=options.videomae,
        paired=options.paired,
        also=options.also,
        resamples=options.resamples,
        seed=options.seed,
    )
    print(table)
    if options.out:
        table.save(options.out)
        print(f"\nwritten: {options.out}")
    return 0
