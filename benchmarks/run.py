"""Run every benchmark and write its results to benchmarks/results/."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import torch

from benchmarks import memory, overhead

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


def main() -> None:
    for module in (memory, overhead):
        name = module.__name__.rpartition(".")[2]
        print(f"\n{name}: {module.__doc__.splitlines()[0]}")
        result = {"machine": machine(), **module.measure()}
        print(module.table(result))
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
