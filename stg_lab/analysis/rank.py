"""How alike two scores rank the same weak models."""

from __future__ import annotations

import numpy as np
import xarray as xr

from stg_lab.errors import CallError
from stg_lab.given import Of, Several, Text, takes

ARRAY = Of(xr.DataArray, "a DataArray of scores, such as lab.ablate(...).l2")
#: Draws of the bootstrap, and the share of them that the interval holds.
DRAWS, LEVEL = 2000, 0.95


@takes(exact=ARRAY, estimated=ARRAY, over=Several(Text(), lone=False), sample=Text())
def rank_correlation(
    exact: xr.DataArray,
    estimated: xr.DataArray,
    *,
    over: tuple[str, ...] = ("layer", "part"),
    sample: str = "sample",
    seed: int = 0,
) -> xr.Dataset:
    """Spearman's rank correlation of two scores of the same weak models, with a bootstrap interval over the samples.

    Both are averaged over the samples, then ranked. The interval says how much of the correlation is these very samples:
    samples are drawn again with replacement, the same ones for both scores (Efron 1979).

    Args:
        exact, estimated: DataArrays with the dimensions `over` and `sample`, and any others, for example
            `lab.ablate(...).l2.sel(axis="joint")` and `lab.attribute(...).l2`. They are aligned by their coordinates.
        over: the dimensions that are ranked together. A weak model that is NaN for one of the two is left out.
        sample: the dimension that is drawn from.
        seed: of the bootstrap.

    Returns:
        Dataset with the other dimensions (step): `rho`, `low` and `high`, the ends of the 95 % interval, and `models`, how many
        were ranked. NaN where fewer than two are left, or one of the two is constant.

    Raises:
        CallError: a dimension is missing, or the two have no coordinate in common.
    """
    for name, array in (("exact", exact), ("estimated", estimated)):
        missing = [d for d in (*over, sample) if d not in array.dims]
        if missing:
            raise CallError(f"{name} has no dimension {', '.join(missing)}; it has {', '.join(map(str, array.dims))}.")
    first, second = xr.align(exact.reset_coords(drop=True), estimated.reset_coords(drop=True), join="inner")
    if not first.size:
        raise CallError("the two have no weak model, step or sample in common.")
    first, second = (a.stack(model=over) for a in xr.broadcast(first, second))
    result = xr.apply_ufunc(
        lambda a, b: _with_interval(a, b, np.random.default_rng(seed)),
        first,
        second,
        input_core_dims=[[sample, "model"], [sample, "model"]],
        output_core_dims=[["what"]],
        vectorize=True,
    )
    found = {name: result.isel(what=i) for i, name in enumerate(("rho", "low", "high", "models"))}
    ds = xr.Dataset(found).assign_attrs(level=LEVEL, draws=DRAWS)
    ds.rho.attrs.update(long_name="Spearman's rank correlation", units="1")
    return ds


def _with_interval(a: np.ndarray, b: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """(rho, low, high, models) of scores `(sample, model)`."""
    kept = ~(np.isnan(a).any(0) | np.isnan(b).any(0))
    a, b = a[:, kept], b[:, kept]
    chosen = draw.integers(len(a), size=(DRAWS, len(a)))
    drawn = spearman(a[chosen].mean(1), b[chosen].mean(1))
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return np.array([spearman(a.mean(0)[None], b.mean(0)[None])[0], low, high, kept.sum()])


def spearman(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Spearman's correlation of each row, ties by their mean rank."""
    from scipy.stats import rankdata

    x, y = (rankdata(values, axis=1) for values in (a, b))
    x, y = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (x * y).sum(1) / np.sqrt((x * x).sum(1) * (y * y).sum(1))
