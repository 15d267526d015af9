"""Reading an ablation: scores of many weak models at a few states. Needs no model and no torch."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stg_lab.guidance.scores import SCORES
from stg_lab.preview import Preview
from stg_lab.recording.layout import LATENT_DIMS, SWEEP_FORMAT, SWEEP_MARK
from stg_lab.recording.packed import place
from stg_lab.recording.previews import packed_preview, preview_of, unpacked_preview
from stg_lab.recording.store import IncompleteRecordingWarning, has_mark, open_arrays, opening
from stg_lab.recording.successor import recover

if TYPE_CHECKING:
    import xarray as xr

FORMAT, MARK = SWEEP_FORMAT, SWEEP_MARK
MODEL = ("layer", "part", "axis")  # what tells the weak models of a sweep apart
#: Values of the array "made", which says what became of each weak pass of each run and step.
MISSING, MADE, NOTHING_CHANGED, REFUSED = range(4)


def is_ablation(path: Path) -> bool:
    """Whether a folder is an ablation of the lab, whole or not."""
    return has_mark(path, MARK)


def open_ablation(path: str | Path, *, keep: Any = None) -> xr.Dataset:
    """Open what `lab.ablate` kept. No model, no GPU and no torch are needed from here on.

    Args:
        path: the folder, a file that `lab.pack` made of it, or the name of a sweep that ships (`lab.recordings()`).
        keep: anything that must live as long as arrays read from it: the temporary folder it lies in.

    Returns:
        The dataset that `lab.ablate` describes. Passes that were not made are NaN; the attribute `complete` says whether
        there are any.

    Warns:
        IncompleteRecordingWarning: the sweep was cut off; the passes that were made are there.

    Raises:
        RecordingError: nothing there, not an ablation of the lab, damaged, or written by a newer version.
    """
    path, keep = place(path, keep)
    recover(path)
    with opening(path, "an ablation", MARK, "lab.ablate"):
        ds = _read(path, keep)
    if not ds.attrs["complete"]:
        warnings.warn(
            f"{path} is incomplete: the sweep was cut off. Ask lab.ablate for the same with record={str(path)!r} to go on.",
            IncompleteRecordingWarning,
            stacklevel=2,
        )
    return ds


def ablation_preview(ds: xr.Dataset) -> Preview | None:
    """The linear decoder that a sweep carries; it shows the one-step predictions without the model.

    Args:
        ds: of `lab.ablate` or `open_ablation`, or a selection from one.

    Returns:
        Its `decode` takes latents `(sample, channel, frame, y, x)`, such as `ds.x0_cond[0].values`, to video `(sample, frame,
        height, width, 3)` in [0, 1]. Exact for the embedded models. None where the family has no such decoder, and for
        sweeps from before they were kept; ask `lab.ablate` for the same sweep again to add it, without any new pass.

    >>> preview = ablation_preview(lab.open_ablation("layers"))  # doctest: +SKIP
    >>> preview.decode(ds.x0.sel(layer=4, part="block", axis="joint", step=6).values)  # doctest: +SKIP
    """
    return unpacked_preview(ds)


def _read(path: Path, keep: Any) -> xr.Dataset:
    raw, _ = open_arrays(path, keep, mark=MARK, newest=FORMAT, due=_due)
    for coordinate in raw.coords.values():  # small, and looked up all the time
        coordinate.load()
    made = raw.made.load()
    samples = raw.sizes["sample"] // made.sizes["run"]
    by_sample = made.rename(run="sample").isel(sample=np.repeat(np.arange(made.sizes["run"]), samples))
    scores = raw.scores.load().transpose("score", "step", *MODEL, "sample")
    # Data that was written without its marker is not to be counted on.
    ds = scores.where((by_sample == MADE) | (by_sample == NOTHING_CHANGED)).to_dataset(dim="score")
    for name, score in SCORES.items():
        ds[name].attrs = score.attrs()
    ds.sharpness_lost.attrs["measured_on"] = raw.attrs["settings"].get("sharpness", "")
    ds["nothing_changed"] = (by_sample == NOTHING_CHANGED).transpose("step", *MODEL, "sample")
    ds.nothing_changed.attrs["long_name"] = "whether the weak pass equals the conditional one, up to rounding"
    for name in ("x0", "x0_cond", "x0_uncond"):
        if name in raw:
            alone = {dim: 1 for dim in ("step", *MODEL) if dim in raw[name].dims}
            ds[name] = raw[name].chunk(alone | {"sample": samples})
            ds[name].attrs.update(long_name="one-step prediction", units="latents")
    ds = ds.drop_vars("why").assign(why=_reasons(raw))
    preview = preview_of(raw)
    if preview is not None:
        ds = ds.assign(packed_preview(preview))
    complete = bool(((made != MISSING) | (raw.weak == "")).all())
    return ds.assign_attrs(settings=raw.attrs["settings"], arguments=raw.attrs["arguments"], complete=complete)


def _reasons(raw: xr.Dataset) -> xr.DataArray:
    """Why each weak model is not there; "" for those that are. Some refusals turned up on the way."""
    why, weak = raw.why.reset_coords(drop=True).copy(), raw.weak.values
    for specification, reason in raw.attrs.get("refused", {}).items():
        why.values[weak == specification] = reason
    return why.assign_attrs(long_name="why there is no such weak model")


def _due(raw: xr.Dataset) -> Iterator[tuple[str, str]]:
    """The files of every chunk that the writer counted."""
    made, tail = raw.made.values, ".0" * len(LATENT_DIMS)
    for run, step, *index in np.argwhere((made == MADE) | (made == NOTHING_CHANGED)):
        model = ".".join(map(str, (step, *index)))
        yield "scores", f"c.{model}.0.{run}"
        yield "x0_cond", f"c.{step}.{run}{tail}"
        if "x0" in raw:
            yield "x0", f"c.{model}.{run}{tail}"
