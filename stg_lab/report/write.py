"""Writing the report: what goes on the page, and in which order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stg_lab import plots as lab_plots
from stg_lab.errors import CallError, LabError, RecordingError
from stg_lab.files import written
from stg_lab.given import shown, takes
from stg_lab.recording import BESIDE
from stg_lab.report import explorers, parts
from stg_lab.report.grid import Grid
from stg_lab.report.sources import Item, items
from stg_lab.videos import mp4
from stg_lab.widgets.base import Explorer
from stg_lab.widgets.sprites import final_video

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from stg_lab.recording import Recording
    from stg_lab.sampling import Run

LIMIT = 13_000_000  # bytes of the page: small enough for a mail. Explorers get what the rest leaves over.
VIDEOS = 0.4  # of the page, at most
TITLE = "What the weak model does"


@takes()
def report(
    recordings: Any,
    out: str | Path,
    *,
    title: str = TITLE,
    baseline: Run | Recording | Mapping[str, Run | Recording] | None = None,
    plots: Mapping[str, Figure] | None = None,
    videos: Mapping[str, bytes] | None = None,
    figure_png: bytes | None = None,
    grids: Sequence[Any] = (),
) -> Path:
    """Write recordings as ONE interactive HTML page, for people without Python: videos, explorers, plots, every setting.

    The page needs no kernel and asks no network; its content security policy forbids both scripts and pictures from
    elsewhere. It is at most 13 MB: what does not fit is made smaller or left out, and the page says so. A text from a
    recording is shown, never interpreted.

    Args:
        recordings: a recorded run, a recording, a dataset of `lab.ablate`, or the path or name of one; or several in a list,
            or in a dict under titles of your own. Several lie under tabs.
        out: the file to write; its folder is made, and an older report is replaced.
        title: heading of the page.
        baseline: a run or recording of the same call with CFG alone, shown beside the others; or a dict of them by the titles
            of `recordings`.
        plots: plotly figures by their titles, for a single recording; by default the lengths of its guidance vectors and
            the angles between them.
        videos: mp4 bytes by their titles, shown instead of those made from the recordings.
        figure_png: a PNG for print, shown at the end.
        grids: videos side by side, shown before everything else and in place of the videos made from the recordings: of
            `stg_lab.report.Grid`, or what `lab.widgets.grid_explorer` takes, such as what `lab.search` found.

    Returns:
        The path of the file.

    Raises:
        CallError: nothing or something else was given, videos differ in size, `figure_png` is no PNG, or what cannot be
            left out is more than a page holds.
        RecordingError: a run was not recorded, or there is no recording at a path.
        FileError: the page cannot be written; an older one is as it was.

    >>> report(["repair_both", "layers"], "out/report.html")  # doctest: +SKIP
    """
    out = Path(out)
    if out.is_dir():
        raise CallError(f"out={str(out)!r} is a folder. Name the file, for example {str(out / 'report.html')!r}.")
    if isinstance(baseline, Mapping):
        baseline = {title: BESIDE.read(one) for title, one in baseline.items()}
    elif baseline is not None:
        baseline = BESIDE.read(baseline)
    if figure_png is not None and not (isinstance(figure_png, bytes) and figure_png.startswith(b"\x89PNG")):
        raise CallError(
            f"figure_png must be the bytes of a PNG, got {shown(figure_png)}. Type for example Path('figure.png').read_bytes()."
        )
    given = items(recordings, baseline=baseline)
    if plots and len(given) > 1:
        raise CallError("plots are for a report of one recording; several have plots of their own.")
    page = _Page(title, given, figure_png, list(grids))
    page.add_videos({} if grids and videos is None else videos, baseline)
    page.add_plots(plots)
    text = page.written(LIMIT)
    with written(out) as file:
        file.write_text(text, encoding="utf-8")
    return Path(out)


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
    """Write one run as a report with the plots that are given and no others; arguments and errors as for `report`."""
    shown = {"baseline": baseline, "figure_png": figure_png, "plots": plots or {}, "videos": videos}
    return report(source, path, title=title or TITLE, **shown)  # type: ignore[arg-type]


class _Page:
    """A report in the making."""

    def __init__(self, title: str, given: list[Item], figure_png: bytes | None, grids: Sequence[Any] = ()) -> None:
        self.title, self.items, self.figure_png = title, given, figure_png
        self.grids = [None if isinstance(one, Grid) else explorers.grid(one, LIMIT * VIDEOS) for one in grids]
        self.top = [
            parts.heading(title),
            *(_grid(i, *both) for i, both in enumerate(zip(grids, self.grids, strict=True))),
        ]
        self.many = len(given) > 1
        self.shown: list[explorers.Shown] = []
        self.plots: list[dict[str, Figure]] = [{} for _ in given]
        self.clips: dict[str, bytes] = {}
        self.clips_note = ""

    def add_videos(self, given: Mapping[str, bytes] | None, baseline: Any) -> None:
        """The videos that were given, or the final ones, CFG first, as far as they fit."""
        found = _clips(self.items, baseline, self.many) if given is None else dict(given)
        room, left_out = LIMIT * VIDEOS * 3 / 4, []
        for name, clip in found.items():
            if given is None and len(clip) > room:
                left_out.append(name)
                continue
            self.clips[name] = clip
            room -= len(clip)
        if left_out:
            self.clips_note = f"Left out to keep this page small: the video of {', '.join(left_out)}."

    def add_plots(self, given: Mapping[str, Figure] | None) -> None:
        """The plots that were given, or those of each recording."""
        self.plots = [_plots(item) if given is None else dict(given) for item in self.items]

    def written(self, limit: int) -> str:
        """The page, in at most `limit` bytes.

        Raises:
            CallError: it cannot be that small.
        """
        budget = max(explorers.LEAST, min(explorers.MOST, limit / 2e6 / len(self.items)))
        self.shown = [explorers.show(item, budget=budget) for item in self.items]
        carried = sum(shown.size for shown in self.shown)
        if (whole := self._text()) and _bytes(whole) > limit:
            notes = 300 * sum(len(explorers.kinds(item)) for item in self.items)
            explorers.fit(self.shown, limit - (_bytes(whole) - carried) - notes)
            whole = self._text()
        if (size := _bytes(whole)) > limit:
            raise CallError(
                f"the page would be {size / 1e6:.1f} MB, and {limit / 1e6:g} MB is the most. Give fewer recordings, "
                "or a smaller figure_png."
            )
        return whole

    def _text(self) -> str:
        widgets: list[Explorer] = [one for one in self.grids if one is not None]
        widgets += [explorer for shown in self.shown for explorer in shown.explorers.values()]
        return parts.page(self.title, self._several() if self.many else self._single(), widgets)

    def _single(self) -> list[str]:
        [item], [shown], [figures] = self.items, self.shown, self.plots
        facts = {"facts": ("The run" if item.recording is not None else "The sweep", parts.facts(item))}
        sections = facts | _explored(shown, "") | _measured(figures, "", 0)
        if self.figure_png:
            sections["figure"] = ("Figure", parts.figure(self.figure_png))
        links = parts.contents({id: heading for id, (heading, _) in sections.items()})
        written = [parts.section(id, heading, body) for id, (heading, body) in sections.items()]
        own = parts.own_sum(item)
        return [
            *self.top, *self._videos(), parts.lead(own), links, *written, parts.settings(item.settings), parts.plotly([*figures.values()])
        ]  # fmt: skip

    def _videos(self) -> list[str]:
        """What a reader came for, before any words."""
        if not (self.clips or self.clips_note):
            return []
        return [parts.section("videos", "The videos", parts.videos(self.clips, self.clips_note))]

    def _several(self) -> list[str]:
        ids = [f"recording-{i}" for i in range(len(self.items))]
        sections = [*self.top, *self._videos(), parts.lead()]
        rows = dict(zip(ids, self.items, strict=True))
        sections += [parts.section("overview", "The recordings", parts.overview(rows))]
        sections += [parts.tabs({id: item.title for id, item in rows.items()})]
        first = 0
        for id, panel, figures in zip(ids, self.shown, self.plots, strict=True):
            sections.append(parts.panel(id, panel.item.title, self._panel(f"{id}-", panel, figures, first)))
            first += len(figures)
        if self.figure_png:
            sections.append(parts.section("figure", "Figure", parts.figure(self.figure_png)))
        return [*sections, parts.plotly([figure for figures in self.plots for figure in figures.values()])]

    def _panel(self, prefix: str, shown: explorers.Shown, figures: Mapping[str, Figure], first: int) -> str:
        """One recording under its tab."""
        sections = _explored(shown, prefix) | _measured(figures, prefix, first)
        written = [parts.section(id, heading, body, level=3) for id, (heading, body) in sections.items()]
        links = parts.contents({id: heading for id, (heading, _) in sections.items()})
        own = parts.own_sum(shown.item)
        head = f"{parts.facts(shown.item)}{f'<p>{own}</p>' if own else ''}{links}"
        return head + "".join(written) + parts.settings(shown.item.settings)


def _grid(number: int, given: Any, explorer: Explorer | None) -> str:
    """Videos side by side."""
    if explorer is None:
        return str(given.html)
    return parts.section(f"videos-{number}", "The videos", parts.explorer(explorer, f"videos-{number}-explorer"))


def _explored(shown: explorers.Shown, prefix: str) -> dict[str, tuple[str, str]]:
    """The explorers of a recording with their notes: heading and body by id."""
    found = {}
    for kind in explorers.kinds(shown.item):
        explorer: Explorer | None = shown.explorers.get(kind)
        own = shown.notes.get(kind.name, "")
        if explorer is None and not own:
            continue
        words = f"<p>{kind.words}</p>\n" if explorer is not None else ""
        place = parts.explorer(explorer, f"{prefix}{kind.name}-explorer") if explorer is not None else ""
        found[f"{prefix}{kind.name}"] = (kind.heading, f"{words}{parts.paragraph(own)}{place}")
    return found


def _measured(figures: Mapping[str, Figure], prefix: str, first: int) -> dict[str, tuple[str, str]]:
    return {f"{prefix}plots": ("Measured", parts.plots(figures, first))} if figures else {}


def _clips(given: list[Item], baseline: Any, many: bool) -> dict[str, bytes]:
    """The final videos, CFG first; those that a recording cannot show are left out."""
    clips = {}
    beside = baseline if isinstance(baseline, Mapping) else {"the baseline" if many else "": baseline}
    asked = [(f"{title}, baseline" if beside is baseline else title, one) for title, one in beside.items()] + [
        (item.title if many else "", item.source) for item in given
    ]
    for title, who in asked:
        try:
            video = None if who is None else final_video(who)
        except RecordingError:
            video = None
        if video is not None:
            recording = who if hasattr(who, "ds") else who.recording
            clips[title or str(recording.settings.get("guidance_text") or "the pipeline alone")] = mp4(video)
    return clips


def _plots(item: Item) -> dict[str, Figure]:
    """The plots that every recording has."""
    if item.recording is None:
        return {}
    wanted = {
        "How long the guidance vectors are": lambda: lab_plots.norms(item.recording),
        "Relative to the conditional prediction": lambda: lab_plots.norms(item.recording, relative=True),
        "The angles between them": lambda: lab_plots.angles(item.recording),
    }
    found = {}
    for heading, make in wanted.items():
        try:
            found[heading] = make()
        except LabError:  # with a single vector there are no angles
            continue
    return found


def _bytes(text: str) -> int:
    return len(text.encode("utf-8"))
