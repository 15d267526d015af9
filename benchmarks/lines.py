"""How much of the lab one step runs through: distinct lines and functions of `stg_lab`, as a reader would have to follow them; and
how long `lab.sample` takes before the first denoiser call.

    python -m benchmarks.lines [--list]

The step is the sixth of twelve of CFG + STG on digits-joint: nothing happens there for the first time. Counted are lines that
were executed, in files of the package alone, between the end of one scheduler step and the end of the next; as functions, all
that Python calls, comprehensions and lambdas among them.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import stg_lab as lab

PACKAGE = str(Path(lab.__file__).parent)
STEP, STEPS, ROUNDS = 5, 12, 20
CALL = {"prompt": "a red seven moving left", "num_inference_steps": STEPS, "seed": 0}
Lines = dict[tuple[str, str, int], set[int]]  # by file, function and its first line


class Counter:
    """Collects executed lines while it is on; the sets it hands out are of what ran since the last time."""

    def __init__(self) -> None:
        self.lines: Lines = defaultdict(set)

    def _local(self, frame: Any, event: str, argument: Any) -> Callable[..., Any] | None:
        if event == "line":
            code = frame.f_code
            self.lines[code.co_filename, code.co_qualname, code.co_firstlineno].add(frame.f_lineno)
        return self._local

    def _call(self, frame: Any, event: str, argument: Any) -> Callable[..., Any] | None:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        return self._local

    def __enter__(self) -> Counter:
        threading.settrace(self._call)
        sys.settrace(self._call)
        return self

    def __exit__(self, *raised: Any) -> None:
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]

    def taken(self) -> Lines:
        found, self.lines = self.lines, defaultdict(set)
        return found


def counted(lines: Lines) -> dict[str, int]:
    """Lines, functions and files."""
    return {
        "lines": len({(file, line) for (file, _, _), numbers in lines.items() for line in numbers}),
        "functions": len(lines),
        "files": len({file for file, _, _ in lines}),
    }


def of_one_step(pipe: Any, guidance: Any) -> Lines:
    """What one step runs through, not recorded."""
    found: list[Lines] = []
    counter = Counter()

    def ends(scheduler: Any, number: int, timestep: Any, kept: dict[str, Any]) -> dict[str, Any]:
        taken = counter.taken()
        if number == STEP:
            found.append(taken)
        return kept

    with counter:
        lab.sample(pipe, guidance=guidance, record=False, callback_on_step_end=ends, **CALL)
    return found[0]


def of_a_call(pipe: Any, guidance: Any, *, record: bool) -> Lines:
    """What a whole call runs through."""
    with Counter() as counter:
        run = lab.sample(pipe, guidance=guidance, record=record, **CALL)
        lines = counter.taken()
    del run
    return lines


def before_first_call(pipe: Any, guidance: Any) -> list[float]:
    """Milliseconds from the call of `lab.sample` to the first denoiser call, text encoder and all."""
    found = []
    for _ in range(ROUNDS):
        reached: list[float] = []
        handle = pipe.transformer.register_forward_pre_hook(lambda *_, seen=reached: seen.append(time.perf_counter()))
        start = time.perf_counter()
        lab.sample(pipe, guidance=guidance, record=False, **(CALL | {"num_inference_steps": 2}))
        handle.remove()
        found.append(1e3 * (reached[0] - start))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--list", action="store_true", help="every function of the one step, with its lines")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    pipe = lab.load("digits-joint")
    pipe.set_progress_bar_config(disable=True)
    guidance = lab.CFG(3) + lab.STG(1, lab.skip([5]))
    lab.sample(pipe, guidance=guidance, record=True, **CALL)  # imports and caches
    step = of_one_step(pipe, guidance)
    rows = {
        "one step": step,
        "whole call": of_a_call(pipe, guidance, record=False),
        "whole call, recorded": of_a_call(pipe, guidance, record=True),
    }
    for name, lines in rows.items():
        print(f"{name:22}", "  ".join(f"{count:5} {what}" for what, count in counted(lines).items()))
    waited = before_first_call(pipe, guidance)
    print(f"before the first denoiser call: {statistics.median(waited):.1f} ms, {min(waited):.1f} at best, of {ROUNDS}")
    if arguments.list:
        for (file, function, first), numbers in sorted(step.items()):
            print(f"{len(numbers):4}  {Path(file).relative_to(PACKAGE)}:{first} {function}")


if __name__ == "__main__":
    main()
