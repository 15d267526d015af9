"""The x0 explorer: what each branch predicts at each step, side by side, under one slider."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import traitlets

from stg_lab.errors import CallError
from stg_lab.families import family_of
from stg_lab.given import Flag, Several, Text, Whole, takes
from stg_lab.recording import BESIDE, Name, as_source, recording_of
from stg_lab.sampling import decode
from stg_lab.widgets.base import Stepped, check_among, module, shows_problems, style
from stg_lab.widgets.in_background import Job, Working
from stg_lab.widgets.sprites import Sprites, make_sprites, step_latents, strip
from stg_lab.widgets.still import Still, Strip, cut

if TYPE_CHECKING:
    from stg_lab.recording import Recording
    from stg_lab.sampling import Run

DECODED = 3_000_000  # pixels of one branch's pictures at one decoded step


class X0Explorer(Stepped, Working):
    """One-step predictions of every branch, with all pictures on board. Make it with `x0_explorer`.

    Attributes:
        step: the step that is shown, from 0.
        sample: the sample that is shown, from 0.
        mode: "frames", a film strip a branch, or "video".
        playing: whether the videos move.
        difference: whether rows show their signed difference from `cond` around grey instead of themselves.
        gain: what the difference is multiplied by.
        size: width of a picture in CSS pixels; 0 lets pictures fill the cell.
        view, sheets: what is shown, see `Sprites`; fixed.
        asked: counts how often the browser asked to decode a step.
        decoded: sizes of what the model has decoded itself, by "sample@step"; its pictures are in `pictures`.
    """

    _esm, _css = module("working", "x0_explorer"), style("working", "x0_explorer")
    STATE = ("step", "sample", "mode", "playing", "difference", "gain", "size")

    mode = traitlets.Unicode("frames").tag(sync=True)
    playing = traitlets.Bool(False).tag(sync=True)
    difference = traitlets.Bool(False).tag(sync=True)
    gain = traitlets.Float(1.0).tag(sync=True)
    size = traitlets.Int(0).tag(sync=True)
    asked = traitlets.Int(0).tag(sync=True)
    decoded = traitlets.Dict().tag(sync=True)

    def __init__(self, sprites: Sprites, *, recording: Recording | None = None, pipe: Any = None, **state: Any) -> None:
        self._recording, self._pipe = recording, pipe
        middle = {"step": len(sprites.view["steps"]) // 2, "gain": float(sprites.view["gain"])}
        super().__init__(sprites.view, sprites.sheets, **{**middle, **state})

    @property
    def sprites(self) -> Sprites:
        """What is shown, as plain values and PNG bytes."""
        return Sprites(self.view, self.sheets)

    @shows_problems
    def decode_step(self) -> None:
        """Begin to decode the step and sample that are shown with the model itself, in the background; `wait()` waits for it.

        Linear previews are quick and rough; after this the step's pictures are the decoder's own.
        """
        if self._recording is None or self._pipe is None:
            raise CallError(
                "there is no model here to decode with. Type lab.widgets.x0_explorer(recording, pipe=pipe)."
            )
        self.start(partial(self._decode, self._recording, self.step, self.sample), "decoding")

    def _decode(self, recording: Recording, step: int, sample: int, job: Job) -> None:
        """In the thread: every row of one step and sample."""
        latents = step_latents(recording, step, sample, [row["name"] for row in self.view["rows"]])
        pictures: dict[str, bytes] = {}
        size: dict[str, int] = {}
        for number, (name, x0) in enumerate(latents.items()):
            job.check()
            job.tell(f"decoding {name} at step {step}", number / len(latents))
            png, size = strip(decode(self._pipe, x0)[0], DECODED)
            pictures[f"{name}/{sample}@{step}"] = png
        known = {**self.decoded, f"{sample}@{step}": size}
        job.tell(f"step {step} is decoded", pictures={**self.pictures, **pictures}, decoded=known)

    @traitlets.observe("asked")
    def _asked(self, change: Any) -> None:
        self.decode_step()

    @traitlets.validate("mode")
    def _check_mode(self, proposal: Any) -> str:
        return check_among("mode", proposal["value"], ("frames", "video"))

    @traitlets.validate("gain", "size")
    def _check_size(self, proposal: Any) -> float:
        if not 0 <= proposal["value"] < 10_000:
            raise CallError(f"{proposal['trait'].name} cannot be {proposal['value']}; give a positive number.")
        return proposal["value"]

    def still(self) -> Still:
        """What every branch predicts at the step and sample that are shown."""
        height = self.view["height"]
        strips = [
            Strip(row["label"], row["colour"], cut(self.sheets[f"{row['name']}/{self.sample}"], height, step))
            for rows, step in ((self.view["rows"], self.step), (self.view["finals"], 0))
            for row in rows
        ]
        return Still(
            f"One-step predictions at step {self.step} of 0-{len(self.view['steps']) - 1}, {self.caption}", strips
        )

    def __repr__(self) -> str:
        view = self.view
        return (
            f"X0Explorer({len(view['steps'])} steps x [{', '.join(row['name'] for row in view['rows'])}] "
            f"x {len(view['samples'])} samples, at step {self.step})"
        )


@takes(branches=Several(Text()), cfg=Flag(), baseline=BESIDE, size=Whole(1, 4096))
def x0_explorer(
    source: Run | Recording | Name,
    *,
    sample: int = 0,
    branches: Iterable[str] | None = None,
    cfg: bool = True,
    baseline: Run | Recording | None = None,
    size: int | None = None,
    fps: float = 8,
    pipe: Any = None,
) -> X0Explorer:
    """Show what each branch of a recorded run predicts at each step.

    Every row is the one-step prediction x0 of a branch from the same noisy latents, so a difference between two rows is
    the work of their guidance vector. All pictures are in the widget: moving through the steps needs no kernel.

    Args:
        source: a recorded run, a recording, or the path or name of one.
        sample: which sample to show first.
        branches: names of the branches to show; all of them by default.
        cfg: add a row of CFG alone, rebuilt from cond and uncond where both were recorded.
        baseline: a run or recording of the same call with CFG alone, for its final video: `baseline=run.baseline`.
        size: width of a picture in CSS pixels; by default pictures fill the cell.
        fps: frames a second of the videos.
        pipe: the pipeline, to decode single steps on demand where pictures are a linear preview; None for the run's own.

    Returns:
        A widget; its state (`step`, `sample`, `mode`, `playing`, `difference`, `gain`, `size`) can be set from Python.

    Raises:
        CallError: `source` or `baseline` is none of these, or they are videos of different sizes.
        GuidanceError: a branch that was not recorded.
        RecordingError: not recorded, no such sample, or a recording whose latents cannot be shown without a model.

    >>> explorer = x0_explorer(run, baseline=run.baseline)  # doctest: +SKIP
    >>> explorer.step = 3  # doctest: +SKIP
    """
    if not 0 < fps <= 120:
        raise CallError(f"fps is the number of frames a second, above 0 and at most 120, got {fps}.")
    source = as_source(source)
    sprites = make_sprites(source, branches=branches, cfg=cfg, baseline=baseline, fps=fps)
    recording = recording_of(source)
    if pipe is not None:
        family_of(pipe)  # or say that it is none
    pipe = pipe if pipe is not None else getattr(source, "pipe", None)
    decodable = pipe is not None and not recording.preview_exact
    sprites = Sprites(sprites.view | {"decodable": decodable}, sprites.sheets)
    return X0Explorer(sprites, recording=recording, pipe=pipe, sample=sample, size=size or 0)
