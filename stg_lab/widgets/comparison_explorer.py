"""The comparison explorer: two runs of one seed under one slider, and what differs in their settings."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stg_lab.analysis.compare import Comparison, compare
from stg_lab.errors import CallError
from stg_lab.given import takes
from stg_lab.guidance import COND, GUIDED
from stg_lab.palette import SERIES
from stg_lab.recording import Recording, Source
from stg_lab.widgets.sprites import BUDGET, Sprites, facts, final_video, gain_of, sheet_png, shrunk
from stg_lab.widgets.x0_explorer import X0Explorer

#: Rows of the two runs, by name, with their colours.
A, B = "a", "b"
COLOURS = {A: SERIES[0], B: SERIES[1]}


class ComparisonExplorer(X0Explorer):
    """Two runs under one slider. Make it with `comparison_explorer`; attributes as of `X0Explorer`, rows "a" and "b".

    Attributes:
        comparison: the numbers behind it.
    """

    comparison: Comparison

    def __repr__(self) -> str:
        view = self.view
        return f"ComparisonExplorer({len(view['steps'])} steps x {len(view['samples'])} samples, at step {self.step})"


@takes()
def comparison_explorer(a: Source, b: Source, *, sample: int = 0, fps: float = 8) -> ComparisonExplorer:
    """Show two recordings of the same seeds side by side: what each would end at from every step, and its final video.

    A row for each run holds the one-step prediction of what was stepped with, at the same step, or the nearest noise level where
    the runs have other steps. "Difference" shows b minus a around grey. Below stands what their settings do not have in common.

    Args:
        a, b: recorded runs, recordings, or paths or names of some, of equal sizes.
        sample: which sample to show first.
        fps: frames a second of the videos.

    Returns:
        A widget; its state (`step`, `sample`, `mode`, `playing`, `difference`, `gain`, `size`) can be set from Python.

    Raises:
        RecordingError: other sizes, no such sample, or latents that cannot be shown without a model.

    >>> lab.widgets.comparison_explorer("repair", "repair_unguided")  # doctest: +SKIP
    """
    if not 0 < fps <= 120:
        raise CallError(f"fps is the number of frames a second, above 0 and at most 120, got {fps}.")
    found = compare(a, b)
    videos = {A: _videos(found.a, range(found.a.steps)), B: _videos(found.b, found.ds.other.values)}
    finals = {f"final {name}": final_video(one) for name, one in ((A, found.a), (B, found.b))}
    there = {
        name: video[None] for name, video in finals.items() if video is not None and video.shape == videos[A].shape[1:]
    }
    shape = videos[A].shape
    shrink = math.ceil(math.sqrt(math.prod(shape[:1] + shape[2:5]) / BUDGET))
    sheets = {
        f"{name}/{i}": sheet_png(shrunk(video[:, i], shrink))
        for name, video in {**videos, **there}.items()
        for i in range(shape[1])
    }
    view = facts(found.a) | {
        "guidance": " ".join(found._found()[:-1]),
        "reference": A,
        "settings": [[name, *map(str, values)] for name, values in found.settings.items()],
        "frames": shape[2],
        "height": shape[3] // shrink,
        "width": shape[4] // shrink,
        "shrink": shrink,
        "fps": fps,
        "gain": gain_of({COND: videos[A], B: videos[B]}),
        "rows": [_row(name, one, video) for (name, video), one in zip(videos.items(), (found.a, found.b), strict=True)],
        "finals": [{"name": n, "label": n, "note": "", "colour": COLOURS[n[-1]]} for n in there],
        "decodable": False,
    }
    explorer = ComparisonExplorer(Sprites(view, sheets), sample=sample)
    explorer.comparison = found
    return explorer


def _videos(recording: Recording, steps: Any) -> np.ndarray:
    """x0 of what was stepped with, at some steps, `(step, sample, frame, height, width, 3)`."""
    return np.stack([recording.video(GUIDED, step=int(k)) for k in steps])


def _row(name: str, recording: Recording, video: np.ndarray) -> dict[str, Any]:
    note = str(recording.settings.get("guidance_text") or "the sampler's own")
    computed = [not bool(np.isnan(step).any()) for step in video]
    return {
        "name": name,
        "label": name,
        "note": f"{recording.path.name}: {note}",
        "colour": COLOURS[name],
        "computed": computed,
    }
