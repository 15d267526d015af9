"""What a shell user types: `stg-lab demo`, `stg-lab report`, `stg-lab app`, ... Heavy imports wait until a command runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, NoReturn

from stg_lab._version import __version__
from stg_lab.commands import ablate, sample, search
from stg_lab.commands.typed import typed
from stg_lab.errors import LabError
from stg_lab.given import Number, Place, Whole


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

    demo = commands.add_parser(
        "demo",
        help="the same seeds without guidance, with STG, with CFG and with both, and everything that happened",
        description="Sample the same captions and seeds without guidance, with STG, with CFG and with both, ask the digits world's "
        "judge what it sees, and show everything that happened. Text to video: models that start from a picture (digits-i2v) are "
        "not for the demo.",
    )
    demo.add_argument(
        "--out", type=typed(Place()), default=Path("out/demo"), help="folder to write into (default: %(default)s)"
    )
    demo.add_argument("--overwrite", action="store_true", help="replace what an earlier demo wrote there")
    demo.add_argument(
        "--model",
        default="digits-joint",
        help="a text-to-video model: embedded name, folder or repository id (default: %(default)s)",
    )
    demo.add_argument(
        "--prompts",
        nargs="+",
        action="extend",
        default=[],
        metavar="CAPTION",
        help="what to show, one video each (default: eight captions of the digits world, drawn with --seed)",
    )
    demo.add_argument(
        "--steps", type=typed(Whole(1, 10_000), int), default=16, help="sampling steps (default: %(default)s)"
    )
    demo.add_argument("--cfg", type=typed(Number(), float), default=2.0, help="CFG scale (default: %(default)s)")
    demo.add_argument("--stg", type=typed(Number(), float), default=1.0, help="STG scale (default: %(default)s)")
    demo.add_argument(
        "--weak",
        help="weak model, e.g. skip:block:4 or skip:attention:3-5 (default: the one recommended for the model)",
    )
    demo.add_argument(
        "--seed", type=typed(Whole(), int), default=0, help="seed of the first video (default: %(default)s)"
    )
    demo.set_defaults(run=_demo)

    for command in (sample, search, ablate):
        command.add(commands)

    report = commands.add_parser("report", help="write recordings as one interactive page that works offline")
    report.add_argument("recordings", nargs="+", metavar="RECORDINGS", help="folders, packed files, or names that ship")
    report.add_argument(
        "--out",
        type=typed(Place()),
        required=True,
        metavar="FILE",
        help="the page to write, for example out/report.html",
    )
    report.add_argument("--title", help="heading of the page")
    report.add_argument(
        "--baseline", metavar="RECORDING", help="of the same call with CFG alone, to show beside the others"
    )
    report.set_defaults(run=_report)

    app = commands.add_parser("app", help="the explorers in a browser, served on this machine alone")
    app.add_argument(
        "recordings", nargs="*", metavar="RECORDINGS", help="folders or packed files, beside those that ship"
    )
    app.add_argument(
        "--port",
        type=typed(Whole(1, 65535), int),
        default=8866,
        help="on 127.0.0.1; the next free one if taken (default: %(default)s)",
    )
    app.add_argument("--no-browser", action="store_true", help="only print the address")
    app.set_defaults(run=_app)

    evaluate = commands.add_parser(
        "evaluate", help="measure videos, and compare them with others, with 95 %% intervals"
    )
    evaluate.add_argument(
        "videos",
        nargs="*",
        metavar="VIDEOS",
        help="files, folders, patterns, recordings (.zarr, or names that ship); of a folder with recordings these alone",
    )
    evaluate.add_argument(
        "--against",
        action="append",
        default=[],
        metavar="REFERENCE",
        help="reference videos, likewise; may be given several times",
    )
    evaluate.add_argument(
        "--captions",
        type=typed(Place()),
        metavar="FILE",
        help="what each video was to show: .txt, a line a video, or .json",
    )
    evaluate.add_argument("--judge", action="store_true", help="the videos are of the digits world: ask its judge too")
    evaluate.add_argument(
        "--videomae", metavar="WEIGHTS", help="folder or repository id: compare in VideoMAE's features"
    )
    evaluate.add_argument("--paired", action="store_true", help="video i of both sides was made from the same seed")
    evaluate.add_argument("--out", type=typed(Place()), metavar="FILE", help="save the table as .csv or .json")
    evaluate.add_argument(
        "--resamples",
        type=typed(Whole(1, 10_000_000), int),
        default=2000,
        help="of the bootstrap (default: %(default)s)",
    )
    evaluate.add_argument("--seed", type=typed(Whole(), int), default=0, help="of the bootstrap (default: %(default)s)")
    evaluate.add_argument("--list", action="store_true", help="list every metric with unit, range and source, and stop")
    evaluate.set_defaults(run=_evaluate)

    info = commands.add_parser("info", help="versions, device and embedded models")
    info.set_defaults(run=_info)
    return parser


def _demo(options: argparse.Namespace) -> int:
    from stg_lab.demo.wanted import Wanted

    wanted = Wanted(
        out=options.out,
        model=options.model,
        prompts=tuple(options.prompts),
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


def _evaluate(options: argparse.Namespace) -> int:
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
        resamples=options.resamples,
        seed=options.seed,
    )
    print(table)
    if options.out:
        table.save(options.out)
        print(f"\nwritten: {options.out}")
    return 0


def _report(options: argparse.Namespace) -> int:
    from stg_lab.recording import open_recording
    from stg_lab.report import report

    baseline = open_recording(options.baseline) if options.baseline else None
    more = {"title": options.title} if options.title else {}
    written = report(options.recordings, options.out, baseline=baseline, **more)
    print(f"written: {written} ({written.stat().st_size / 1e6:.1f} MB). Open it in a browser; it needs nothing else.")
    return 0


def _app(options: argparse.Namespace) -> int:
    from stg_lab.app import serve

    serve(options.recordings, port=options.port, browser=not options.no_browser)
    return 0


def _info(options: argparse.Namespace) -> int:
    import torch

    from stg_lab.loading import embedded, models_folder
    from stg_lab.sampling.settings import versions

    device = f"cuda ({torch.cuda.get_device_name()})" if torch.cuda.is_available() else "cpu"
    rows: list[tuple[str, Any]] = [
        ("stg-lab", __version__),
        *((k, v) for k, v in versions().items() if k != "stg-lab"),
        ("device", f"{device}, {torch.get_num_threads()} threads"),
    ]
    for name in embedded():
        size = sum(p.stat().st_size for p in (models_folder() / name).rglob("*.safetensors")) / 1e6
        rows.append(("embedded", f"{name} ({size:.1f} MB)"))
    if not embedded():
        rows.append(("embedded", f"none found in {models_folder()}"))
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
