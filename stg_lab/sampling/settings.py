"""What a recording keeps about how it was made: plain values, enough to make it again."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stg_lab.families import Family
from stg_lab.guidance import Guidance
from stg_lab.loading import models_folder

PACKAGES = ("stg-lab", "torch", "diffusers", "transformers", "numpy", "xarray", "zarr")


def versions() -> dict[str, str]:
    """Installed versions of everything that shapes a sample or a recording."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def model_name(pipe: Any) -> str:
    """How `lab.load` finds this pipeline again: an embedded name, a repository id or a folder."""
    given = str(pipe.config.get("_name_or_path") or "")
    path = Path(given)
    return path.name if given and path.parent == models_folder() else given


def pipeline_settings(pipe: Any, family: Family, guidance: Guidance) -> dict[str, Any]:
    """What is known of a run from its pipeline alone."""
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": model_name(pipe),
        "pipeline": type(pipe).__name__,
        "family": family.name,
        "device": str(pipe.device),
        "scheduler": {"class": type(pipe.scheduler).__name__, **plain(dict(pipe.scheduler.config))},
        "guidance": guidance.to_dict(),
        "guidance_text": str(guidance),
        "weak": {name: str(model) for name, model in guidance.weak.items()},
        "versions": versions(),
    }


def plain(value: Any) -> Any:
    """A value as JSON has it; what JSON cannot hold is described, and marked as such, instead of dropped."""
    if isinstance(value, bool | int | float | str | None):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, torch.Tensor):
        return {"not kept": f"tensor {tuple(value.shape)} {value.dtype}"}
    return {"not kept": f"{type(value).__name__}"}
