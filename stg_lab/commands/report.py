"""`stg-lab report`: recordings as one page."""

from __future__ import annotations

import argparse
from typing import Any

from stg_lab.commands.typed import typed
from stg_lab.given import Place


def add(commands: Any) -> None:
    parser = commands.add_parser("report", help="write recordings as one interactive page that works offline")
    parser.add_argument("recordings", nargs="+", metavar="RECORDINGS", help="folders, packed files, or names that ship")
    parser.add_argument(
        "--out",
        type=typed(Place()),
        required=True,
        metavar="FILE",
        help="the page to write, for example out/report.html",
    )
    parser.add_argument("--title", help="heading of the page")
    parser.add_argument(
        "--baseline", metavar="RECORDING", help="of the same call with CFG alone, to show beside the others"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from stg_lab.recording import open_recording
    from stg_lab.report import report

    baseline = open_recording(options.baseline) if options.baseline else None
    more = {"title": options.title} if options.title else {}
    written = report(options.recordings, options.out, baseline=baseline, **more)
    print(f"written: {written} ({written.stat().st_size / 1e6:.1f} MB). Open it in a browser; it needs nothing else.")
    return 0
