"""What a recording keeps about how it was made: plain values, enough to make it again."""

from __future__ import annotations

import base64
import hashlib
import io
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

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
        "given_frames": family.given_frames(pipe),
        "device": str(pipe.device),
        **made_of(pipe),
        "scheduler": {"class": type(pipe.scheduler).__name__, **plain(dict(pipe.scheduler.config))},
        "guidance": guidance.to_dict(),
        "guidance_text": str(guidance),
        "weak": {name: str(model) for name, model in guidance.weak.items()},
        "versions": versions(),
    }


def made_of(pipe: Any) -> dict[str, Any]:
    """What changes the weights that a pipeline's models compute with: `adapters` (LoRA and their like, by component and name with
    the scale of each; 0 for one that is off) and `quantization` by component. Only what is there."""
    models = {name: m for name, m in pipe.components.items() if isinstance(m, torch.nn.Module)}
    adapters = {name: found for name, m in models.items() if (found := _adapters(m))}
    quantization = {name: how for name, m in models.items() if (how := _quantization(m))}
    return ({"adapters": adapters} if adapters else {}) | ({"quantization": quantization} if quantization else {})


def _adapters(model: torch.nn.Module) -> dict[str, Any]:
    found: dict[str, list[float]] = {}
    module: Any
    for module in model.modules():
        scaling = getattr(module, "scaling", None)
        if not isinstance(scaling, Mapping) or not hasattr(module, "active_adapters"):
            continue
        on: Any = [] if getattr(module, "disable_adapters", False) else module.active_adapters
        on = on() if callable(on) else on
        for name, scale in scaling.items():
            found.setdefault(name, []).append(float(scale) if name in on else 0.0)
        for name in getattr(module, "merged_adapters", ()):  # fused into the weights
            found.setdefault(f"{name} (fused)", []).append(float(scaling.get(name, 1.0)))
    # One number where all layers agree, else the range.
    return {n: scales[0] if min(scales) == max(scales) else [min(scales), max(scales)] for n, scales in found.items()}


def _quantization(model: torch.nn.Module) -> str:
    """How a model is quantised, by its configuration or else by the kind of its weights; "" where it is not."""
    config = getattr(model, "config", None)
    given = getattr(config, "quantization_config", None) or (
        config.get("quantization_config") if isinstance(config, Mapping) else None
    )
    if given is not None:
        values = given.to_dict() if hasattr(given, "to_dict") else dict(given)
        told = {name: str(v) for name, v in sorted(values.items()) if isinstance(v, str | int | float | bool)}
        return f"{type(given).__name__}({', '.join(f'{name}={v}' for name, v in told.items())})"
    plain = (torch.Tensor, torch.nn.Parameter)
    kinds = {type(p).__name__ for p in model.parameters() if type(p) not in plain}
    kinds |= {str(p.dtype).removeprefix("torch.") for p in model.parameters() if not p.dtype.is_floating_point}
    return ", ".join(sorted(kinds))


def other_weights(settings: Mapping[str, Any], pipe: Any) -> str:
    """What a recorded run was made with, and what the pipeline has now, where these differ; "" where they agree."""
    now = made_of(pipe)
    told = []
    for name, what in (("adapters", "adapters"), ("quantization", "quantisation")):
        before, here = settings.get(name) or {}, now.get(name) or {}
        if before != here:
            told.append(f"it was recorded with {what} {before or 'none'}, and the pipeline has {here or 'none'} now")
    return "; ".join(told)


def seeds_of(settings: Mapping[str, Any], count: int) -> list[int]:
    """The seed of each sample; empty where the call brings generators that nobody told of."""
    seed = settings.get("seed")
    own = [] if seed is None else [seed + i for i in range(count)]
    return list(settings.get("generator_seeds") or own)


#: Largest picture of a call that a recording keeps, in bytes of its PNG.
PICTURE_BYTES = 2**16
#: What says in a file that a value is a picture, and that a value is not there.
PICTURE, LOST = "png", "not kept"


def call_values(call: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call for a file: `plain`, but for small pictures, which are kept whole."""
    return {name: _with_pictures(value) for name, value in call.items()}


def _with_pictures(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_with_pictures(one) for one in value]
    if isinstance(value, Image.Image) and value.mode in ("RGB", "RGBA", "L"):
        file = io.BytesIO()
        value.save(file, "PNG")
        if file.tell() <= PICTURE_BYTES:
            return {PICTURE: base64.b64encode(file.getvalue()).decode()}
    return plain(value)


def given_again(value: Any) -> Any:
    """A value of `call_values` as it was given."""
    if isinstance(value, list):
        return [given_again(one) for one in value]
    if isinstance(value, Mapping) and set(value) == {PICTURE}:
        picture = Image.open(io.BytesIO(base64.b64decode(value[PICTURE])))
        picture.load()
        return picture
    return value


def is_lost(value: Any) -> bool:
    """Whether a file could not hold a value, or one inside of it."""
    if isinstance(value, Mapping):
        return LOST in value or any(map(is_lost, value.values()))
    return isinstance(value, list) and any(map(is_lost, value))


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
        return {LOST: f"tensor {tuple(value.shape)} {value.dtype}"}
    return {LOST: f"{type(value).__name__}"}


def fingerprint(value: Any) -> Any:
    """A value as JSON has it; of what JSON cannot hold, a hash, so that another one is told apart."""
    if isinstance(value, list | tuple):
        return [fingerprint(one) for one in value]
    known = plain(value)
    if not (isinstance(known, dict) and LOST in known):
        return known
    data = value.detach().cpu().float().numpy() if isinstance(value, torch.Tensor) else value
    raw = np.asarray(data)
    digest = hashlib.sha256(raw.tobytes() if raw.dtype != object else repr(value).encode()).hexdigest()
    return f"{known[LOST]}, sha256 {digest[:16]}"
