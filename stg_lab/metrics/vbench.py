"""VBench (Huang et al. 2024) through its own package, in its own environment.

VBench pins numpy below 2 and transformers 4.33, which no environment of this lab can hold. So it runs as a second process, with
the Python of an environment made for it:

    python3.10 -m venv ~/vbench && ~/vbench/bin/pip install vbench
    export STG_LAB_VBENCH=~/vbench/bin/python

It fetches the weights of its networks when they are first used.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from stg_lab.errors import MetricError, did_you_mean
from stg_lab.given import Place, takes

#: Dimensions that VBench measures on videos of one's own.
DIMENSIONS = (
    "subject_consistency",
    "background_consistency",
    "motion_smoothness",
    "dynamic_degree",
    "aesthetic_quality",
    "imaging_quality",
    "temporal_flickering",
)
_INSTALL = (
    "Make an environment for it (`python3.10 -m venv vb && vb/bin/pip install vbench`) and say where its Python is: "
    "export STG_LAB_VBENCH=vb/bin/python."
)
_SCRIPT = """
import sys
from vbench import VBench
import torch
folder, out, dimensions = sys.argv[1], sys.argv[2], sys.argv[3].split(",")
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
VBench(device, "", out).evaluate(videos_path=folder, name="lab", dimension_list=dimensions, mode="custom_input")
"""


@takes(MetricError, folder=Place())
def vbench_scores(
    folder: str | Path, dimensions: Sequence[str] = DIMENSIONS, *, python: str | Path | None = None
) -> dict[str, Float[ndarray, " video"]]:
    """VBench's own scores of the mp4 and GIF files in a folder: one value a video in each dimension, in order of file names.

    From 0 to 1 and higher is better in all of them but `dynamic_degree`, which says 0 or 1 whether a video moves.

    Args:
        folder: where the videos lie.
        dimensions: some of `DIMENSIONS`.
        python: the interpreter of VBench's environment; by default `STG_LAB_VBENCH`.

    Raises:
        MetricError: unknown dimension, no such folder, no VBench there, or VBench failed; the message has its last line.
    """
    for name in dimensions:
        if name not in DIMENSIONS:
            raise MetricError(
                f"VBench dimension {name!r} is unknown or needs VBench's own prompts.{did_you_mean(name, DIMENSIONS)} "
                f"Allowed: {', '.join(DIMENSIONS)}."
            )
    if not Path(folder).is_dir():
        raise MetricError(f"{folder} is not a folder of videos.")
    interpreter = python or os.environ.get("STG_LAB_VBENCH")
    if not interpreter:
        raise MetricError(f"VBench is not set up. {_INSTALL}")
    with tempfile.TemporaryDirectory() as out:
        command = [str(interpreter), "-c", _SCRIPT, str(Path(folder).resolve()), out, ",".join(dimensions)]
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except OSError as error:
            raise MetricError(f"{interpreter} could not be started ({error.strerror}). {_INSTALL}") from None
        results = Path(out) / "lab_eval_results.json"
        if done.returncode or not results.is_file():
            last = (done.stderr.strip().splitlines() or ["it wrote no results"])[-1]
            hint = f" {_INSTALL}" if "No module named 'vbench'" in last else ""
            raise MetricError(f"VBench failed: {last}.{hint}")
        return {name: _per_video(name, rows) for name, rows in json.loads(results.read_text()).items()}


def _per_video(name: str, result: list) -> ndarray:
    """VBench's `[mean, [{"video_path": ..., "video_results": ...}, ...]]` as values in order of file names."""
    rows = sorted(result[1], key=lambda row: Path(row["video_path"]).name)
    of = 100.0 if name == "imaging_quality" else 1.0  # of single videos VBench gives this one in percent
    return np.array([float(row["video_results"]) / of for row in rows])
