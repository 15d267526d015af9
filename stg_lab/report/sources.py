"""What a report is made from: runs, recordings, sweeps over layers, or paths to either, under titles of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stg_lab.errors import CallError, RecordingError
from stg_lab.given import shown
from stg_lab.recording import Recording, open_ablation, open_recording
from stg_lab.recording.ablation import is_ablation
from stg_lab.recording.packed import place
from stg_lab.widgets.sprites import Sprites

if TYPE_CHECKING:
    import xarray as xr

WHAT = "a Run, a Recording, a dataset of lab.ablate, or the path or name of a recording"
ENDS = (".zarr.zip", ".zip", ".zarr")


@dataclass
class Item:
    """One recording or sweep on the page.

    Attributes:
        title: its heading.
        source: the run or recording; None for a sweep over layers.
        sweep: the dataset of `lab.ablate`; None for a recording.
        baseline: a run or recording of the same call without the weak model.
        recording: of the source; None for a sweep.
        pictures: those of the x0 explorer, once they are made.
    """

    title: str
    source: Any = None
    sweep: xr.Dataset | None = None
    baseline: Any = None
    recording: Recording | None = field(init=False, default=None)
    pictures: Sprites | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        if self.source is not None:
            self.recording = self.source if isinstance(self.source, Recording) else self.source.recording

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that made it."""
        if self.recording is not None:
            return self.recording.settings
        attributes = self.sweep.attrs if self.sweep is not None else {}
        return {**attributes.get("settings", {}), "arguments": attributes.get("arguments", {})}

    @property
    def captions(self) -> list[str]:
        """The prompt of each sample."""
        if self.recording is not None:
            return self.recording.captions
        return [str(c) for c in self.sweep.caption.values] if self.sweep is not None and "caption" in self.sweep else []

    @property
    def seeds(self) -> list[str]:
        """The seed of each sample; empty where none was kept."""
        ds = self.recording.ds if self.recording is not None else self.sweep
        return [str(v) for v in ds.seed.values] if ds is not None and "seed" in ds.coords else []


def items(given: Any, *, baseline: Any = None) -> list[Item]:
    """What was given, in order, each under a title that no other has, with its baseline: one for all, or by title.

    Raises:
        CallError: nothing was given, or something that is none of these.
        RecordingError: a path without a recording, or a run that was not recorded.
    """
    if isinstance(given, Mapping) and not _is_sweep(given):  # a Dataset is a mapping, too
        pairs = [(str(title), one) for title, one in given.items()]
    elif isinstance(given, Iterable) and not isinstance(given, str | PathLike) and not _is_sweep(given):
        pairs = [("", one) for one in given]
    else:
        pairs = [("", given)]
    if not pairs:
        raise CallError(
            f"a report needs at least one recording, got {shown(given)}: give {WHAT}, or several in a list or dict."
        )
    found: list[Item] = []
    for title, one in pairs:
        item = _item(title, one)
        item.title = _unused(item.title, [other.title for other in found])
        own = baseline.get(item.title) if isinstance(baseline, Mapping) else baseline
        item.baseline = own if item.recording is not None else None
        found.append(item)
    return found


def open_any(path: str | PathLike[str]) -> Recording | xr.Dataset:
    """A recording or a sweep, whichever lies at a path or ships under a name.

    Raises:
        RecordingError: neither.
    """
    folder, keep = place(path)
    return open_ablation(folder, keep=keep) if is_ablation(folder) else open_recording(folder, keep=keep)


def _item(title: str, one: Any) -> Item:
    if isinstance(one, str | PathLike):
        title, one = title or named(one), open_any(one)
    if _is_sweep(one):
        return Item(title or "Sweep over layers", sweep=one)
    recording = one if isinstance(one, Recording) else getattr(one, "recording", None)
    if not isinstance(recording, Recording):
        raise CallError(
            f"a report is made from {WHAT}; give a Run or a Recording, got {type(one).__name__}: {shown(one)}."
        )
    return Item(title or named(recording.path), source=one)


def first(recording: Recording, count: int) -> Recording:
    """A recording with its first `count` samples only; the same where it has no more."""
    if count >= len(recording.captions):
        return recording
    ds, whole = recording.ds.isel(sample=slice(0, count)), recording
    return Recording(ds, whole.path, complete=whole.complete, planned=whole.planned, preview=whole._preview)


def named(path: str | PathLike[str]) -> str:
    """A title from the name of a file: `runs/space_time.zarr` is "space time"."""
    name = Path(fspath(path)).name
    for end in ENDS:
        name = name.removesuffix(end)
    return name.replace("_", " ") or fspath(path)


def _unused(title: str, taken: list[str]) -> str:
    if title not in taken:
        return title
    return next(f"{title} ({n})" for n in range(2, len(taken) + 3) if f"{title} ({n})" not in taken)


def _is_sweep(one: Any) -> bool:
    """Whether this is a dataset of `lab.ablate`.

    Raises:
        RecordingError: it is another dataset.
    """
    import xarray as xr

    if not isinstance(one, xr.Dataset):
        return False
    if not {"layer", "part", "axis"} <= set(one.dims):
        raise RecordingError(
            f"this dataset has the dimensions {', '.join(map(str, one.dims))}: it is not one of lab.ablate. "
            "Give the recording itself: lab.open(...)."
        )
    return True
