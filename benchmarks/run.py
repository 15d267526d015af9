"""Run every benchmark, or those that are named, and write their results to benchmarks/results/.

python -m benchmarks.run [NAME ...]
"""

from __future__ import annotations

import json
import platform
import sys
import warnings
from pathlib import Path

import torch

from benchmarks import attribution, checksums, figure, memory, overhead, profile, reuse, rows, slider, sweep, training

ALL = {
    m.__name__.rpartition(".")[2]: m
    for m in (reuse, rows, sweep, attribution, overhead, checksums, profile, memory, slider, training)
}
RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, str | int]:
    """What a figure was measured on."""
    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "cpu": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "gpu": cuda,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def main(names: list[str]) -> None:
    if unknown := [name for name in names if name not in ALL]:
        sys.exit(f"there is no benchmark {unknown[0]!r}. Known: {', '.join(ALL)}.")
    warnings.filterwarnings("ignore", message=".*CPU [Aa]utocast.*")
    RESULTS.mkdir(exist_ok=True)
    for name in names or ALL:
        module = ALL[name]
        print(f"\n{name}: {module.__doc__.splitlines()[0]}", flush=True)
        result = {"machine": machine(), **module.measure()}
        (RESULTS / f"{name}{_suffix()}.json").write_text(json.dumps(result, indent=1) + "\n")
        told = module.table(result)
        (RESULTS / f"{name}{_suffix()}.txt").write_text(told + "\n")
        print(told, flush=True)
        if module is reuse:
            figure.draw(result, RESULTS / f"reuse{_suffix()}.png")


def _suffix() -> str:
    """Results from an accelerator lie beside those without."""
    return "-cuda" if torch.cuda.is_available() else ""


if __name__ == "__main__":
    main(sys.argv[1:])
