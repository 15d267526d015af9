"""Where the time of a guided, recorded step goes: inside the denoiser's own modules, or elsewhere.

Measured with stopwatches around five kinds of calls (CFG + STG, a middle block skipped, every branch recorded), which do not
contain each other. What is left is the pipeline's own loop and the lab's seams. A step is what a long run takes longer than a
short one, by the number of steps between them, so that what happens once a run is not counted.
"""

from __future__ import annotations

import contextlib
import functools
import statistics
import time
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch

import stg_lab as lab
from benchmarks.models import CFG_SCALE, FULL, SMALL, Subject
from benchmarks.timing import synchronize
from stg_lab.passes import Prepared
from stg_lab.sampling import guide as guiding
from stg_lab.sampling.journal import Journal

ROUNDS, SHORT, LONG = 5, 2, 8
BAR = 0.97


def measure() -> dict[str, Any]:
    """Shares of the run's time by model and kind of call, one figure a round."""
    models = FULL if torch.cuda.is_available() else SMALL
    return {"rounds": ROUNDS, "steps": [SHORT, LONG], "models": {name: shares(make()) for name, make in models.items()}}


def shares(subject: Subject) -> dict[str, list[float]]:
    """Share of the time by kind of call."""
    found: dict[str, list[float]] = {}
    for number in range(ROUNDS + 1):
        short, long = profiled(subject, SHORT), profiled(subject, LONG)
        step = {name: seconds - short[name] for name, seconds in long.items()}
        if number:  # the first one warms up
            for name, seconds in step.items():
                found.setdefault(name, []).append(seconds / sum(step.values()))
    return found


def profiled(subject: Subject, steps: int) -> dict[str, float]:
    """Seconds by kind of call in one run."""
    guidance = lab.CFG(CFG_SCALE) + lab.STG(1.0, lab.skip([subject.layers[1]]))
    watches: dict[str, float] = {}
    with contextlib.ExitStack() as stack:
        for name, holder, method in (
            ("denoiser", subject.denoiser, "forward"),
            ("scheduler", type(subject.pipe.scheduler), "step"),
            ("guidance", guiding, "guided_by"),
            ("preparing passes", Prepared, "of"),
            ("recording", Journal, "keep"),
        ):
            stack.enter_context(watched(watches, name, holder, method))
        synchronize()
        start = time.perf_counter()
        with lab.attach(subject.pipe, guidance=guidance, record=True):
            subject.run(steps)
        synchronize()
        whole = time.perf_counter() - start
    watches["the rest"] = whole - sum(watches.values())
    return watches


@contextlib.contextmanager
def watched(watches: dict[str, float], name: str, holder: Any, method: str) -> Iterator[None]:
    """Add up the seconds that calls of a method take."""
    real = getattr(holder, method)
    watches[name] = 0.0

    @functools.wraps(real)
    def timed(*args: Any, **kwargs: Any) -> Any:
        synchronize()
        start = time.perf_counter()
        try:
            return real(*args, **kwargs)
        finally:
            synchronize()
            watches[name] += time.perf_counter() - start

    with mock.patch.object(holder, method, timed):
        yield


def table(result: dict[str, Any]) -> str:
    """Median shares in per cent."""
    names = list(next(iter(result["models"].values())))
    lines = [f"{'':<44}" + "".join(f"{name:>16}" for name in names)]
    for model, found in result["models"].items():
        medians = [statistics.median(found[name]) for name in names]
        missed = "" if medians[0] >= BAR else f"  under {BAR:.0%}"
        lines.append(f"{model:<44}" + "".join(f"{100 * share:>15.2f}%" for share in medians) + missed)
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(measure()))
