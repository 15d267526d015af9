"""The live run: sampling in the background, with what every branch predicts shown at each step."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets
from PIL import Image

from stg_lab.errors import CallError, RecordingError
from stg_lab.families import family_of
from stg_lab.given import takes
from stg_lab.guidance import COND, GUIDED, UNCOND, Guidance, Term
from stg_lab.interop import as_guidance
from stg_lab.palette import colour
from stg_lab.recording import IncompleteRecordingWarning, Recorder, Recording, open_recording
from stg_lab.sampling import sample
from stg_lab.sampling.calls import captions, pipeline_arguments
from stg_lab.sampling.checks import check_weak
from stg_lab.sampling.temporary import TemporaryFolder
from stg_lab.sampling.values import check_names
from stg_lab.sheets import to_bytes
from stg_lab.weak import described
from stg_lab.widgets.base import Sampled, module, style
from stg_lab.widgets.in_background import Job, Stopped, Working, no_progress_bar
from stg_lab.widgets.previews import StepPictures
from stg_lab.widgets.sprites import strip
from stg_lab.widgets.still import Still, Strip, whole

if TYPE_CHECKING:
    from stg_lab.sampling import Run, Seen

PIXELS = 400_000  # of one branch's pictures at one step; they are sent at every step
THUMB = 64  # pixels of the longer side of a picture in the trail


class LiveRun(Sampled, Working):
    """A run that goes on in the background. Make it with `live_run`.

    Attributes:
        sample: the sample that is shown, from 0.
        told: the step that is shown: its number, noise level, rows and picture sizes, as plain values.
        run: the finished `Run`; None while it works, and where it was stopped.
        view, pictures: what is shown.
    """

    _esm, _css = module("working", "live_run"), style("working", "live_run")
    STATE = ("sample",)

    told = traitlets.Dict().tag(sync=True)

    def __init__(
        self, pipe: Any, guidance: Any, folder: TemporaryFolder | None, place: Path, call: dict[str, Any], view: Any
    ) -> None:
        self.run: Run | None = None
        self._pipe, self._guidance, self._folder, self._place, self._call = pipe, guidance, folder, place, call
        self._trail: list[np.ndarray] = []  # a small picture of guided for each step so far, for every sample
        super().__init__(view)

    @property
    def recording(self) -> Recording:
        """What is recorded: the whole run, or the whole steps of one that was stopped or is still at work.

        Raises:
            RecordingError: no step is done yet.
        """
        if self.run is not None:
            return self.run.recording
        if not self.told or not self._place.exists():  # what lies there before may be replaced
            raise RecordingError("no step of this run is done yet. widget.wait() waits for the whole run.")
        return opened(self._place, self._folder)

    def begin(self) -> None:
        """Start sampling; `live_run` does so by itself."""
        self.start(self._sample, "the first step is on its way")

    def still(self) -> Still | None:
        """The latest step; None before the first one is done."""
        rows = [row for row in self.told.get("rows", []) if f"{row['name']}/{self.sample}" in self.pictures]
        strips = [
            Strip(row["label"], row["colour"], whole(self.pictures[f"{row['name']}/{self.sample}"])) for row in rows
        ]
        return Still(f"A run at step {self.told['step']}, {self.caption}", strips) if strips else None

    # ---- in the thread ----

    def _sample(self, job: Job) -> None:
        show = StepPictures(self._pipe)

        def look(seen: Seen) -> None:
            self._tell(job, seen, show)
            if job.stopping and seen.step + 1 < seen.steps:
                raise Stopped

        try:
            with no_progress_bar(self._pipe):
                self.run = sample(self._pipe, guidance=self._guidance, record=self._place, on_step=look, **self._call)
        except Stopped:
            job.tell(status=f"stopped after {self.told['step'] + 1} of {self.told['steps']} steps, which are kept")
            raise
        self.run._recording = open_recording(
            self._place, keep=self._folder
        )  # its temporary folder must live as long as it does
        self._finish(job)

    def _tell(self, job: Job, seen: Seen, show: StepPictures) -> None:
        """Put one step before the reader."""
        names = _ordered(seen.predictions)
        videos = {name: show(seen.x0(name)) for name in [GUIDED, *names[:-1]]}  # guided first: a map is fitted on it
        shown = {name: video for name in names if (video := videos[name]) is not None}
        pictures, size = _strips(shown)
        if GUIDED in shown:
            self._trail.append(_thumbs(shown[GUIDED]))
            pictures |= {
                f"trail/{i}": _png(np.concatenate(list(row), 1)) for i, row in enumerate(np.stack(self._trail, 1))
            }
        weak = [name for name in names if name not in (COND, UNCOND, GUIDED)]
        told = {
            "step": seen.step, "steps": seen.steps, "restart": seen.restart, "sigma": _finite(seen.level.noise),
            "rows": [_row(name, weak, self.view["weak"]) for name in names], "note": show.note, "trail": len(self._trail), **size,
        }  # fmt: skip
        done = (seen.step + 1) / seen.steps
        job.tell(f"step {seen.step + 1} of {seen.steps}", done, pictures=pictures, told=told)

    def _finish(self, job: Job) -> None:
        assert self.run is not None
        if self.run.call.get("output_type") == "latent":
            job.tell(status="done")
            return
        pictures, size = _strips({"final": np.asarray(self.run.video)})
        row = {
            "name": "final",
            "label": "final",
            "note": "the finished video",
            "colour": colour(GUIDED, []),
            "size": size,
        }
        told = {**self.told, "rows": [*self.told["rows"], row]}
        job.tell(status="done", pictures={**self.pictures, **pictures}, told=told)


@takes()
def live_run(
    pipe: Any,
    *,
    guidance: Guidance | Term | Any | None = None,
    seed: int | None = None,
    record: bool | str | Path = True,
    **call: Any,
) -> LiveRun:
    """Sample in the background, and show at each step what every branch predicts; the notebook stays usable.

    Everything is checked before the work begins. Stop keeps the whole steps, and afterwards `widget.run` (None where it was
    stopped) and `widget.recording` hold what was made.

    Args:
        pipe: a stock pipeline. Until the run is done nothing else can sample with it.
        guidance, seed: as for `lab.sample`.
        record: True for a temporary folder, or a path to keep the recording.
        **call: everything else as for `lab.sample`.

    Returns:
        A widget that is at work already; `widget.wait()` waits for it.

    Raises:
        CallError, GuidanceError, RecordingError, UnsupportedPipelineError: as `lab.sample` would, before any compute is spent.

    >>> live = live_run(pipe, guidance=CFG(4) + STG(1, skip([5])), prompt="a red seven moving left")  # doctest: +SKIP
    """
    if record is False or record is None:
        raise CallError(
            "a live run is always recorded, so that Stop can keep it. Type record=True or record='run.zarr'."
        )
    if {"on_step", "passes"} & call.keys():
        raise CallError("a live run looks on itself. Use lab.sample(..., on_step=...) for a look of your own.")
    family = family_of(pipe)
    sampled = {name: value for name, value in call.items() if name not in ("record_dtype", "overwrite")}
    check_names(pipe, sampled, live_run)
    wanted = None if guidance is None else as_guidance(guidance, pipe, call)
    arguments = pipeline_arguments(pipe, family, wanted, seed, sampled)
    if wanted is not None:
        check_weak(wanted, family, family.denoisers(pipe))
    if record is not True:
        Recorder(
            record, dtype=call.get("record_dtype", "float32"), overwrite=call.get("overwrite", False)
        )  # it may refuse
    weak = {} if wanted is None else {name: str(model) for name, model in wanted.weak.items()}
    seeds = [None if call.get("generator") is not None else (seed or 0) + i for i in range(family.samples(arguments))]
    view = {
        "guidance": str(wanted or "the pipeline's own"),
        "samples": [{"caption": c, "seed": s} for c, s in zip(captions(family, arguments), seeds, strict=True)],
        "weak": {name: described(model) for name, model in weak.items()},
    }
    folder = TemporaryFolder() if record is True else None
    place = Path(record).absolute() if folder is None else Path(folder.path) / "run.zarr"  # type: ignore[arg-type]
    widget = LiveRun(pipe, guidance, folder, place, {"seed": seed, **call}, view)
    widget.begin()
    return widget


def opened(place: Path, folder: TemporaryFolder | None) -> Recording:
    """A recording that may have been cut off on purpose, with the folder that it lies in. Not for the thread at work: warnings
    are filtered for all threads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", IncompleteRecordingWarning)
        return open_recording(place, keep=folder)


def _ordered(names: Mapping[str, Any]) -> list[str]:
    rank = {COND: 0, UNCOND: 1, GUIDED: 3}
    return sorted(names, key=lambda name: rank.get(name, 2))


def _row(name: str, weak: list[str], words: Mapping[str, str]) -> dict[str, Any]:
    notes = {COND: "conditional", UNCOND: "unconditional", GUIDED: "what the sampler steps with"}
    note = notes.get(name) or f"weak model: {words.get(name, name)}"
    return {"name": name, "label": name, "note": note, "colour": colour(name, weak)}


def _strips(videos: Mapping[str, np.ndarray]) -> tuple[dict[str, bytes], dict[str, int]]:
    """A strip for each branch and sample, and how large their pictures are."""
    made = {f"{name}/{i}": strip(clip, PIXELS) for name, video in videos.items() for i, clip in enumerate(video)}
    sizes = [size for _, size in made.values()]
    return {key: png for key, (png, _) in made.items()}, sizes[0] if sizes else {}


def _thumbs(video: np.ndarray) -> np.ndarray:
    """The middle picture of every sample, uint8 `(sample, height, width, 3)`."""
    middle = to_bytes(video[:, video.shape[1] // 2])
    by = max(1, round(max(middle.shape[1:3]) / THUMB))
    return middle[:, ::by, ::by]


def _png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def _finite(value: float) -> float | None:
    """JSON has no NaN."""
    return float(value) if np.isfinite(value) else None
