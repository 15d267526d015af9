"""A preview among the arrays of a store: how it is kept, and how it is found again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from stg_lab.preview import Preview
from stg_lab.recording.chunks import Planned
from stg_lab.recording.layout import PREVIEW

if TYPE_CHECKING:
    import xarray as xr


def preview_arrays(preview: Preview | None) -> dict[str, Planned]:
    """What a new store keeps of a preview; nothing of None."""
    known = {} if preview is None else {k: np.asarray(v) for k, v in preview.to_dict().items()}
    return {
        PREVIEW + name: Planned.of(tuple(f"{PREVIEW}{name}_{i}" for i in range(v.ndim)), v, coordinate=False)
        for name, v in known.items()
    }


def preview_of(ds: xr.Dataset) -> Preview | None:
    """The preview among the arrays of a store; None where it has none."""
    if PREVIEW + "rest" not in ds:
        return None
    there = [name for name in Preview.__dataclass_fields__ if PREVIEW + name in ds]  # r2 came later
    values: dict[str, Any] = {name: ds[PREVIEW + name].values for name in there}
    return Preview(**{name: v.item() if v.ndim == 0 else v for name, v in values.items()})
