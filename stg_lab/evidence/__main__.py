"""Gather evidence: `make evidence`, or `python -m stg_lab.evidence --claims 5 --videos 32`."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from tqdm.auto import tqdm

from stg_lab.evidence.bench import Runs, put
from stg_lab.evidence.cells import weights
from stg_lab.evidence.choose import choose
from stg_lab.evidence.claim import CLAIMS
from stg_lab.evidence.findings import file_of, keep, weightier
from stg_lab.evidence.page import write_page
from stg_lab.evidence.recommend import recommend
from stg_lab.evidence.scores import judge_fingerprint
from stg_lab.evidence.shipping import ship
from stg_lab.evidence.subjects import PER_CAPTION, SUBJECTS, subject
from stg_lab.loading import embedded, models_folder
from stg_lab.sweeps import Workers, cores, crew

VIDEOS = 256
CHOICE = "choice"
RECOMMENDING = 2  # the claim whose cells say what the chosen weak model does


def main(arguments: list[str] | None = None) -> None:
    """Read the command line, gather, and write the page."""
    there = [name for name in SUBJECTS if name in embedded()]
    numbers = [*map(str, sorted(CLAIMS)), CHOICE]
    parser = argparse.ArgumentParser(prog="python -m stg_lab.evidence", description=__doc__)
    parser.add_argument(
        "--claims", nargs="+", choices=numbers, default=numbers[:-1], metavar="N",
        help=f"numbers, or {CHOICE!r} to choose weak models and CFG scales anew (default: all claims)",
    )  # fmt: skip
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
    parser.add_argument("--workers", type=int, default=cores(), help="processes that sample (default: one a core)")
    parser.add_argument("--page-only", action="store_true", help="run nothing; write the page from the findings")
    a = parser.parse_args(arguments)
    if a.videos % PER_CAPTION or a.videos < 2 * PER_CAPTION:
        parser.error(f"--videos takes a multiple of {PER_CAPTION} from {2 * PER_CAPTION} up, got {a.videos}")
    if a.workers < 1:
        parser.error(f"--workers takes a number from 1 up, got {a.workers}")
    workers = crew(a.workers)
    if a.workers > 1:
        torch.set_num_threads(1)
    try:
        for name in () if a.page_only else a.models:
            _gather(name, a, workers)
    finally:
        workers.close()
    print(f"{a.page}: " + ", ".join(write_page(a.findings, a.page, a.page.parent / "images" / "evidence")))


def _gather(name: str, a: argparse.Namespace, workers: Workers) -> None:
    who = subject(name)
    bar = tqdm(unit="batch", desc=name)

    def told(setting: str, done: int, of: int) -> None:
        bar.set_postfix_str(f"{setting}: {done} of {of}")
        bar.update()

    if CHOICE in a.claims:
        bar.write(f"{choose(who, a.runs, a.findings, workers, told)}")
    shipped = a.findings / "scores"
    runs = Runs(who, a.runs, a.videos, told, shipped=shipped if a.known else None, workers=workers)
    about = {
        "videos": a.videos,
        "weights": weights(name),
        "judge": judge_fingerprint(),
    }
    for number in (int(n) for n in a.claims if n != CHOICE):
        claim = CLAIMS[number]
        if name in claim.models:
            rival = weightier(a.findings, claim, name, about)
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
            if number == RECOMMENDING and not rival:
                recommend(runs, models_folder() / name)
    bar.close()


if __name__ == "__main__":
    main()
