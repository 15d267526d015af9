"""Sampling in the app: a form, a queue, and what was made, all videos under one clock."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets
import numpy as np

from stg_lab.errors import CallError, LabError
from stg_lab.guidance import CFG, STG, Guidance
from stg_lab.loading import embedded, load
from stg_lab.recording import pack
from stg_lab.sampling import Run
from stg_lab.sheets import to_bytes
from stg_lab.videogrid import Setting, State, VideoGrid
from stg_lab.weak.layers import parse_layers
from stg_lab.weak.skip import PARTS, Skip
from stg_lab.widgets.fork_explorer import ForkExplorer, fork_explorer
from stg_lab.widgets.grid_explorer import GridExplorer
from stg_lab.widgets.guidance_explorer import guidance_explorer
from stg_lab.widgets.live_run import LiveRun, live_run
from stg_lab.widgets.x0_explorer import x0_explorer

MODELS = ("digits-joint", "digits-factorised")  # those that take a caption, first in the list
LONGEST = 20  # runs that wait


@dataclass(frozen=True)
class Wish:
    """One run that somebody asked for.

    Attributes:
        model, prompt, seed, steps: of the call.
        guidance: the whole sum.
    """

    model: str
    prompt: str
    seed: int
    steps: int
    guidance: Guidance

    def __str__(self) -> str:
        return f"{self.prompt}, seed {self.seed}: {self.guidance}"


class Desk(ipywidgets.VBox):
    """A form to sample with, the runs that wait, the one that is at work, and all that were made.

    Attributes:
        runs: what was made, in order, with the wish of each.
        waiting: wishes that are not at work yet.
        live: the run that is at work, or was last.
    """

    def __init__(self, kept: Callable[[Path], None] = lambda place: None, folder: Path | None = None) -> None:
        self.runs: list[tuple[Wish, Run]] = []
        self.waiting: list[Wish] = []
        self.live: LiveRun | None = None
        self._kept, self._folder, self._pipes = kept, folder or Path("."), dict[str, Any]()
        self._working: Wish | None = None
        self._build_form()
        self.says, self.queue = ipywidgets.HTML(), ipywidgets.HTML()
        self.stage, self.made, self.opened = (ipywidgets.VBox() for _ in range(3))
        self.which = ipywidgets.Dropdown(description="Run", layout={"width": "min(640px, 100%)", "height": "36px"})
        acts = {"Look closer": self.look, "Fork": self.fork, "Keep": self.keep}
        self.acts = _row(self.which, *(_button(name, act) for name, act in acts.items()))
        self.acts.layout.display = "none"
        parts = [self.form, self.says, self.queue, self.stage, self.made, self.acts, self.opened]
        super().__init__(parts, layout={"grid_gap": "10px", "overflow": "visible"})

    def _build_form(self) -> None:
        names = [
            *(m for m in MODELS if m in embedded()),
            *(m for m in embedded() if m not in MODELS and "i2v" not in m),
        ]
        wide = {"layout": {"width": "320px", "height": "36px"}, "style": {"description_width": "84px"}}
        small = {"layout": {"width": "180px", "height": "36px"}, "style": {"description_width": "84px"}}
        self.model = ipywidgets.Dropdown(options=names, description="Model", **wide)
        self.prompt = ipywidgets.Text("a red nine standing still", description="Prompt", **wide)
        self.seed = ipywidgets.BoundedIntText(value=97, min=0, max=2**31, description="Seed", **small)
        self.steps = ipywidgets.BoundedIntText(value=16, min=1, max=1000, description="Steps", **small)
        self.layers = ipywidgets.Text("4,5", description="Layers", placeholder="such as 4 or 3-5", **wide)
        self.part = ipywidgets.Dropdown(options=list(PARTS), description="Part", **wide)
        self.scale = ipywidgets.BoundedFloatText(
            value=1.0, min=-100, max=100, step=0.25, description="STG scale", **small
        )
        self.cfg = ipywidgets.BoundedFloatText(value=1.0, min=0, max=100, step=0.5, description="CFG scale", **small)
        self.ask = _button("Sample", self.sample, "primary")
        self.stop = _button("Cancel", self.cancel)
        self.form = ipywidgets.VBox(
            [
                _row(self.model, self.prompt, self.seed, self.steps),
                _row(self.part, self.layers, self.scale, self.cfg),  # one column under the other
                _row(self.ask, self.stop),
            ]
        )

    # ---- asking ----

    @property
    def wish(self) -> Wish:
        """What the form says now.

        Raises:
            LabError: layers or a part that the guidance cannot have.
        """
        guidance = Guidance((CFG(self.cfg.value),))
        if self.scale.value and self.layers.value.strip():
            weak = Skip(layers=parse_layers(self.layers.value), part=self.part.value)
            guidance = guidance + STG(self.scale.value, weak)
        return Wish(self.model.value, self.prompt.value.strip(), self.seed.value, self.steps.value, guidance)

    def sample(self) -> None:
        """Put what the form says at the end of the queue; it begins at once where nothing is at work."""
        if len(self.waiting) >= LONGEST:
            raise CallError(f"{LONGEST} runs wait already. Cancel some first.")
        self.waiting.append(self.wish)
        self._next()

    def cancel(self) -> None:
        """Take back the latest run that waits; where none does, stop the one that is at work."""
        if self.waiting:
            self.waiting.pop()
        elif self.live is not None and self.live.running:
            self.live.stop = True
        self._tell()

    def wait(self) -> None:
        """Wait until all is done."""
        while self.live is not None and (self.waiting or self.live.running):
            self.live.wait()

    # ---- working ----

    def _next(self) -> None:
        if self.waiting and not (self.live is not None and self.live.running):
            wish = self.waiting.pop(0)
            if wish.model not in self._pipes:
                self._pipes[wish.model] = load(wish.model)
            call: dict[str, Any] = {"prompt": wish.prompt, "num_inference_steps": wish.steps}
            self._working = wish
            self.live = live_run(self._pipes[wish.model], guidance=wish.guidance, seed=wish.seed, **call)
            self.stage.children = [self.live]
            self.live.observe(self._ended, "running")
            if not self.live.running:  # it may be quicker than the observer
                self._ended({"new": False})
        self._tell()

    def _ended(self, change: Any) -> None:
        """In the thread that worked: keep what was made, and go on."""
        wish, self._working = self._working, None
        if change["new"] or wish is None:
            return
        if self.live is not None and self.live.run is not None:
            self.runs.append((wish, self.live.run))
            self._show()
        try:
            self._next()
        except LabError as error:
            self.says.value = problem(error)

    # ---- showing ----

    def _tell(self) -> None:
        lines = [f"<li>{escape(str(wish))}</li>" for wish in self.waiting]
        self.queue.value = f"<p>{len(lines)} waiting</p><ol>{''.join(lines)}</ol>" if lines else ""

    def _show(self) -> None:
        options = [(f"{i + 1}: {wish}", i) for i, (wish, _) in enumerate(self.runs)]
        self.which.options, self.which.value = options, len(options) - 1
        self.acts.layout.display = ""
        self.made.children = [GridExplorer(grid_of(self.runs))]

    def _chosen(self) -> tuple[Wish, Run]:
        if self.which.value is None:
            raise CallError("nothing was sampled yet. Press Sample first.")
        return self.runs[self.which.value]

    def look(self) -> None:
        """Show the chosen run's predictions and vectors."""
        _, run = self._chosen()
        tabs = ipywidgets.Tab([x0_explorer(run), guidance_explorer(run)], titles=["Predictions", "Guidance"])
        self.opened.children = [tabs]

    def fork(self) -> ForkExplorer:
        """Show the chosen run, to sample on from any of its steps."""
        _, run = self._chosen()
        explorer = fork_explorer(run)
        self.opened.children = [explorer]
        return explorer

    def keep(self) -> Path:
        """Keep the chosen run's recording as one file, beside where the app was started; it joins the list of recordings."""
        wish, run = self._chosen()
        folder = self._folder / "out" / "kept"
        folder.mkdir(parents=True, exist_ok=True)
        stem = "-".join(wish.prompt.lower().split())[:60].replace(os.sep, "-") or "run"
        place = next(p for p in _names(folder, f"{stem}-seed-{wish.seed}") if not p.exists())
        pack(run.recording.path, place)
        self._kept(place)
        self.says.value = f"<p role='status'>kept as {escape(str(place))}</p>"
        return place


def grid_of(runs: list[tuple[Wish, Run]]) -> VideoGrid:
    """Runs by guidance and by caption and seed; those without STG are baselines. Only runs of the latest one's size are shown, and of two
    alike the later."""
    size = runs[-1][1].video.shape[1:]
    alike = [(wish, run) for wish, run in runs if run.video.shape[1:] == size]
    rows = list(dict.fromkeys((wish.model, str(wish.guidance)) for wish, _ in alike))
    columns = list(dict.fromkeys((wish.prompt, wish.seed) for wish, _ in alike))
    video = np.zeros((len(rows), len(columns), *size), np.uint8)
    there = np.zeros((len(rows), len(columns)), bool)
    for wish, run in alike:
        at = rows.index((wish.model, str(wish.guidance))), columns.index((wish.prompt, wish.seed))
        video[at], there[at] = to_bytes(run.video[0]), True
    several = len({model for model, _ in rows}) > 1
    settings = tuple(Setting(f"{m}: {g}" if several else g, None, g, "STG" not in g) for m, g in rows)
    return VideoGrid(settings, tuple(State(*one) for one in columns), video, there, title="What was sampled")


def problem(error: LabError) -> str:
    """An error as the app shows it."""
    return f"<p class='stg-problem' role='alert'>{escape(str(error))}</p>"


def _row(*parts: Any) -> ipywidgets.HBox:
    return ipywidgets.HBox(list(parts), layout={"flex_flow": "row wrap", "align_items": "center"})


def _names(folder: Path, stem: str) -> Iterator[Path]:
    yield folder / f"{stem}.zarr.zip"
    number = 1
    while True:
        number += 1
        yield folder / f"{stem}-{number}.zarr.zip"


def _button(name: str, act: Callable[[], Any], style: str = "") -> ipywidgets.Button:
    """A button whose errors are told at the desk: ipywidgets swallows what a click raises."""
    button = ipywidgets.Button(description=name, button_style=style)

    def clicked(_: Any) -> None:
        desk = act.__self__  # type: ignore[attr-defined]
        desk.says.value = ""
        try:
            act()
        except LabError as error:
            desk.says.value = problem(error)

    button.on_click(clicked)
    return button
