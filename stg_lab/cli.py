"""What a shell user types: `stg-lab demo`, `stg-lab report`, `stg-lab app`, ... Heavy imports wait until a command runs."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn

from stg_lab._version import __version__
from stg_lab.commands import ablate, app, demo, evaluate, info, report, sample, search
from stg_lab.errors import LabError

COMMANDS = (demo, sample, search, ablate, report, app, evaluate, info)


class _Parser(argparse.ArgumentParser):
    """One clear line and exit code 2 for bad arguments."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}. See {self.prog} --help.\n")


def main(arguments: list[str] | None = None) -> int:
    """Entry point of `stg-lab`; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except LabError as error:
        told = str(error)
        if hasattr(options, "overwrite"):
            told = told.replace("overwrite=True", "--overwrite")  # what to type here, not in Python
        print(f"stg-lab {options.command}: {told}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        print(" ".join(["stg-lab: stopped.", *getattr(error, "__notes__", [])]), file=sys.stderr)
        return 130


def _parser() -> _Parser:
    parser = _Parser(
        prog="stg-lab",
        description="A laboratory for Spatiotemporal Skip Guidance and its kind, on stock diffusers video pipelines.",
        epilog="Next: make lab opens the notebooks.",
    )
    parser.add_argument("--version", action="version", version=f"stg-lab {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    for command in COMMANDS:
        command.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
