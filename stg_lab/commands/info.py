"""`stg-lab info`: versions, device and embedded models."""

from __future__ import annotations

import argparse
from typing import Any

from stg_lab._version import __version__


def add(commands: Any) -> None:
    parser = commands.add_parser("info", help="versions, device and embedded models")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    import torch

    from stg_lab.loading import embedded, models_folder
    from stg_lab.sampling.provenance import versions

    device = f"cuda ({torch.cuda.get_device_name()})" if torch.cuda.is_available() else "cpu"
    rows: list[tuple[str, Any]] = [
        ("stg-lab", __version__),
        *((k, v) for k, v in versions().items() if k != "stg-lab"),
        ("device", f"{device}, {torch.get_num_threads()} threads"),
    ]
    for name in embedded():
        size = sum(p.stat().st_size for p in (models_folder() / name).rglob("*.safetensors")) / 1e6
        rows.append(("embedded", f"{name} ({size:.1f} MB)"))
    if not embedded():
        rows.append(("embedded", f"none found in {models_folder()}"))
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")
    return 0
