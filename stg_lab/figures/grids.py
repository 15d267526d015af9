"""Many videos at a glance: candidates by scale and seed, baselines first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stg_lab.errors import CallError
from stg_lab.figures.film import Film, Strip, check_frames, draw
from stg_lab.figures.style import SMALL, Width, fitted, inches, said, text_width
from stg_lab.given import Several, Text, Whole, takes
from stg_lab.palette import SERIES
from stg_lab.rating import gather
from stg_lab.rating.sources import Clips
from stg_lab.videogrid import Setting, State, VideoGrid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMES = Several(Text(), lone=False, example="baselines=['CFG']")
UNGUIDED = ("no guidance", "CFG(1)", "the pipeline's own", "baseline")


@takes(title=Text(empty=True), baselines=NAMES)
def video_grid(source: Any, *, baselines: Sequence[str] | None = None, title: str = "") -> VideoGrid:
    """Videos by setting and state, of whatever has them.

    Args:
        source: a `VideoGrid`; what has one, such as a search's `Found`; or a dict of settings -> runs, recordings, paths or names of
            recordings, or arrays `(batch, frame, height, width, 3)` in [0, 1]. A setting is a name, or a pair of name and scale.
        baselines: names of the settings that stand first; by default those called "no guidance" or "baseline", else the first.
        title: one line over it.

    Raises:
        CallError: something else, fewer than two settings, videos of different sizes, or a baseline that is not there.
        RecordingError: no recording of that name, no final video, or only rough pictures of it.
    """
    if isinstance(source, VideoGrid):
        return source
    if isinstance(getattr(source, "videos", None), VideoGrid):
        return source.videos
    if not isinstance(source, Mapping):
        raise CallError(
            "a grid is of what lab.search found, or of a dict of settings, such as {'no guidance': run.baseline, "
            f"('skip:block:4', 1): run}}, got {type(source).__name__}."
        )
    settings = {key: _setting(key) for key in source}
    clips = gather({one.label: source[key] for key, one in settings.items()})
    return _placed(list(settings.values()), clips, _first(list(settings.values()), baselines), title)


def _setting(key: Any) -> Setting:
    name, scale = key if isinstance(key, tuple) and len(key) == 2 else (key, None)
    if not isinstance(name, str) or not (scale is None or isinstance(scale, int | float)):
        raise CallError(f"a setting is a name, or a pair of name and scale such as ('skip:block:4', 1), got {key!r}.")
    return Setting(name, None if scale is None else float(scale), name)


def _first(settings: Sequence[Setting], baselines: Sequence[str] | None) -> set[str]:
    labels = [one.label for one in settings]
    if baselines is None:
        return {label for label in labels if label in UNGUIDED} or {labels[0]}
    if strange := [name for name in baselines if name not in labels]:
        raise CallError(f"baselines={strange[0]!r} is not among the settings: {', '.join(labels)}.")
    return set(baselines)


def _placed(settings: Sequence[Setting], clips: Sequence[Clips], first: set[str], title: str) -> VideoGrid:
    keys = list(dict.fromkeys(key for one in clips for key in one.keys))
    video = np.zeros((len(clips), len(keys), *clips[0].video.shape[1:]), np.uint8)
    there = np.zeros((len(clips), len(keys)), bool)
    for row, one in enumerate(clips):
        places = [keys.index(key) for key in one.keys]
        video[row, places], there[row, places] = one.video, True
    states = tuple(State(key.caption, key.seed) for key in keys)
    marked = tuple(Setting(s.name, s.scale, s.guidance, s.label in first) for s in settings)
    return VideoGrid(marked, states, video, there, title=title)


@takes(
    frames=Whole(1),
    state=Whole(0),
    group=Text(),
    sort=Text(),
    title=Text(empty=True),
    baselines=NAMES,
    by=Text(("seed", "scale")),
)
def grid(
    source: Any,
    *,
    by: str = "seed",
    state: int = 0,
    group: str | None = None,
    sort: str | None = None,
    baselines: Sequence[str] | None = None,
    frames: int = 1,
    title: str = "",
    width: Width = "page",
) -> Figure:
    """Many videos at a glance: a row for each setting, baselines first, a column for each caption and seed; or a row for each
    candidate and a column for each scale. No row is left out, at any width.

    Args:
        source: what `lab.search` found, or a dict of settings -> runs, recordings or arrays; see `video_grid`.
        by: "seed" for columns of captions and seeds, "scale" for columns of scales, of one caption and seed.
        state: by scale: which caption and seed.
        group: of a search: "fresh seeds" or "seeds to choose by"; by default the one with most videos.
        sort: a score, by whose mean the settings stand below the baselines; by default in the order given.
        baselines: names of the settings that stand first.
        frames: how many frames of each video; one is the middle one.
        title: one line over the figure.
        width: "page", "column", or inches.

    Returns:
        A matplotlib figure; `lab.figures.save(figure, "grid")` writes PDF and PNG, `lab.figures.animate(figure, "grid")` GIF and mp4.

    Raises:
        CallError: what has no videos, or a group, score, state or width that is not there.

    >>> import stg_lab as lab
    >>> found = {"no guidance": "repair_unguided", ("skip:block:4,5", 1): "repair"}
    >>> figure = lab.figures.grid(found, frames=5)
    """
    wide = inches(width)
    check_frames(frames)
    whole = video_grid(source, baselines=baselines, title=title)
    groups = whole.groups
    if group is not None and group not in groups:
        raise CallError(f"group={group!r} is not there. There are: {', '.join(map(repr, groups))}.")
    biggest = max(groups, key=lambda name: int(whole.of_group(name).there.sum()))
    shown = whole.of_group(biggest if group is None else group)
    if sort is not None:
        shown = shown.ranked(sort)
    return draw(film(shown, by=by, state=state, sort=sort, title=title or whole.title, wide=wide), width, frames)


def film(
    shown: VideoGrid, *, by: str = "seed", state: int = 0, sort: str | None = None, title: str = "", wide: float = 6.9
) -> Film:
    """A grid as rows of clips, with the mean of a score as a bar where there is one.

    Args:
        wide: inches of the figure; where captions do not fit over their columns, these are numbered, and the title tells them.

    Raises:
        CallError: a state that is not there.
    """
    if state >= len(shown.states):
        raise CallError(f"state={state} is not there: the grid has {len(shown.states)} (0 to {len(shown.states) - 1}).")
    means = shown.means(sort or next(iter(shown.scores), "")) if shown.scores else None
    if by == "scale":
        rows, heads = _by_scale(shown, state)
        return Film(title or shown.states[state].label, rows, heads, still="")
    share = means is not None and bool(np.all((means >= 0) & (means <= 1) | np.isnan(means)))
    rows = [
        Strip(
            one.label,
            tuple(shown.video[i, k] / np.float32(255) if shown.there[i, k] else None for k in range(len(shown.states))),
            float(means[i]) if share and means is not None and np.isfinite(means[i]) else None,
            "#000000" if one.baseline else SERIES[0],
        )
        for i, one in enumerate(shown.settings)
    ]
    measure = f"mean of {sort or next(iter(shown.scores))}" if share and shown.scores else ""
    heads = tuple(one.label for one in shown.states)
    if not _fit(heads, (wide - 2.2) / len(heads)):
        told = "; ".join(f"{i}: {head}" for i, head in enumerate(heads, 1))
        title, heads = f"{title}\n{told}" if title else told, tuple(map(str, range(1, len(heads) + 1)))
    return Film(title, rows, heads, measure)


def _fit(heads: Sequence[str], room: float) -> bool:
    """Whether every word of the heads fits into so many inches, and no head takes more than four lines."""
    heads = [said(head) for head in heads]
    widest = max(text_width(word, SMALL) for head in heads for word in head.split(" "))
    return widest <= room and all(fitted(head, room, SMALL).count("\n") < 4 for head in heads)


def _by_scale(shown: VideoGrid, state: int) -> tuple[list[Strip], tuple[str, ...]]:
    """A row for each candidate, a column for each scale; baselines, which have none, stand in the first one."""
    scales: list[float | None] = [*shown.scales] or [None]
    clips = {
        (one.name, one.scale): shown.video[i, state] / np.float32(255)
        for i, one in enumerate(shown.settings)
        if shown.there[i, state]
    }
    alone = {one.name for one in shown.settings if one.scale is None}
    rows = [
        Strip(name, tuple(clips.get((name, None if name in alone and k == 0 else s)) for k, s in enumerate(scales)))
        for name in dict.fromkeys(one.name for one in shown.settings)
    ]
    return rows, tuple("" if scale is None else f"scale {scale:g}" for scale in scales)
