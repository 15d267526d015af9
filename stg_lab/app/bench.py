"""What the app shows: a recording to choose, and under tabs its explorers, each made when its tab is first opened."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import ipywidgets

from stg_lab.app.desk import Desk, problem
from stg_lab.errors import CallError, LabError
from stg_lab.rating import gather
from stg_lab.recording import recordings
from stg_lab.report import parts
from stg_lab.report.explorers import MOST, kinds
from stg_lab.report.sources import Item, items, named
from stg_lab.widgets.blind_pairs import ShownRating

GIVEN = "STG_LAB_APP"  # environment variable with the paths that were given to the app, as JSON
FOLDER = "STG_LAB_APP_FOLDER"  # and with the folder that it was started in, where answers to blind pairs are kept
PAIRS = ""  # in place of a path: the recordings that were given, in blind pairs
NEW = "\0"  # in place of a path: the form to sample with


class Bench(ipywidgets.VBox):
    """Recordings to choose from, and the explorers of the chosen one; or blind pairs of `rated`, where these are several.

    Attributes:
        chooser: the recordings; its value is a path or a name.
        tabs: the explorers of the chosen one; a tab is filled when it is first opened.
    """

    def __init__(self, places: list[str], rated: list[str] | None = None) -> None:
        self._rated = rated or []
        options = [(named(place), place) for place in places]
        if len(self._rated) > 1:
            options.append((f"Blind pairs of the first {len(self._rated)}", PAIRS))
        options.append(("New videos: sample", NEW))
        self.chooser = ipywidgets.Dropdown(options=options, description="Recording")
        self._desk: Desk | None = None
        self.tabs = ipywidgets.Tab()
        self.says = ipywidgets.HTML()
        self._make: list[Callable[[], ipywidgets.Widget] | None] = []
        super().__init__([self.chooser, self.says, self.tabs])
        self.add_class("stg-bench")
        self.chooser.observe(lambda _: self._open(), "value")
        self.tabs.observe(lambda _: self._fill(), "selected_index")
        self._open()

    def _open(self) -> None:
        """Show the chosen recording: its first explorer, and empty tabs for the others."""
        self.says.value = ""
        if self.chooser.value == NEW:
            self._open_tabs({"Sample": self.desk})
            return
        if self.chooser.value == PAIRS:
            self._open_tabs({"Blind pairs": partial(_pairs, self._rated)})
            return
        try:
            [item] = items(self.chooser.value)
        except LabError as error:
            self._make, self.tabs.children, self.says.value = [], (), problem(error)
            return
        explorers = {kind.short: partial(kind.make, item, len(item.captions), MOST) for kind in kinds(item)}
        self._open_tabs({**explorers, "Settings": partial(_settings, item)})

    def desk(self) -> Desk:
        """The form to sample with; what it has made stays while the app is open."""
        if self._desk is None:
            self._desk = Desk(self._join, Path(os.environ.get(FOLDER, ".")))
        return self._desk

    def _join(self, place: Path) -> None:
        """Take a recording that was kept into the list."""
        self.chooser.options = [*self.chooser.options[:-1], (named(place), str(place)), self.chooser.options[-1]]
        self.chooser.value = NEW

    def _open_tabs(self, makers: Mapping[str, Callable[[], ipywidgets.Widget]]) -> None:
        self._make = []  # the tabs below are new: nothing of the last recording may fill them
        self.tabs.children = [ipywidgets.VBox([_waits()]) for _ in makers]
        self.tabs.titles = list(makers)
        self._make = list(makers.values())
        if self.tabs.selected_index:
            self.tabs.selected_index = 0  # fills it
        else:
            self._fill()

    def _fill(self) -> None:
        """Make what the open tab shows, unless it is there."""
        place = self.tabs.selected_index
        if place is None or place >= len(self._make):
            return
        make, self._make[place] = self._make[place], None
        if make is None:
            return
        try:
            self.tabs.children[place].children = [make()]
        except LabError as error:
            self.tabs.children[place].children = [ipywidgets.HTML(problem(error))]


def show() -> Bench:
    """The app's own notebook calls this: the recordings that were given to the app, then those that ship."""
    given: list[str] = json.loads(os.environ.get(GIVEN, "[]"))
    return Bench([*given, *(name for name in recordings() if name not in given)], given)


def _pairs(places: list[str]) -> ipywidgets.Widget:
    """Blind pairs of recordings. Each set of videos has a file of answers of its own, so that the app goes on where it stopped."""
    sources = {item.title: item.source for item in items(places) if item.recording is not None}
    if len(sources) < 2:
        raise CallError("blind pairs need two recordings or more; sweeps over layers have no videos to rate.")
    clips = gather(sources)
    which = hashlib.sha256("".join(sorted(one.name + one.fingerprint for one in clips)).encode()).hexdigest()[:8]
    return ShownRating(clips, out=Path(os.environ.get(FOLDER, ".")) / "out" / f"ratings-{which}.jsonl").widget


def _settings(item: Item) -> Any:
    return ipywidgets.HTML(f"<div class='stg-facts'>{parts.facts(item)}{parts.settings(item.settings)}</div>")


def _waits() -> Any:
    return ipywidgets.HTML("<p class='stg-waits'>Reading the recording …</p>")
