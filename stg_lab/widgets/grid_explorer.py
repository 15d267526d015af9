"""The grid: many videos by setting and seed, all playing under one clock."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import traitlets

from stg_lab.errors import CallError
from stg_lab.figures import animate, save
from stg_lab.figures.film import draw
from stg_lab.figures.grids import NAMES, film, video_grid
from stg_lab.figures.style import inches
from stg_lab.files import write
from stg_lab.given import Number, Text, takes
from stg_lab.palette import SERIES
from stg_lab.recording import check_number
from stg_lab.videogrid import VideoGrid
from stg_lab.widgets.base import Explorer, check_among, module, style
from stg_lab.widgets.sprites import sheet_png, shrunk
from stg_lab.widgets.still import Still, Strip

BUDGET = 16_000_000  # pixels of all videos; above it they are shown smaller, and the explorer says so
MOST = 4  # videos that are enlarged at a time
BY = ("seed", "scale")


class GridExplorer(Explorer):
    """Many videos by setting and seed. Make it with `grid_explorer`, or `found.grid()`.

    Attributes:
        by: "seed": a column for each caption and seed; "scale": a column for each scale, of one caption and seed.
        group: which of a search's states are shown, such as "fresh seeds".
        at: by scale: the caption and seed that is shown, its number within the group.
        score: what the settings are sorted by, and what stands under each video; "" for none.
        sort: whether the best by that score stands first, below the baselines.
        size: pixels of a picture; 0 for as large as there is room for.
        playing: whether the videos move.
        frame: where they are held while they do not.
        chosen: what is enlarged, as "setting/state", numbers of `view["settings"]` and `view["states"]`.
        grid: the videos themselves.
    """

    _esm, _css = module("grid_explorer"), style("grid_explorer")
    STATE = ("by", "group", "at", "score", "sort", "size", "playing", "frame", "chosen")

    by = traitlets.Unicode("seed").tag(sync=True)
    group = traitlets.Unicode("").tag(sync=True)
    at = traitlets.Int(0).tag(sync=True)
    score = traitlets.Unicode("").tag(sync=True)
    sort = traitlets.Bool(False).tag(sync=True)
    size = traitlets.Int(0).tag(sync=True)
    playing = traitlets.Bool(True).tag(sync=True)
    frame = traitlets.Int(0).tag(sync=True)
    chosen = traitlets.List(traitlets.Unicode()).tag(sync=True)

    def __init__(self, grid: VideoGrid, *, fps: float = 8, budget: float = BUDGET) -> None:
        self.grid = grid
        groups = grid.groups
        group = max(groups, key=lambda name: int(grid.of_group(name).there.sum()))
        pixels = math.prod(grid.video.shape[:5])
        shrink = max(1, math.ceil(math.sqrt(pixels / budget)))
        sheets = {f"{i}/0": sheet_png(shrunk(one / np.float32(255), shrink)) for i, one in enumerate(grid.video)}
        frames, height, width = grid.video.shape[2:5]
        settings = [
            {"label": s.label, "name": s.name, "scale": s.scale, "guidance": s.guidance, "baseline": s.baseline}
            for s in grid.settings
        ]
        view = {
            "title": grid.title,
            "settings": settings,
            "states": [{"caption": s.caption, "seed": s.seed, "group": s.group} for s in grid.states],
            "groups": grid.groups,
            "scales": grid.scales,
            "scores": [{"name": name, "better": grid.better.get(name, 1)} for name in grid.scores],
            "there": grid.there.tolist(),
            "frames": frames,
            "height": height // shrink,
            "width": width // shrink,
            "shrink": shrink,
            "fps": fps,
            "most": MOST,
        }
        values = np.stack(list(grid.scores.values())) if grid.scores else np.zeros((0, *grid.there.shape))
        super().__init__(view, sheets, {"scores": values.astype(np.float32)}, group=group)
        self.score = next(iter(grid.scores), "")

    @traitlets.validate("by")
    def _check_by(self, proposal: Any) -> str:
        return check_among("by", proposal["value"], BY)

    @traitlets.validate("group")
    def _check_group(self, proposal: Any) -> str:
        return check_among("group", proposal["value"], tuple(self.view.get("groups", [""])))

    @traitlets.validate("score")
    def _check_score(self, proposal: Any) -> str:
        return check_among("score", proposal["value"], ("", *(one["name"] for one in self.view.get("scores", []))))

    @traitlets.validate("frame")
    def _check_frame(self, proposal: Any) -> int:
        return check_number("frame", proposal["value"], self.view["frames"])

    @traitlets.validate("chosen")
    def _check_chosen(self, proposal: Any) -> list[str]:
        for one in proposal["value"]:
            setting, _, state = one.partition("/")
            whole = setting.isdigit() and state.isdigit()
            rows, columns = self.grid.there.shape
            if not (
                whole and int(setting) < rows and int(state) < columns and self.grid.there[int(setting), int(state)]
            ):
                raise CallError(f"chosen={one!r} is no video: give 'setting/state', such as '0/0'.")
        return list(dict.fromkeys(proposal["value"]))[-MOST:]

    @property
    def shown(self) -> VideoGrid:
        """The videos that are shown, in the order in which they stand."""
        found = self.grid.of_group(self.group)
        return found.ranked(self.score) if self.sort and self.score else found

    def save(self, path: str | Path, *, frames: int = 1, width: Any = "page") -> Path:
        """Write what is shown: .html (all of it, as an explorer without a kernel), .pdf or .png (for print), .gif or .mp4 (moving).

        Args:
            path: the file.
            frames: .pdf and .png: how many frames of each video; one is the middle one.
            width: .pdf and .png: "page", "column" or inches.

        Raises:
            CallError: another ending.
        """
        path = Path(path)
        kind = path.suffix[1:].lower()
        if kind not in ("html", "pdf", "png", "gif", "mp4"):
            raise CallError(f"a grid is saved as .html, .pdf, .png, .gif or .mp4, got {str(path)!r}.")
        if kind == "html":
            write(path, self.to_html(title=self.grid.title or "Videos").encode())
            return path
        sort = self.score if self.sort and self.score else None
        told = film(self.shown, by=self.by, state=self.at, sort=sort, title=self.grid.title, wide=inches(width))
        figure = draw(told, width, frames)
        if kind in ("pdf", "png"):
            return save(figure, path.with_suffix(""), formats=(kind,))[0]
        return animate(figure, path)[0]

    def still(self) -> Still | None:
        """The middle frames of all that is shown."""
        shown = self.shown
        middle = shown.video[:, :, shown.video.shape[2] // 2]
        strips = [
            Strip(one.label, "#000000" if one.baseline else SERIES[0], np.concatenate(list(row), axis=1))
            for one, row in zip(shown.settings, middle, strict=True)
        ]
        return Still(f"Videos by setting and seed{f', {self.group}' if self.group else ''}", strips)

    def __repr__(self) -> str:
        return f"GridExplorer({int(self.grid.there.sum())} videos of {len(self.grid.settings)} settings)"


@takes(title=Text(empty=True), baselines=NAMES, fps=Number(0, 120, above=True))
def grid_explorer(
    source: Any, *, baselines: Sequence[str] | None = None, title: str = "", fps: float = 8
) -> GridExplorer:
    """Many videos at once, all playing under one clock: a row for each setting, baselines first, a column for each caption and
    seed, or a column for each scale.

    Click videos to see them large beside the baselines of the same noise; sort the settings by a score.

    Args:
        source: what `lab.search` found, or a dict of settings -> runs, recordings or paths or names of them, or arrays
            `(batch, frame, height, width, 3)` in [0, 1]. A setting is a name, or a pair of name and scale.
        baselines: names of the settings that stand first; by default those called "no guidance" or "baseline", else the first.
        title: what it is about.
        fps: frames a second.

    Returns:
        A widget. Its state (`by`, `group`, `at`, `score`, `sort`, `size`, `playing`, `frame`, `chosen`) can be set from Python, and
        `save("grid.pdf")` writes what is shown.

    Raises:
        CallError: something else, fewer than two settings, or videos of different sizes.
        RecordingError: no recording of that name, no final video, or only rough pictures of it.

    >>> import stg_lab as lab
    >>> shown = lab.widgets.grid_explorer({"no guidance": "repair_unguided", ("skip:block:4,5", 1): "repair"})
    """
    return GridExplorer(video_grid(source, baselines=baselines, title=title), fps=fps)
