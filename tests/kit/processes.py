"""Running Python in a process of its own, with the package under test and this folder on its path."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import stg_lab

TESTS = Path(__file__).parents[1]


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess:
    """Run `code` to its end, whatever that is."""
    path = os.pathsep.join([str(TESTS), str(Path(stg_lab.__file__).parents[1])])
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **environment},
    )  # fmt: skip
