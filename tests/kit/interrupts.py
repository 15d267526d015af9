"""Interrupts at chosen lines of the lab, and what is left of a run that one has ended."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.overrides import _get_current_function_mode_stack

import stg_lab as lab
from kit.pipelines import PROMPT, SMALL, generators, tiny_wan
from kit.watch import left_behind
from stg_lab import patch, seams
from stg_lab.sampling import claim

PACKAGE = str(Path(lab.__file__).parent)
#: A weak model that leaves blocks out, and one that edits attention, both from a prefix on.
GUIDANCE = lab.CFG(4) + lab.STG(1, lab.skip([2])) + lab.STG(1, lab.skip([1], part="attention"), stop=0.5)

GUIDED = sys.modules["stg_lab.sampling.attach"]._guided  # `lab.sampling.attach` is the function
Place = tuple[str, int, int]  # file, line, and the how-manieth time that it is come to


def _traced(on_line: Callable[[str, int], None], work: Callable[[], Any]) -> None:
    def trace(frame: Any, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if event == "line":
            on_line(frame.f_code.co_filename, frame.f_lineno)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)


def places(work: Callable[[], Any]) -> list[Place]:
    """Every line of the lab that some work comes to, the first and the last time: a `with` is come to when it is left, too."""
    times: Counter[tuple[str, int]] = Counter()
    _traced(lambda file, line: times.update([(file, line)]), work)
    return [(file, line, n) for (file, line), most in times.items() for n in dict.fromkeys((1, most))]


def interrupt(work: Callable[[], Any], place: Place) -> bool:
    """Do some work with a KeyboardInterrupt at a place; whether it came there and ended the work."""
    file, line, wanted = place
    times = 0

    def at_line(here: str, number: int) -> None:
        nonlocal times
        if (here, number) == (file, line):
            times += 1
            if times == wanted:
                raise KeyboardInterrupt

    try:
        _traced(at_line, work)
    except KeyboardInterrupt:
        return True
    return False


class Bench:
    """A tiny pipeline, the works that are interrupted, and what must hold afterwards."""

    def __init__(self) -> None:
        self.pipe = tiny_wan()
        self.call = {"prompt": PROMPT, "num_inference_steps": 2, "output_type": "latent", **SMALL}
        self.expected = self.stock(), self.guided()

    def stock(self, **changes: Any) -> Any:
        return self.pipe(guidance_scale=4.0, generator=generators(0, 1), **{**self.call, **changes}).frames

    def guided(self) -> Any:
        return lab.sample(self.pipe, guidance=GUIDANCE, seed=0, record=False, **self.call).output.frames

    def sampled(self) -> None:
        lab.sample(self.pipe, guidance=GUIDANCE, seed=0, **self.call)

    def attached(self) -> None:
        with lab.attach(self.pipe, guidance=GUIDANCE):
            self.stock()

    @property
    def works(self) -> dict[str, Callable[[], None]]:
        return {"sample": self.sampled, "attach": self.attached}

    def faults(self) -> Iterator[str]:
        """What is not as it was."""
        if found := left_behind(self.pipe):
            yield f"left on the pipeline: {', '.join(found)}"
        if _get_current_function_mode_stack():
            yield "a function mode of torch is active"
        if seams._alone.get() or patch._watching.get():
            yield "somebody still listens"
        if self.pipe in claim._claims or self.pipe in GUIDED:
            yield "the pipeline is still claimed"
        if alive := [t.name for t in threading.enumerate() if t.name.startswith("stg_lab")]:
            yield f"threads go on: {', '.join(alive)}"
        for what, now, before in zip(("stock", "guided"), (self.stock(), self.guided()), self.expected, strict=True):
            if not torch.equal(now, before):
                yield f"a {what} call gives other bits"

    def interrupted(self, work: str, place: Place) -> list[str]:
        """The faults after an interrupt."""
        file, line, times = place
        if not interrupt(self.works[work], place):
            return []
        try:
            found = list(self.faults())
        except Exception as error:  # the pipeline cannot even be used
            found = [f"{type(error).__name__}: {error}"]
        return [f"{work}, {Path(file).relative_to(PACKAGE)}:{line} (time {times}): {fault}" for fault in found]
