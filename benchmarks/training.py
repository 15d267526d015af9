"""What Muon's Newton-Schulz steps cost in either number format: whole updates of digits-joint, side by side.

Once as this machine computes, and once as one without bfloat16 would: oneDNN is told in a process of its own to use nothing newer
than AVX-512 (`ONEDNN_MAX_CPU_ISA`), so that bfloat16 is emulated. Forward passes are made in what the machine is good at, as in
training.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.timing import interleaved, ratios, spread
from stg_lab.digits import muon
from stg_lab.digits.recipe import RECIPES, Stage
from stg_lab.digits.train import Trainer
from stg_lab.loading import models_folder

ROUNDS, BATCH, MODEL = 5, 8, "digits-joint"
WITHOUT = {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}


def updates() -> dict[str, list[float]]:
    """Seconds of an update by format and round, on this process's machine."""
    recipe = replace(RECIPES[MODEL]["cpu"], stages=(Stage(9, BATCH, 1000),))
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(recipe, Path(folder), "cpu", compile=False)
        trainer.start_from(models_folder() / MODEL)
        own = trainer.optimisers[0]
        assert isinstance(own, muon.Muon)

        def update(dtype: torch.dtype) -> None:
            own.dtype = dtype
            trainer.step()

        return interleaved(
            {str(d).removeprefix("torch."): lambda d=d: update(d) for d in (torch.bfloat16, torch.float32)}, ROUNDS
        )  # type: ignore[misc]


def measure() -> dict[str, Any]:
    """Both kinds of machine."""
    own = muon.has_bfloat16(torch.device("cpu"))
    code = (
        "import json, torch; from benchmarks import training; from stg_lab.digits import muon, objective; "
        "muon.has_bfloat16 = objective.has_bfloat16 = lambda device: False; print(json.dumps(training.updates()))"
    )
    child = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | WITHOUT, capture_output=True, text=True, check=True
    )
    emulated = json.loads(child.stdout.splitlines()[-1])
    return {"bfloat16_here": own, "here": updates(), "without": emulated, "batch": BATCH}


def table(result: dict[str, Any]) -> str:
    """Updates a second and ratios, by machine."""
    kind = "computes" if result["bfloat16_here"] else "does not compute"
    lines = [f"whole updates of {MODEL}, {result['batch']} clips of 9 frames, not compiled; Newton-Schulz steps in", ""]
    for where, title in (("here", f"this CPU, which {kind} in bfloat16"), ("without", "the same CPU without bfloat16")):
        seconds = result[where]
        lines.append(title)
        for name, values in seconds.items():
            rate = sorted(1 / v for v in values)[len(values) // 2]
            lines.append(
                f"  {name:<10} {rate:.2f} updates/s, {spread(ratios(seconds['bfloat16'], values))} times as fast as bfloat16"
            )
    return "\n".join(lines)
