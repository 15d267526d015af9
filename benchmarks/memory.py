"""Peak memory of a recorded run against its number of steps: it must not grow.

Each run is a fresh process, so that peaks do not carry over; its peak resident memory is read when it ends.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

STEPS = (8, 32, 128, 256)

RUN = """
import json, resource, sys
import stg_lab as lab
pipe = lab.load("digits-joint")
pipe.set_progress_bar_config(disable=True)
guidance = lab.CFG(4.0) + lab.STG(1.0, lab.skip([4]))
def go(steps):
    run = lab.sample(pipe, guidance=guidance, prompt=["a red seven moving left"] * 4, num_inference_steps=steps)
    return sum(f.stat().st_size for f in run.recording.path.rglob("*") if f.is_file())
go(2)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
size = go(int(sys.argv[1]))
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
unit = 1 if sys.platform == "darwin" else 1024
print(json.dumps({"before": before * unit, "after": after * unit, "recording": size}))
"""


def measure() -> dict[str, Any]:
    """Peak resident memory after a warm-up and after the run, and the recording's size, in bytes, by number of steps."""
    rows = []
    for steps in STEPS:
        out = subprocess.run([sys.executable, "-c", RUN, str(steps)], capture_output=True, text=True, check=True).stdout
        rows.append({"steps": steps, **json.loads(out.splitlines()[-1])})
    return {"rows": rows}


def table(result: dict[str, Any]) -> str:
    """The result for people."""
    lines = ["steps   recording    peak memory   above the warm-up's"]
    for row in result["rows"]:
        grown = (row["after"] - row["before"]) / 1e6
        lines.append(
            f"{row['steps']:>5} {row['recording'] / 1e6:>8.1f} MB {row['after'] / 1e6:>11.0f} MB {grown:>15.1f} MB"
        )
    return "\n".join(lines)
