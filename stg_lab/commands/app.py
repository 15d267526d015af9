"""`stg-lab app`: the explorers in a browser."""

from __future__ import annotations

import argparse
from typing import Any

from stg_lab.commands.typed import typed
from stg_lab.given import Whole


def add(commands: Any) -> None:
    parser = commands.add_parser("app", help="the explorers in a browser, served on this machine alone")
    parser.add_argument(
        "recordings", nargs="*", metavar="RECORDINGS", help="folders or packed files, beside those that ship"
    )
    parser.add_argument(
        "--port",
        type=typed(Whole(1, 65535), int),
        default=8866,
        help="on 127.0.0.1; the next free one if taken (default: %(default)s)",
    )
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from stg_lab.app import serve

    serve(options.recordings, port=options.port, browser=not options.no_browser)
    return 0
