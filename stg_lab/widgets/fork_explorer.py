"""The fork explorer: sample on from a recorded step under another guidance, and see what that changes."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from stg_lab.errors import CallError, GuidanceError
from stg_lab.families import family_of
from stg_lab.given import takes
from stg_lab.guidance import CFG, GUIDED, STG, Guidance
from stg_lab.loading import load
from stg_lab.palette import colour
from stg_lab.recording import Name, Recording, as_source, open_recording, recording_of
from stg_lab.sampling.fork import can_fork, sampled_on
from stg_lab.sampling.temporary import TemporaryFolder
from stg_lab.weak import parse
from stg_lab.weak.layers import format_layers, parse_layers
from stg_lab.weak.skip import PARTS, Skip
from stg_lab.widgets.base import Stepped, check_among, module, shows_problems, style
from stg_lab.widgets.in_background import Job, Stopped, Working, no_progress_bar
from stg_lab.widgets.live_run import opened
from stg_lab.widgets.sprites import final_video, make_sprites, strip
from stg_lab.widgets.still import Still, Strip, cut, whole

if TYPE_CHECKING:
    from stg_lab.sampling import Run, Seen

PIXELS = 1_500_000  # of one final video
AXES = ("joint", "spatial", "temporal")
MOST = 100.0  # no scale beyond is of use to anybody


class ForkExplorer(Stepped, Working):
    """A recorded run, and runs that leave it at one of its steps. Make it with `fork_explorer`.

    Attributes:
        step: where the next fork leaves the recorded run, from 0.
        sample: the sample that is shown, from 0.
        layers: of the weak model, such as "5" or "3-5,8".
        part, axis: what is skipped in them, see `lab.skip`.
        stg, cfg: the scales; an STG scale of 0 leaves the weak model out.
        asked: counts how often the browser asked to sample on.
        shown: number of the fork that is shown, from 0; -1 for the recorded run alone.
        playing: whether the videos move.
        frame: where they are held while they do not.
        gain: what the difference is multiplied by.
        made: what is said of each fork, as plain values.
        size: of the pictures of a fork that is on its way.
        forks: every `Run` that was made, in order.
    """

    _esm, _css = module("working", "fork_explorer"), style("working", "fork_explorer")
    STATE = ("step", "sample", "layers", "part", "axis", "stg", "cfg", "shown", "playing", "frame", "gain", "made")

    layers = traitlets.Unicode("").tag(sync=True)
    part = traitlets.Unicode("block").tag(sync=True)
    axis = traitlets.Unicode("joint").tag(sync=True)
    stg = traitlets.Float(1.0).tag(sync=True)
    cfg = traitlets.Float(1.0).tag(sync=True)
    asked = traitlets.Int(0).tag(sync=True)
    shown = traitlets.Int(-1).tag(sync=True)
    playing = traitlets.Bool(True).tag(sync=True)
    frame = traitlets.Int(0).tag(sync=True)
    gain = traitlets.Float(1.0).tag(sync=True)
    made: Any = traitlets.List().tag(sync=True)
    size = traitlets.Dict().tag(sync=True)

    def __init__(self, source: Run | Recording, pipe: Any, fps: float, **state: Any) -> None:
        self.recording: Recording = recording_of(source)
        self.forks: list[Run] = []
        self._places: list[tuple[Path, TemporaryFolder]] = []  # of the recordings of all forks
        self._latest: np.ndarray | None = None  # pictures of the latest step of a fork that is on its way
        self._source, self._pipe = source, pipe
        self._decoded = not isinstance(
            source, Recording
        )  # whether finals are shown as decoded, or all through the preview
        sprites = make_sprites(self.recording, branches=[GUIDED], cfg=False, fps=fps)
        video = final_video(source)
        sheets, final = ({}, {}) if video is None else _strips("original", video)
        view = {
            **sprites.view, "final": final, "parts": list(PARTS), "axes": list(AXES), "colour": colour(GUIDED, []),
            "fork_colour": colour("fork", ["fork"]), "steps_planned": self.recording.planned,
        }  # fmt: skip
        super().__init__(view, {**sprites.sheets, **sheets}, **{**_own(self.recording), **state})

    @property
    def recordings(self) -> list[Recording]:
        """Of every fork, in order, those that were cancelled among them."""
        return [opened(place, folder) for place, folder in self._places]

    @property
    def guidance(self) -> Guidance:
        """The sum that the next fork samples under.

        Raises:
            GuidanceError: the layers are no list of layers.
        """
        total = Guidance((CFG(self.cfg),))
        return total + STG(self.stg, self._weak()) if self.stg else total

    @shows_problems
    def sample_on(self) -> None:
        """Begin a fork in the background with what is chosen now; `wait()` waits for it."""
        self.start(
            partial(self._fork, self.step, self.guidance), "loading the model" if self._pipe is None else "starting"
        )

    def still(self) -> Still:
        """What the sampler used at the step that is shown, and the final videos of the run and of the fork that is shown."""
        guided = cut(self.sheets[f"{GUIDED}/{self.sample}"], self.view["height"], self.step)
        strips = [Strip(f"x0 at step {self.step}", self.view["colour"], guided)]
        for name, label, ink in (("original", "original", "colour"), (f"fork{self.shown}", "fork", "fork_colour")):
            if (png := self.sheets.get(f"{name}/{self.sample}")) is not None:
                strips.append(Strip(label, self.view[ink], whole(png)))
        return Still(f"Sample on from step {self.step} of 0-{len(self.view['steps']) - 1}, {self.caption}", strips)

    # ---- in the thread ----

    def _fork(self, step: int, guidance: Guidance, job: Job) -> None:
        if self._pipe is None:
            self._pipe = load(self.recording.settings["model"])
        job.check()
        folder = TemporaryFolder()
        place = Path(folder.path) / "run.zarr"
        before, number, said = self.shown, len(self.made), {"step": step, "guidance": str(guidance)}
        reached: list[int] = []
        self._latest = None

        def look(seen: Seen) -> None:
            reached.append(seen.step)
            self._tell(job, seen, step)
            if job.stopping and seen.step + 1 < seen.steps:
                raise Stopped

        try:
            job.tell(f"going to step {step}", 0.0, shown=number, pictures={})
            with no_progress_bar(self._pipe):
                run = sampled_on(self._source, step, guidance, pipe=self._pipe, record=place, on_step=look)
        except Stopped:
            if reached and self._latest is not None:
                self._places.append((place, folder))
                self._add(job, said | {"until": reached[-1], "note": ""}, self._latest)
                job.tell(status=f"cancelled at step {reached[-1]}; what is done is kept")
            else:
                job.tell(status="cancelled before its first step", shown=before)
            raise
        except BaseException:
            job.tell(shown=before)
            raise
        run._recording = open_recording(place, keep=folder)  # its temporary folder must live as long as it does
        self.forks.append(run)
        self._places.append((place, folder))
        exact = run.recording.settings["fork_exact"]
        note = "" if exact else "from a float16 recording: near its run, not exactly from it"
        self._add(job, said | {"until": None, "note": note}, self._final(run))
        job.tell(status="done")

    def _tell(self, job: Job, seen: Seen, first: int) -> None:
        """Put what the fork predicts now before the reader."""
        done = (seen.step + 1 - first) / (seen.steps - first)
        x0 = seen.x0(GUIDED)
        if not np.isfinite(x0).all():  # at the first noise level of some schedulers nothing is known of it
            job.tell(f"step {seen.step} of 0–{seen.steps - 1}", done)
            return
        self._latest = self.recording.preview(x0)
        pictures, size = _strips("now", self._latest)
        job.tell(f"step {seen.step} of 0–{seen.steps - 1}", done, pictures=pictures, size=size)

    def _add(self, job: Job, said: dict[str, Any], video: np.ndarray) -> None:
        number = len(self.made)
        sheets, size = _strips(f"fork{number}", video)
        job.tell(made=[*self.made, {**said, "size": size}], sheets={**self.sheets, **sheets}, shown=number, pictures={})

    def _final(self, run: Run) -> np.ndarray:
        return np.asarray(run.video) if self._decoded else self.recording.preview(run.recording.ds.final.values)

    # ---- what the traits may be ----

    def _weak(self) -> Skip:
        return Skip(parse_layers(self.layers), part=self.part, axis=self.axis)

    @traitlets.observe("asked")
    def _asked(self, change: Any) -> None:
        self.sample_on()

    @traitlets.validate("part", "axis")
    def _check_choice(self, proposal: Any) -> str:
        name = proposal["trait"].name
        return check_among(name, proposal["value"], PARTS if name == "part" else AXES)

    @traitlets.validate("stg", "cfg", "gain")
    def _check_scale(self, proposal: Any) -> float:
        if not abs(proposal["value"]) <= MOST:
            raise CallError(f"{proposal['trait'].name} is a number up to {MOST:g}, got {proposal['value']}.")
        return proposal["value"]

    @traitlets.validate("frame")
    def _check_frame(self, proposal: Any) -> int:
        if proposal["value"] < 0:  # how many there are is known where they are decoded
            raise CallError(f"frame is a whole number from 0, got {proposal['value']}.")
        return proposal["value"]

    @traitlets.validate("shown")
    def _check_shown(self, proposal: Any) -> int:
        if not -1 <= proposal["value"] <= len(self.made):  # the one beyond the last is on its way
            raise CallError(f"there is no fork {proposal['value']}; there are {len(self.made)}, and -1 is none.")
        return proposal["value"]


@takes()
def fork_explorer(source: Run | Recording | Name, pipe: Any = None, *, sample: int = 0, fps: float = 8) -> ForkExplorer:
    """Pick a recorded step, choose another guidance, and sample on from exactly there.

    Forks are made in the background, with what they predict shown at every step; the original and the fork play side by side with
    their difference. Every fork is kept in `widget.forks`; what Cancel leaves is kept in `widget.recordings`.

    Args:
        source: a recorded run, a recording, or the path or name of one.
        pipe: the pipeline; None for the run's own, or the one that the recording names, loaded when first needed.
        sample: which sample to show first.
        fps: frames a second of the videos.

    Returns:
        A widget; its state (`step`, `layers`, `part`, `axis`, `stg`, `cfg`, `shown`, ...) can be set from Python, and
        `widget.sample_on()` is its button.

    Raises:
        CallError: `source` is none of these, or it cannot be forked: see `lab.fork`.
        RecordingError: not recorded, no such sample, or its latents cannot be shown without a model.

    >>> explorer = fork_explorer(lab.open("repair_both"))  # doctest: +SKIP
    """
    if not 0 < fps <= 120:
        raise CallError(f"fps is the number of frames a second, above 0 and at most 120, got {fps}.")
    given: Run | Recording = as_source(source)
    if pipe is not None:
        family_of(pipe)  # or say that it is none
    can_fork(given)
    return ForkExplorer(given, pipe if pipe is not None else getattr(given, "pipe", None), fps, sample=sample)


def _own(recording: Recording) -> dict[str, Any]:
    """The state that the recorded run itself was sampled under, as far as it is one CFG and one skip."""
    state: dict[str, Any] = {"step": recording.steps // 2, "cfg": 1.0, "layers": "0"}
    settings = recording.settings
    state["cfg"] = float(settings.get("guidance_scale") or 1.0)
    try:
        total = Guidance.from_dict(settings["guidance"], parse)
    except (KeyError, GuidanceError):
        return state
    for term in total.terms:
        if isinstance(term, STG) and isinstance(term.weak, Skip):
            scale = term.scale if isinstance(term.scale, int | float) else 1.0
            weak = term.weak
            return state | {
                "layers": format_layers(weak.layers), "part": weak.part, "axis": weak.axis, "stg": float(scale or 1.0)
            }  # fmt: skip
    return state


def _strips(name: str, video: np.ndarray) -> tuple[dict[str, bytes], dict[str, int]]:
    """A strip for each sample, and how large their pictures are."""
    made = [strip(clip, PIXELS) for clip in video]
    return {f"{name}/{i}": png for i, (png, _) in enumerate(made)}, made[0][1]
