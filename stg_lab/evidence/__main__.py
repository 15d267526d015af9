"""Gather evidence: `make evidence`, or `python -m stg_lab.evidence --claims 5 --videos 32`."""

from __future__ import annotations

import argparse
from pathlib import Path

from tqdm.auto import tqdm

from stg_lab.evidence.bench import Runs, put
from stg_lab.evidence.cells import weights
from stg_lab.evidence.claim import CLAIMS
from stg_lab.evidence.kept import file_of, keep, weightier
from stg_lab.evidence.page import write_page
from stg_lab.evidence.scores import judge_fingerprint
from stg_lab.evidence.shipping import ship
from stg_lab.evidence.subjects import PER_CAPTION, SUBJECTS, subject
from stg_lab.loading import embedded

VIDEOS = 256


def main(arguments: list[str] | None = None) -> None:
    """Read the command line, gather, and write the page."""
    there = [name for name in SUBJECTS if name in embedded()]
    parser = argparse.ArgumentParser(prog="python -m stg_lab.evidence", description=__doc__)
    parser.add_argument(
        "--claims", type=int, nargs="+", choices=sorted(CLAIMS), default=sorted(CLAIMS), help="default: all"
    )
    parser.add_argument("--models", nargs="+", choices=there, default=there, help="default: all that ship")
    parser.add_argument("--videos", type=int, default=VIDEOS, help=f"videos a cell (default: {VIDEOS})")
    parser.add_argument(
        "--runs",
        type=Path,
        default=Path("runs/evidence"),
        help="folder of the runs, which go on where they were cut off",
    )
    parser.add_argument("--findings", type=Path, default=Path("data/evidence"), help="folder of the findings")
    parser.add_argument("--page", type=Path, default=Path("docs/evidence.md"), help="the page to write")
    parser.add_argument(
        "--known",
        action="store_true",
        help="take scores that ship with the findings, where there are enough; else sample",
    )
    parser.add_argument("--page-only", action="store_true", help="run nothing; write the page from the findings")
    a = parser.parse_args(arguments)
    if a.videos % PER_CAPTION or a.videos < 2 * PER_CAPTION:
        parser.error(f"--videos takes a multiple of {PER_CAPTION} from {2 * PER_CAPTION} up, got {a.videos}")
    for name in () if a.page_only else a.models:
        _gather(name, a)
    print(f"{a.page}: " + ", ".join(write_page(a.findings, a.page, a.page.parent / "images" / "evidence")))


def _gather(name: str, a: argparse.Namespace) -> None:
    who = subject(name)
    bar = tqdm(unit="batch", desc=name)

    def told(setting: str, done: int, of: int) -> None:
        bar.set_postfix_str(f"{setting}: {done} of {of}")
        bar.update()

    shipped = a.findings / "scores"
    runs = Runs(who, a.runs, a.videos, told, shipped=shipped if a.known else None)
    about = {
        "videos": a.videos,
        "weights": weights(name),
        "judge": judge_fingerprint(),
    }
    for number in a.claims:
        claim = CLAIMS[number]
        if name in claim.models:
            rival = weightier(a.findings, number, name, about)
            runs.sheets = a.runs / "findings" if rival else a.findings
            found = put(claim, runs)
            bar.write(f"{number}. {claim.title}: {found.verdict} ({name}: {found.because})")
            if rival:
                verdict, videos = rival
                bar.write(
                    f"   kept as it is: {file_of(a.findings, number, name)} rests on {videos} videos ({verdict}); this one "
                    f"goes to {runs.sheets}"
                )
            else:
                ship(a.runs, found.folders, a.videos, shipped)
            keep(runs.sheets, claim, name, found, about)
    bar.close()


if __name__ == "__main__":
    main()
