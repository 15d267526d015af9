"""The x0 explorer: what each branch predicts at each step, side by side, under one slider."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import traitlets

from stg_lab.errors import CallError
from stg_lab.widgets.base import Explorer, check_among, check_sample, check_step, module, style
from stg_lab.widgets.sprites import Sprites, make_sprites

if TYPE_CHECKING:
    from stg_lab.recording import Recording
    from stg_lab.sampling import Run


class X0Explorer(Explorer):
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
    """

    _esm, _css = module("x0_explorer"), style("x0_explorer")
    STATE = ("step", "sample", "mode", "playing", "difference", "gain", "size")

    step = traitlets.Int(0).tag(sync=True)
    sample = traitlets.Int(0).tag(sync=True)
    mode = traitlets.Unicode("frames").tag(sync=True)
    playing = traitlets.Bool(False).tag(sync=True)
    difference = traitlets.Bool(False).tag(sync=True)
    gain = traitlets.Float(1.0).tag(sync=True)
    size = traitlets.Int(0).tag(sync=True)

    def __init__(self, sprites: Sprites, **state: Any) -> None:
        middle = {"step": len(sprites.view["steps"]) // 2, "gain": float(sprites.view["gain"])}
        super().__init__(sprites.view, sprites.sheets, **{**middle, **state})

    @property
    def sprites(self) -> Sprites:
        """What is shown, as plain values and PNG bytes."""
        return Sprites(self.view, self.sheets)

    @traitlets.validate("step")
    def _check_step(self, proposal: Any) -> int:
        return check_step(proposal["value"], len(self.view["steps"]))

    @traitlets.validate("sample")
    def _check_sample(self, proposal: Any) -> int:
        return check_sample(proposal["value"], len(self.view["samples"]))

    @traitlets.validate("mode")
    def _check_mode(self, proposal: Any) -> str:
        return check_among("mode", proposal["value"], ("frames", "video"))

    @traitlets.validate("gain", "size")
    def _check_size(self, proposal: Any) -> float:
        if not 0 <= proposal["value"] < 10_000:
            raise CallError(f"{proposal['trait'].name} cannot be {proposal['value']}; give a positive number.")
        return proposal["value"]

    def __repr__(self) -> str:
        view = self.view
        return (
            f"X0Explorer({len(view['steps'])} steps x [{', '.join(row['name'] for row in view['rows'])}] "
            f"x {len(view['samples'])} samples, at step {self.step})"
        )


def x0_explorer(
    source: Run | Recording,
    *,
    sample: int = 0,
    branches: Iterable[str] | None = None,
    cfg: bool = True,
    baseline: Run | Recording | None = None,
    size: int | None = None,
    fps: float = 8,
) -> X0Explorer:
    """Show what each branch of a recorded run predicts at each step.

    Every row is the one-step prediction x0 of a branch from the same noisy latents, so a difference between two rows is
    the work of their guidance vector. All pictures are in the widget: moving through the steps needs no kernel.

    Args:
        source: a recorded run, or a recording.
        sample: which sample to show first.
        branches: names of the branches to show; all of them by default.
        cfg: add a row of CFG alone, rebuilt from cond and uncond where both were recorded.
        baseline: a run or recording of the same call with CFG alone, for its final video: `baseline=run.baseline`.
        size: width of a picture in CSS pixels; by default pictures fill the cell.
        fps: frames a second of the videos.

    Returns:
        A widget; its state (`step`, `sample`, `mode`, `playing`, `difference`, `gain`, `size`) can be set from Python.

    Raises:
        CallError: `source` or `baseline` is neither, or they are videos of different sizes.
        GuidanceError: a branch that was not recorded.
        RecordingError: not recorded, no such sample, or a recording whose latents cannot be shown without a model.

    >>> explorer = x0_explorer(run, baseline=run.baseline)  # doctest: +SKIP
    >>> explorer.step = 3  # doctest: +SKIP
    """
    if not 0 < fps <= 120:
        raise CallError(f"fps is the number of frames a second, above 0 and at most 120, got {fps}.")
    sprites = make_sprites(source, branches=branches, cfg=cfg, baseline=baseline, fps=fps)
    return X0Explorer(sprites, sample=sample, size=size or 0)
