"""Which explorers a recording has on the page, and how their pictures and numbers are made to fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from stg_lab import widgets
from stg_lab.errors import LabError
from stg_lab.recording import Recording
from stg_lab.report.sources import Item
from stg_lab.widgets.base import Explorer
from stg_lab.widgets.sprites import Sprites, make_sprites

SMALLEST = 150_000  # bytes that pictures get however full the page is: one without any would be worse


@dataclass(frozen=True)
class Kind:
    """One sort of explorer.

    Attributes:
        name: for addresses within the page.
        heading: above it.
        short: the same in two words at most, for a tab.
        words: what to do with it.
        make: the explorer of an item and its first `count` samples; raises LabError where the data have none.
        optional: left out without a word where the data have none.
    """

    name: str
    heading: str
    short: str
    words: str
    make: Callable[[Item, int], Explorer]
    optional: bool = True


@dataclass
class Shown:
    """What a recording shows.

    Attributes:
        item: the recording.
        explorers: those that it has, by kind.
        notes: what is to be said about them, by name of the kind; "" for all of them.
    """

    item: Item
    explorers: dict[Kind, Explorer]
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes on the page of what the explorers carry."""
        return sum(weight(explorer) for explorer in self.explorers.values())


def weight(explorer: Explorer) -> int:
    """Bytes on the page of what an explorer carries: base64 writes 3 as 4."""
    return sum(len(data) for part in (explorer.sheets, explorer.arrays) for data in part.values()) * 4 // 3


def kinds(item: Item) -> tuple[Kind, ...]:
    """The sorts of explorers that an item may have, the most telling first."""
    return RECORDING if item.recording is not None else SWEEP


def show(item: Item) -> Shown:
    """All explorers of an item, with all that they can show."""
    shown = Shown(item, {})
    for kind in kinds(item):
        try:
            shown.explorers[kind] = kind.make(item, len(item.captions))
        except LabError as error:
            if not kind.optional:
                shown.notes[kind.name] = f"There is no explorer on this page: {error}"
    return shown


def fit(shown: list[Shown], room: int) -> None:
    """Make what all recordings show fit into `room` bytes, in place.

    The room is shared out evenly; what small recordings leave over goes to the larger ones. A recording that has less than
    it needs shows fewer samples, then fewer explorers, then smaller pictures, and says so.
    """
    waiting, left = sorted(shown, key=lambda one: one.size), room
    for done, one in enumerate(waiting):
        _fit_one(one, left // (len(waiting) - done))
        left -= one.size


def _fit_one(shown: Shown, room: int) -> None:
    if shown.size <= room or not shown.explorers:
        return
    total = len(shown.item.captions)
    count = min(max(1, total * room // shown.size), total - 1)
    while count >= 1:
        smaller = {kind: kind.make(shown.item, count) for kind in shown.explorers}
        shown.explorers = smaller
        if shown.size <= room or count == 1:
            break
        count -= 1
    if count >= 1:
        shown.notes[""] = f"The explorers hold the first {count} of {total} samples."
    while shown.size > room and len(shown.explorers) > 1:
        _drop_largest(shown)
    if shown.size > room:
        _shrink(shown, room)


def _drop_largest(shown: Shown) -> None:
    """Leave out the largest explorer but the first."""
    largest = max(list(shown.explorers)[1:], key=lambda kind: weight(shown.explorers[kind]))
    megabytes = weight(shown.explorers.pop(largest)) / 1e6
    shown.notes[largest.name] = (
        f"Left out to keep this page small: it would have taken {megabytes:.1f} MB. A report of this recording alone may hold it."
    )


def _shrink(shown: Shown, room: int) -> None:
    """Smaller pictures in the x0 explorer; any other that is too large is left out."""
    [(kind, explorer)] = shown.explorers.items()
    if kind is not X0:
        shown.notes[kind.name] = (
            f"Left out to keep this page small: it would have taken {weight(explorer) / 1e6:.1f} MB."
        )
        del shown.explorers[kind]
        return
    count, share = len(explorer.view["samples"]), max(room, SMALLEST) / shown.size
    shown.item.pictures = _pictures(shown.item, budget=_pictures(shown.item).pixels * share * 0.8)
    shown.explorers[kind] = kind.make(shown.item, count)
    shown.notes[kind.name] = "Its pictures are smaller than the videos, to keep this page small."


def _first(item: Item, count: int) -> Recording:
    """The recording with its first samples only."""
    recording = item.recording
    assert recording is not None
    if count == len(recording.captions):
        return recording
    ds = recording.ds.isel(sample=slice(0, count))
    return Recording(
        ds, recording.path, complete=recording.complete, planned=recording.planned, preview=recording._preview
    )


def _pictures(item: Item, **options: Any) -> Sprites:
    """The pictures of the x0 explorer, which take long to make: made once, unless `options` ask for others."""
    if item.pictures is None or options:
        return make_sprites(item.source, baseline=item.baseline, **options)
    return item.pictures


def _x0(item: Item, count: int) -> Explorer:
    item.pictures = _pictures(item)
    return widgets.X0Explorer(item.pictures.samples(count))


X0 = Kind(
    "x0",
    "What each branch predicts",
    "Predictions",
    "Each row starts from the same noisy video and jumps to the clean one in a single step. Drag the slider, or click on it "
    "and use the arrow keys.",
    _x0,
    optional=False,
)
RECORDING: tuple[Kind, ...] = (X0,)
SWEEP: tuple[Kind, ...] = ()
