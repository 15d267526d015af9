"""Open-Sora 1.2 as diffusers classes, written from a description of its equations: `lab.load("hpcai-tech/OpenSora-STDiT-v3")`.

`from_pretrained`, `save_pretrained`, offloading and slicing are diffusers' own. Names are imported when first used, so that a
family can look up lengths without importing a model.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stg_lab.opensora.pipeline import OpenSoraPipeline
    from stg_lab.opensora.released import from_released
    from stg_lab.opensora.transformer import STDiT3Transformer3DModel
    from stg_lab.opensora.vae import AutoencoderKLOpenSora

_ROOMS = {
    "AutoencoderKLOpenSora": "vae",
    "OpenSoraPipeline": "pipeline",
    "STDiT3Transformer3DModel": "transformer",
    "from_released": "released",
}
__all__ = ["AutoencoderKLOpenSora", "OpenSoraPipeline", "STDiT3Transformer3DModel", "from_released"]


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_ROOMS[name]}"), name)
