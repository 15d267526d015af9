"""The two released checkpoints of Open-Sora 1.2: where they are, and how to tell one. Imports nothing heavy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

#: Repositories of the transformer and of the VAE.
TRANSFORMER, VAE = "hpcai-tech/OpenSora-STDiT-v3", "hpcai-tech/OpenSora-VAE-v1.2"
#: What is read of each.
CONFIG, WEIGHTS = "config.json", "model.safetensors"
#: How to bring both to a machine without network.
ADVICE = (
    f"fetch both on another machine with `hf download {TRANSFORMER} --local-dir A` and `hf download {VAE} --local-dir B`, "
    "and type lab.load('A', vae='B')"
)


def read_config(folder: str | Path) -> dict[str, Any]:
    """What a checkpoint's config.json says; nothing where there is none."""
    try:
        found = json.loads((Path(folder) / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def is_released(place: str | Path) -> bool:
    """Whether a repository id or a folder is the transformer as it was released, not a saved pipeline."""
    return str(place) == TRANSFORMER or read_config(place).get("model_type") == "STDiT3"
