"""A preview among the arrays of a store: how it is kept, and how it is found again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stg_lab.errors import RecordingError
from stg_lab.preview import Preview
from stg_lab.recording.chunks import replace_arrays
from stg_lab.recording.layout import PREVIEW
from stg_lab.recording.planned import Planned

if TYPE_CHECKING:
    import xarray as xr


def preview_arrays(preview: Preview | None) -> dict[str, Planned]:
    """What a new store keeps of a preview; nothing of None."""
    known = {} if preview is None else {k: np.asarray(v) for k, v in preview.to_dict().items()}
    return {
        PREVIEW + name: Planned.of(tuple(f"{PREVIEW}{name}_{i}" for i in range(v.ndim)), v, coordinate=False)
        for name, v in known.items()
    }


def add_preview(path: Path, preview: Preview, mark: str, newest: int) -> None:
    """Keep a preview with a store that was written without one, or replace it: whole, or not at all.

    Args:
        mark, newest: as for `read_documents`.

    Raises:
        RecordingError: the store cannot be written to.
    """
    try:
        replace_arrays(path, PREVIEW, preview_arrays(preview), mark, newest)
    except RecordingError:
        raise
    except OSError as error:
        raise RecordingError(f"the preview could not be kept in {path}: {error.strerror or error}.") from error


def preview_of(ds: xr.Dataset) -> Preview | None:
    """The preview among the arrays of a store; None where it has none, or one that was cut off while it was written.

    Raises:
        ValueError: its arrays do not fit together.
    """
    values: dict[str, Any] = {
        name: ds[PREVIEW + name].values for name in Preview.__dataclass_fields__ if PREVIEW + name in ds
    }
    if Preview.__dataclass_fields__.keys() - values.keys() - {"r2"}:  # r2 came later
        return None
    preview = Preview(**{name: v.item() if v.ndim == 0 else v for name, v in values.items()})
    block = 3 * preview.spatial**2
    for rows, matrix, bias in (
        (block, preview.first, preview.first_bias),
        (block * preview.temporal, preview.rest, preview.rest_bias),
    ):
        if np.shape(matrix)[:1] != (rows,) or np.ndim(matrix) != 2 or np.shape(bias) != (rows,):
            raise ValueError("the arrays of its preview do not fit together")
    return preview


def packed_preview(preview: Preview) -> dict[str, xr.DataArray]:
    """A preview as two variables of a dataset whose latents have the dimension `channel`: all rows of its matrices in one, and
    their biases. Its numbers are attributes."""
    import xarray as xr

    values = preview.to_dict()
    numbers = {name: value for name, value in values.items() if not isinstance(value, np.ndarray)}
    about = {
        "long_name": "linear decoder of the latents",
        "first_rows": len(preview.first),
        **{name: value.item() if isinstance(value, np.generic) else value for name, value in numbers.items()},
    }
    matrix, bias = (
        np.concatenate([preview.first, preview.rest]),
        np.concatenate([preview.first_bias, preview.rest_bias]),
    )
    return {
        f"{PREVIEW}matrix": xr.DataArray(matrix, dims=(f"{PREVIEW}row", "channel"), attrs=about),
        f"{PREVIEW}bias": xr.DataArray(bias, dims=f"{PREVIEW}row", attrs={"long_name": "bias of the decoder"}),
    }


def unpacked_preview(ds: xr.Dataset) -> Preview | None:
    """The preview that `packed_preview` made; None where there is none, or an operation has dropped what belongs to it."""
    if f"{PREVIEW}matrix" not in ds or "first_rows" not in ds[f"{PREVIEW}matrix"].attrs:
        return None
    about = dict(ds[f"{PREVIEW}matrix"].attrs)
    matrix, bias, rows = ds[f"{PREVIEW}matrix"].values, ds[f"{PREVIEW}bias"].values, about.pop("first_rows")
    numbers = {name: value for name, value in about.items() if name in Preview.__dataclass_fields__}
    return Preview(matrix[:rows], bias[:rows], matrix[rows:], bias[rows:], **numbers)
