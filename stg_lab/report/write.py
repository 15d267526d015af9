"""Writing the report: what goes on the page, and in which order."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stg_lab.errors import CallError, RecordingError
from stg_lab.report import parts
from stg_lab.videos import mp4
from stg_lab.widgets import X0Explorer
from stg_lab.widgets.base import module
from stg_lab.widgets.sprites import final_video, make_sprites, recording_of

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from stg_lab.recording import Recording
    from stg_lab.sampling import Run

LIMIT = 7_900_000  # bytes of the page: small enough for a mail. The explorer gets what the rest leaves over.


def write_report(
    path: str | Path,
    source: Run | Recording,
    *,
    baseline: Run | Recording | None = None,
    title: str | None = None,
    figure_png: bytes | None = None,
    plots: Mapping[str, Figure] | None = None,
    videos: Mapping[str, bytes] | None = None,
) -> Path:
    """Write a run as ONE HTML file: videos, the x0 explorer, plots, figure and every setting.

    The page needs no kernel and asks no network; its content security policy forbids both scripts and pictures from
    elsewhere. A text from a recording is shown, never interpreted.

    Args:
        path: the file to write; its folder is made, and an older report is replaced.
        source: a recorded run, or a recording.
        baseline: a run or recording of the same call with CFG alone, shown beside it.
        title: heading of the page.
        figure_png: a PNG for print, shown at the end.
        plots: plotly figures by their titles.
        videos: mp4 bytes by their titles, shown instead of those made from `source` and `baseline`.

    Returns:
        The path of the file.

    Raises:
        CallError: `source` or `baseline` is neither, their videos differ in size, or `figure_png` is no PNG.
        RecordingError: the run was not recorded.
    """
    if figure_png is not None and not figure_png.startswith(b"\x89PNG"):
        raise CallError("figure_png must be the bytes of a PNG, for example Path('figure.png').read_bytes().")
    recording = recording_of(source)
    title = title or "What the weak model does"
    before = [
        parts.lead(title, recording),
        parts.facts(recording),
        parts.videos(_clips(source, baseline) if videos is None else videos),
    ]
    after = [parts.plots(plots or {}), parts.figure(figure_png), parts.settings(recording.settings)]
    room = LIMIT - len(parts.page(title, before + after)) - len(module("x0_explorer")) - 10_000
    explorer = parts.explorer(*_explorer(source, baseline, room=room * 3 // 4))  # base64 writes 3 bytes as 4 letters
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(parts.page(title, [*before, explorer, *after]), encoding="utf-8")
    return path


def _explorer(source: Any, baseline: Any, *, room: int) -> tuple[X0Explorer | None, str]:
    """The explorer with as many samples as there is room for, and a word on what was left out."""
    try:
        sprites = make_sprites(source, baseline=baseline)
        alone = sprites.samples(1).size
        if alone > room:  # large videos: smaller pictures, since a page without any would be worse
            share = max(room, LIMIT // 10) / alone
            sprites = make_sprites(source, baseline=baseline, budget=sprites.pixels * share * 0.8)
    except RecordingError as error:
        return None, f"There is no explorer on this page: {error}"
    count = total = len(sprites.view["samples"])
    while count > 1 and sprites.samples(count).size > room:
        count -= 1
    note = "" if count == total else f"The explorer holds the first {count} of {total} samples."
    return X0Explorer(sprites.samples(count)), note


def _clips(source: Any, baseline: Any) -> dict[str, bytes]:
    """The final videos, CFG first; those that a recording cannot show are left out."""
    clips = {}
    for who in (baseline, source):
        try:
            video = None if who is None else final_video(who)
        except RecordingError:
            video = None
        if video is not None:
            clips[str(recording_of(who).settings.get("guidance_text") or "the pipeline alone")] = mp4(video)
    return clips
