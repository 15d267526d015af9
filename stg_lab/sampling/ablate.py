"""`ablate`: every layer x part x axis as a weak model at one state of a run, scored.

All passes begin at the very same x_t, so that what differs is the weak model alone. Each begins at the first block that it
changes (`stg_lab.reuse`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from stg_lab.errors import GuidanceError, NothingChangedError, RecordingError
from stg_lab.given import Flag, takes
from stg_lab.guidance import Guidance, Term
from stg_lab.guidance.scores import distance, scores
from stg_lab.passes import PASSES, Passes
from stg_lab.recording import Recording
from stg_lab.recording.ablation import MADE, NOTHING_CHANGED, REFUSED, open_ablation
from stg_lab.recording.ablation_store import AblationStore, Index, Layout
from stg_lab.recording.background import Behind
from stg_lab.recording.writer import known_dtype
from stg_lab.sampling.provenance import fingerprint, model_name, plain, versions
from stg_lab.sampling.states import Runs
from stg_lab.sampling.sweep_grid import Models, skips
from stg_lab.sampling.temporary import TemporaryFolder
from stg_lab.sampling.visitor import SAME_STATE, State, as_array
from stg_lab.weak import Weak

if TYPE_CHECKING:
    import xarray as xr


@takes(passes=PASSES, step=None, seed=None, keep_x0=Flag())
def ablate(
    pipe: Any,
    step: int | Sequence[int] | None = None,
    prompt: str | list[str] | None = None,
    *,
    layers: Sequence[int] | None = None,
    parts: Sequence[str] = ("block", "attention"),
    axes: Sequence[str] | None = None,
    seed: int | Sequence[int] | None = None,
    state: Recording | str | Path | None = None,
    guidance: Guidance | Term | Any | None = None,
    record: bool | str | Path = True,
    record_dtype: str = "float32",
    keep_x0: bool = True,
    overwrite: bool = False,
    passes: Passes | None = None,
    progress: bool = True,
    **call: Any,
) -> xr.Dataset:
    """Score every layer x part x axis as a weak model, all at the same states (x_t, t) of a run.

    The run goes down to the last wanted step and is left there. With CFG the scores compare each guidance vector to CFG's, so
    leave the pipeline's own scale above 1, or pass one.

    Args:
        pipe: a stock diffusers pipeline.
        step: number of the step in the scheduler's run, from 0, or a list. None for 10, or the middle one of a run that has no
            step 10.
        prompt: one caption, or a list: the samples of one batch.
        layers: block numbers; None for all.
        parts: of `lab.skip`: "block", "attention", "attention_zero", "feedforward", ...
        axes: "joint", "spatial", "temporal"; None for "joint" everywhere, and for the attention parts also the other two where
            the model has them.
        seed: sample i of the batch gets its own generator seeded `seed + i`; a list makes one run each, and the samples are
            the product. 0 if nothing is said.
        state: a recording of `lab.sample`, or its path: the call is the recorded one, and so is x_t. Steps before it are not
            paid for where the family's latents allow it; else the run goes down again and must come to the same x_t.
        guidance: the sum under which the run goes down, as in `lab.sample`; None for the pipeline's own call. Where it holds a
            `lab.Edit`, the weak models are of the edited model, as the conditional prediction is.
        record: a path to keep the sweep, ending in `.zarr`: one that was cut off goes on when it is asked for again. True for
            a temporary folder, which lives as long as the dataset.
        record_dtype: of the one-step predictions, "float32" or "float16".
        keep_x0: False keeps scores alone.
        overwrite: begin anew where an earlier sweep lies at `record`. That one stays until the first weak passes of this one are
            on disk.
        passes: how weak passes are made, see `Passes`.
        progress: whether to show a bar.
        **call: everything else goes to `pipe(...)` unchanged.

    Returns:
        Dataset with dims (step, layer, part, axis, sample):

        - a float64 variable for each of `stg_lab.guidance.scores.SCORES`: rms, l2, ratio, cosine_cfg, cosine_cond,
          x0_distance, spatial_energy, temporal_energy, sharpness_lost, with definition, units and range as attributes;
        - `nothing_changed`: whether the weak pass came out equal to the conditional one (its vector is 0 then);
        - `x0`: the one-step prediction of each weak model, also (channel, frame, y, x), lazy; `x0_cond` and `x0_uncond`;
        - `preview_matrix`, `preview_bias`: a linear decoder of the latents where the family has one, see
          `stg_lab.recording.ablation_preview`;
        - `why (layer, part, axis)`: why a weak model is not there and its scores are NaN; "" where it is;
        - coordinates `timestep` and `sigma` for each step, `caption` and `seed` for each sample, and `weak`, the
          specification of each weak model.

    Raises:
        CallError, GuidanceError, RecordingError, UnsupportedPipelineError: nearly all before any compute is spent; each
            message says what to type instead. `GuidanceError` where the model has none of the weak models.
    """
    given = call if prompt is None else {"prompt": prompt, **call}
    runs = Runs.plan(pipe, step, seed, guidance, state, given, of=ablate)
    models = skips(pipe, runs.family, layers, parts, axes)
    how = passes or Passes()
    known_dtype(record_dtype)
    if record is False or record is None:
        raise RecordingError("a sweep lies on disk: record='some/folder.zarr', or record=True for a temporary folder.")
    asked = {"record_dtype": record_dtype, "keep_x0": bool(keep_x0), "passes": repr(how)}
    layout = _layout(runs, models, asked)
    keep = TemporaryFolder() if record is True else None
    place = Path(keep.path) / "ablation.zarr" if keep is not None else Path(record)  # type: ignore[arg-type]
    sweep = _Sweep(runs, models, AblationStore(place, layout, overwrite=overwrite), how)
    try:
        sweep.run(progress)
    except BaseException as error:
        _tell_how_to_go_on(sweep.store, keep, error)
        raise
    finally:
        sweep.store.give_up()
    return open_ablation(place, keep=keep)


class _Sweep:
    """One sweep on its way."""

    def __init__(self, runs: Runs, models: Models, store: AblationStore, passes: Passes) -> None:
        self.runs, self.models, self.store, self.passes = runs, models, store, passes
        preview = runs.family.preview(runs.pipe)
        self.decode = None if preview is None else preview.decode

    def run(self, progress: bool) -> None:
        """Make all passes that are missing."""
        from tqdm.auto import tqdm

        steps = self.runs.steps
        total = len(self.models.of) * len(steps) * len(self.runs.seeds)
        with tqdm(total=total, initial=total - self.store.left, desc="ablate", disable=not progress) as bar:
            for number, seed in enumerate(self.runs.seeds):
                missing = {step: self.store.missing(number, k) for k, step in enumerate(steps)}
                wanted = [step for step in steps if missing[step]]
                if not wanted:
                    continue
                self.runs.visit(
                    seed,
                    wanted,
                    self.models.of.values(),
                    lambda state, n=number, left=missing: self._visit(state, n, left[state.step], bar.update),  # type: ignore[misc]
                    self.passes,
                )

    def _visit(self, state: State, run: int, missing: list[Index], update: Callable[[int], Any]) -> None:
        k, x0_cond = self.runs.steps.index(state.step), state.x0(state.cond)
        with Behind() as behind:  # scores and the disk, while the model computes
            if self.store.started:
                self._begin(state, run, k, x0_cond)  # may refuse: before any weak pass is paid for
            else:
                self.store.check_space(state.cond.shape)
                behind.submit(self._begin, state, run, k, x0_cond)
            for index in missing:
                made = _predict(self.models.of[index], state)
                found = made if isinstance(made, GuidanceError) else as_array(state.finish(made))
                behind.submit(self._keep, state, run, k, x0_cond, index, found)
                update(1)

    def _begin(self, state: State, run: int, k: int, x0_cond: np.ndarray) -> None:
        """Keep what the state gave without weak models, or see that it is what is kept already."""
        self.store.start(state.cond.shape, uncond=state.uncond is not None)
        before = self.store.x0_cond(run, k)
        if before is None:
            x0_uncond = None if state.uncond is None else state.x0(state.uncond)
            self.store.write_state(
                run, k, state.level.timestep, state.level.sigma, {"x0_cond": x0_cond, "x0_uncond": x0_uncond}
            )
        elif not (distance(before, x0_cond) <= SAME_STATE).all():
            raise RecordingError(
                f"{self.store.path} was made by another model or machine: the conditional prediction at step {state.step} is "
                "not the one that is kept there. Choose another name, or pass overwrite=True to begin anew."
            )

    def _keep(
        self, state: State, run: int, k: int, x0_cond: np.ndarray, index: Index, found: np.ndarray | GuidanceError
    ) -> None:
        self.store.write(run, k, {index: self._scored(index, found, state, x0_cond)})

    def _scored(
        self, index: Index, found: np.ndarray | GuidanceError, state: State, x0_cond: np.ndarray
    ) -> tuple[int, dict[str, np.ndarray], np.ndarray | None]:
        """What the store keeps of a weak pass."""
        if isinstance(found, NothingChangedError):
            none = scores(state.cond, state.cond, state.uncond, x0_cond, x0_cond, self.decode)
            return NOTHING_CHANGED, none, x0_cond
        if isinstance(found, GuidanceError):
            self.store.note(str(self.models.weak[index]), str(found))
            return REFUSED, {}, None
        x0 = state.x0(found)
        return MADE, scores(state.cond, found, state.uncond, x0_cond, x0, self.decode), x0


def _predict(model: Weak, state: State) -> Tensor | GuidanceError:
    """The prediction of a weak model at a state, or what speaks against it."""
    try:
        return state.passes.run(model, state.at)
    except GuidanceError as error:
        return error


def _layout(runs: Runs, models: Models, asked: Mapping[str, Any]) -> Layout:
    pipe, recording = runs.pipe, runs.recording
    arguments = {
        "model": model_name(pipe),
        "pipeline": type(pipe).__name__,
        "scheduler": {"class": type(pipe.scheduler).__name__, **plain(dict(pipe.scheduler.config))},
        "dtype": str(pipe.dtype).removeprefix("torch."),
        "step": runs.steps,
        "layers": models.layers,
        "parts": models.parts,
        "axes": models.axes,
        "seed": runs.seeds,
        "guidance": None if runs.guidance is None else str(runs.guidance),
        "state": None if recording is None else f"{recording.path.name}, {recording.settings.get('created')}",
        "call": {name: fingerprint(value) for name, value in runs.call.items()},
        **asked,
    }
    preview = runs.family.preview(pipe)
    kind = "" if preview is None else "the model's own decoder" if preview.exact else "a linear preview"
    told = f"decoded frames in [0, 1] ({kind})" if kind else "latents"
    return Layout(
        runs.steps,
        models.layers,
        models.parts,
        models.axes,
        models.weak,
        models.why,
        runs.captions,
        runs.sample_seeds,
        len(runs.seeds),
        asked["record_dtype"],
        asked["keep_x0"],
        json.loads(json.dumps(arguments)),
        {"family": runs.family.name, "device": str(pipe.device), "versions": versions(), "sharpness": told},
        preview,
    )


def _tell_how_to_go_on(store: AblationStore, keep: TemporaryFolder | None, error: BaseException) -> None:
    """A sweep that ends on the way leaves what it has; say where, and do not let a temporary folder vanish."""
    made = int((store.made > 0).sum())
    if not made:
        return
    if keep is not None:
        keep.keep()
    error.add_note(
        f"{made} weak passes are kept, {store.left} are missing. To go on, call lab.ablate with the same arguments and "
        f"record={str(store.path)!r}; lab.open_ablation({str(store.path)!r}) reads what is there."
    )
