"""What the checksums of a recording cost: writing and opening with them, as ratios to the same without.

The variants take turns, so that a drifting machine hits both alike. What is told is the ratio of the fastest round of each, in CPU
time: the slower ones measure what else the machine does.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import stg_lab as lab
from stg_lab.recording import chunks, documents
from stg_lab.recording.writer import Recorder

ROUNDS = 25
BRANCHES = ("cond", "uncond", "skip", "guided")
LEVEL = {"timestep": 500.0, "sigma": 0.5, "x0_sample": 1.0, "x0_prediction": -0.5}
#: By name: how many steps, and the shape of the latents.
SIZES = {
    "Wan 2.1, 81 frames of 480p": (1, (1, 16, 21, 60, 104)),
    "digits-joint": (4, (4, 24, 5, 16, 16)),
    "many small steps": (50, (1, 4, 2, 4, 4)),
}


def measure() -> dict[str, Any]:
    """Ratios of writing and of opening by size."""
    found: dict[str, Any] = {}
    for name, (steps, shape) in SIZES.items():
        x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        times: dict[str, list[float]] = {"write": [], "write plain": [], "open": [], "open plain": []}
        for number in range(ROUNDS):
            for plain in (False, True) if number % 2 else (True, False):
                written, opened = _round(steps, x, plain)
                times["write plain" if plain else "write"].append(written)
                times["open plain" if plain else "open"].append(opened)
        found[name] = {what: min(times[what]) / min(times[f"{what} plain"]) for what in ("write", "open")}
    return {"ratios": found}


def _round(steps: int, x: np.ndarray, plain: bool) -> tuple[float, float]:
    """CPU seconds of writing and of opening one recording."""
    folder = Path(tempfile.mkdtemp())
    with contextlib.ExitStack() as without:
        if plain:
            without.enter_context(mock.patch.multiple(chunks, seal=lambda *_: b"", unsealed=lambda data, *_: data))
            without.enter_context(mock.patch.object(documents, "checksum", return_value=0))
        begin = time.process_time()
        recorder = Recorder(folder / "run.zarr")
        samples = {"caption": [""] * len(x), "seed": [*range(len(x))]}
        recorder.start(steps=steps, branches=BRANCHES, shape=x.shape, settings={}, samples=samples)
        for _ in range(steps):
            recorder.write(LEVEL, x, dict.fromkeys(BRANCHES, x))
        recorder.finish(x)
        middle = time.process_time()
        lab.open(folder / "run.zarr")
        end = time.process_time()
    shutil.rmtree(folder)
    return middle - begin, end - middle


def table(result: dict[str, Any]) -> str:
    """The ratios by size."""
    lines = [f"{'with checksums, ratio to without':<34} writing  opening"]
    lines += [f"{name:<34} {r['write']:<8.3f} {r['open']:.3f}" for name, r in result["ratios"].items()]
    return "\n".join(lines)
