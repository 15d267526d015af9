"""Which explorers a recording has on the page, and how their pictures and numbers are made to fit."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from stg_lab.errors import LabError
from stg_lab.figures import video_grid
from stg_lab.recording import Recording
from stg_lab.report.sources import Item, first
from stg_lab.widgets.ablation_explorer import ablation_explorer
from stg_lab.widgets.base import Explorer
from stg_lab.widgets.grid_explorer import GridExplorer
from stg_lab.widgets.guidance_explorer import guidance_explorer
from stg_lab.widgets.orthogonality_explorer import orthogonality_explorer
from stg_lab.widgets.sprites import Sprites, make_sprites
from stg_lab.widgets.x0_explorer import X0Explorer

SMALLEST = 150_000  # bytes that pictures get however full the page is: one without any would be worse
LEAST = 0.5  # megabytes below which an explorer with a budget is not worth having
MOST = 5.5


@dataclass(frozen=True)
class Kind:
    """One sort of explorer.

    Attributes:
        name: for addresses within the page.
        heading: above it.
        short: the same in two words at most, for a tab.
        words: what to do with it.
        make: the explorer of an item: its first `count` samples, in about `budget` megabytes where `budgeted`. Raises LabError
            where the data have none.
        budgeted: whether its pictures can be made to fit a budget.
        optional: left out without a word where the data have none.
    """

    name: str
    heading: str
    short: str
    words: str
    make: Callable[[Item, int, float], Explorer]
    budgeted: bool = False
    optional: bool = True


@dataclass
class Shown:
    """What a recording shows.

    Attributes:
        item: the recording.
        explorers: those that it has, by kind.
        notes: what is to be said about them, by name of the kind.
        samples: how many samples each holds.
    """

    item: Item
    explorers: dict[Kind, Explorer] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    samples: dict[Kind, int] = field(default_factory=dict)

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


def show(item: Item, *, budget: float = MOST) -> Shown:
    """All explorers of an item with all samples; those with a budget get `budget` megabytes."""
    count = len(item.captions)
    shown = Shown(item, samples=dict.fromkeys(kinds(item), count))
    for kind in kinds(item):
        try:
            shown.explorers[kind] = kind.make(item, count, budget)
        except LabError as error:
            if not kind.optional:
                shown.notes[kind.name] = f"There is no explorer on this page: {error}"
    return shown


def grid(source: Any, room: float) -> GridExplorer:
    """The grid of some videos in about `room` bytes: where it takes more, its pictures are smaller.

    Raises:
        CallError: what has no videos.
    """
    videos = video_grid(source)
    pixels = math.prod(videos.video.shape[:5])
    explorer = GridExplorer(videos)
    while (size := weight(explorer)) > room and pixels > SMALLEST:
        pixels = int(pixels * max(0.25, min(0.9, 0.9 * room / size)))
        explorer = GridExplorer(videos, budget=pixels)
    return explorer


def fit(shown: list[Shown], room: int) -> None:
    """Make what all recordings show fit into `room` bytes, in place.

    The room is shared out evenly; what small recordings leave over goes to the larger ones. A recording that has less than
    it needs shows smaller pictures where an explorer can do with them, then fewer samples, then fewer explorers, and says so.
    """
    waiting, left = sorted(shown, key=lambda one: one.size), room
    for done, one in enumerate(waiting):
        share = left // (len(waiting) - done)
        if one.size > share:
            for reduce in (_keep_to_budgets, _fewer_samples, _fewer_explorers, _smaller_pictures):
                if one.size > share and one.explorers:
                    reduce(one, share)
            _keep_to_budgets(one, share)  # they may grow into what the others left
        left -= one.size


def _keep_to_budgets(shown: Shown, room: int) -> None:
    """Explorers with a budget get what the others leave over, if that is worth having."""
    for kind in [kind for kind in shown.explorers if kind.budgeted]:
        if (budget := _left_over(shown, kind, room)) >= LEAST:
            shown.explorers[kind] = kind.make(shown.item, shown.samples[kind], budget)


def _left_over(shown: Shown, kind: Kind, room: int) -> float:
    """Megabytes that the other explorers leave to one."""
    return (room - shown.size + weight(shown.explorers[kind])) * 3 / 4 / 1e6


def _fewer_samples(shown: Shown, room: int) -> None:
    """Fewer samples, the least telling explorers first."""
    for kind in reversed(list(shown.explorers)):
        if kind.budgeted and shown.size > room:  # leaves samples out by itself, and says so
            budget = max(LEAST, _left_over(shown, kind, room))
            shown.explorers[kind] = kind.make(shown.item, shown.samples[kind], budget)
            continue
        total = count = shown.samples[kind]
        while count > 1 and shown.size > room:
            own = weight(shown.explorers[kind])
            left = max(room - (shown.size - own), 0)
            count = min(max(1, count * left // own), count - 1)
            shown.explorers[kind] = kind.make(shown.item, count, MOST)
        if count < total:
            shown.samples[kind] = count
            shown.notes[kind.name] = f"This explorer holds the first {count} of {len(shown.item.captions)} samples."


def _fewer_explorers(shown: Shown, room: int) -> None:
    """Leave out the least telling explorers; those with a budget may grow into the room."""
    while shown.size > room and len(shown.explorers) > 1:
        _leave_out(shown, list(shown.explorers)[-1])
        _keep_to_budgets(shown, room)


def _smaller_pictures(shown: Shown, room: int) -> None:
    """Smaller pictures in the x0 explorer; any other that is still too large is left out."""
    [(kind, explorer)] = shown.explorers.items()
    if kind is not X0:
        _leave_out(shown, kind)
        return
    share = max(room, SMALLEST) / weight(explorer)
    shown.item.pictures = _pictures(shown.item, budget=_pictures(shown.item).pixels * share * 0.8)
    shown.explorers[kind] = kind.make(shown.item, shown.samples[kind], MOST)
    smaller = "Its pictures are smaller than the videos, to keep this page small."
    shown.notes[kind.name] = f"{shown.notes.get(kind.name, '')} {smaller}".strip()


def _leave_out(shown: Shown, kind: Kind) -> None:
    megabytes = weight(shown.explorers.pop(kind)) / 1e6
    shown.notes[kind.name] = (
        f"Left out to keep this page small: it takes {megabytes:.1f} MB. A report of this recording alone may hold it."
    )


def _first(item: Item, count: int) -> Recording:
    """The recording with its first samples only."""
    assert item.recording is not None
    return first(item.recording, count)


def _pictures(item: Item, **options: Any) -> Sprites:
    """The pictures of the x0 explorer, which take long to make: made once, unless `options` ask for others."""
    if item.pictures is None or options:
        return make_sprites(item.source, baseline=item.baseline, **options)
    return item.pictures


def _x0(item: Item, count: int, budget: float) -> Explorer:
    item.pictures = _pictures(item)
    return X0Explorer(item.pictures.samples(count))


def _guidance(item: Item, count: int, budget: float) -> Explorer:
    return guidance_explorer(_first(item, count), budget=min(budget, MOST), hint=False)


def _orthogonality(item: Item, count: int, budget: float) -> Explorer:
    return orthogonality_explorer(_first(item, count))


def _ablation(item: Item, count: int, budget: float) -> Explorer:
    assert item.sweep is not None
    return ablation_explorer(item.sweep.isel(sample=slice(0, count)))


X0 = Kind(
    "x0",
    "What each branch predicts",
    "Predictions",
    "Each row starts from the same noisy video and jumps to the clean one in a single step. Drag the slider, or click on it "
    "and use the arrow keys.",
    _x0,
    optional=False,
)
GUIDANCE = Kind(
    "guidance",
    "What the guidance vectors are made of",
    "Guidance",
    "Move the scales: the picture is the guided one-step prediction of the chosen step, exact for that step. With other scales "
    "the steps after it would have started elsewhere.",
    _guidance,
    budgeted=True,
)
ORTHOGONALITY = Kind(
    "orthogonality",
    "How the guidance vectors lie to each other",
    "Orthogonality",
    "The angle between two guidance vectors at every step, and what is left of one when its part along the other is removed.",
    _orthogonality,
)
ABLATION = Kind(
    "ablation",
    "What each layer does",
    "Layers",
    "Every layer, part and axis skipped in turn, at the same noisy video. Click a cell for its prediction, its guidance vector "
    "and its scores; pin one to compare.",
    _ablation,
    optional=False,
)
RECORDING = (X0, GUIDANCE, ORTHOGONALITY)
SWEEP = (ABLATION,)
