"""`stg-lab demo`: the same seeds without guidance, with STG, with CFG and with both."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from stg_lab.commands.typed import prompts_of, typed
from stg_lab.given import Number, Place, Whole


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "demo",
        help="the same seeds without guidance, with STG, with CFG and with both, and everything that happened",
        description="Sample the same captions and seeds without guidance, with STG, with CFG and with both, ask the digits world's "
        "judge what it sees, and show everything that happened. Text to video: models that start from a picture (digits-i2v) are "
        "not for the demo.",
    )
    parser.add_argument(
        "--out", type=typed(Place()), default=Path("out/demo"), help="folder to write into (default: %(default)s)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what an earlier demo wrote there")
    parser.add_argument(
        "--model",
        default="digits-joint",
        help="a text-to-video model: embedded name, folder or repository id (default: %(default)s)",
    )
    parser.add_argument(
        "--prompts",
        nargs="+",
        action="extend",
        default=[],
        metavar="CAPTION",
        help="what to show, one video each, or one file of captions (default: eight of the digits world, drawn with --seed)",
    )
    parser.add_argument(
        "--steps", type=typed(Whole(1, 10_000), int), default=16, help="sampling steps (default: %(default)s)"
    )
    parser.add_argument("--cfg", type=typed(Number(), float), default=2.0, help="CFG scale (default: %(default)s)")
    parser.add_argument("--stg", type=typed(Number(), float), default=1.0, help="STG scale (default: %(default)s)")
    parser.add_argument(
        "--weak",
        help="weak model, e.g. skip:block:4 or skip:attention:3-5 (default: the one recommended for the model)",
    )
    parser.add_argument(
        "--seed", type=typed(Whole(), int), default=0, help="seed of the first video (default: %(default)s)"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from stg_lab.demo.wanted import Wanted

    wanted = Wanted(
        out=options.out,
        model=options.model,
        prompts=tuple(prompts_of(options)),
        steps=options.steps,
        cfg=options.cfg,
        stg=options.stg,
        weak=options.weak,
        seed=options.seed,
        overwrite=options.overwrite,
    )
    from stg_lab.demo.run import run_demo  # heavy: not before all that was asked for has been read

    written = run_demo(wanted)
    print("\nwritten:")
    width = max(len(str(path)) for path in written)
    for path, what in written.items():
        print(f"  {path!s:<{width}}  {what}")
    print(f"\nOpen {options.out / 'report.html'} in a browser; then `make lab` for the notebooks.")
    return 0
