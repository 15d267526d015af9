"""Reading a recording: labelled, lazy, without a model."""

from __future__ import annotations

import html
import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stg_lab.errors import GuidanceError, RecordingError, did_you_mean
from stg_lab.given import Text, Whole, read, shown
from stg_lab.guidance import COND, GUIDED, UNCOND, Guidance, Moment, Term, as_guidance, combine
from stg_lab.preview import Preview, fit_preview
from stg_lab.recording.layout import FORMAT, LATENT_DIMS, MARK
from stg_lab.recording.previews import add_preview
from stg_lab.recording.scales import asks_for_own, by_frame, has_frames, own_scale
from stg_lab.x0 import OneStep, limit_of

if TYPE_CHECKING:
    import xarray as xr


class Recording:
    """Every prediction of every step of one run.

    Attributes:
        ds: an `xarray.Dataset`, lazy, with

            - `x_t (step, sample, channel, frame, y, x)`: the latents before each step,
            - `prediction (step, branch, sample, channel, frame, y, x)`: what each branch predicted from them; NaN where a
              branch was not computed at a step,
            - `final (sample, channel, frame, y, x)`: the latents after the last step,
            - coordinates `timestep`, `sigma`, `guidance_scale` (the pipeline's own) and the coefficients of x0 for each step;
              `caption` and `seed` for each sample;
              `edited`, 1 where a callback or the pipeline changed the latents after the step before;
              `run_step`, the step of the run, and `restart`, 0 but for the extra steps of Restart's round 1, 2, ...
            - the attribute `settings`, as JSON text, so that xarray's own exports take it along: `ds.to_netcdf(...)`, or
              `ds.astype("float32").to_netcdf(...)` of a float16 recording, since netCDF has no such numbers.
        path: the folder it lies in.
        settings: everything that made the run: model, call arguments, guidance, versions.
        complete: False when the run was cut off; then `ds` holds the whole steps.
        planned: how many steps the run was to have.
        record_dtype: "float32" or "float16", in which predictions were kept; see `lab.sample`.
        checked: whether every file has a checksum that is tested when it is read. Recordings from before format 3 carry none.
        opened_from: what was given to `lab.open`, such as the name of a recording that ships; "" where a run made it.
    """

    record_dtype = "float32"
    opened_from = ""
    checked = True

    def __init__(self, ds: xr.Dataset, path: Path, *, complete: bool, planned: int, preview: Preview | None) -> None:
        self.ds, self.path, self.complete, self.planned = ds, path, complete, planned
        settings = ds.attrs["settings"]
        self.settings: dict[str, Any] = json.loads(settings) if isinstance(settings, str) else settings
        self._preview = preview

    @property
    def branches(self) -> list[str]:
        """Names of the recorded predictions: `cond`, `uncond`, the weak models, `guided`."""
        return [str(b) for b in self.ds.branch.values]

    @property
    def weak(self) -> dict[str, str]:
        """The weak models' branches, in order, each with its specification such as `skip:block:5`."""
        known = self.settings.get("weak", {})
        return {b: known.get(b, b) for b in self.branches if b not in (COND, UNCOND, GUIDED)}

    @property
    def steps(self) -> int:
        """How many whole steps there are."""
        return self.ds.sizes["step"]

    @property
    def given_frames(self) -> int:
        """How many first latent frames were given to the pipeline, not stepped; every prediction is zero there."""
        return int(self.settings.get("given_frames", 0))

    @property
    def captions(self) -> list[str]:
        """The prompt of each sample."""
        return [str(c) for c in self.ds.caption.values]

    def prediction(self, branch: str) -> xr.DataArray:
        """What a branch predicted, `(step, sample, channel, frame, y, x)`, float32, lazy.

        Raises:
            GuidanceError: no such branch in this recording.
        """
        branch = read("branch", branch, Text(), GuidanceError, "branch='cond'")
        if branch not in self.branches:
            raise GuidanceError(
                f"no branch {shown(branch)} in this recording.{did_you_mean(branch, self.branches)} "
                f"It has: {', '.join(self.branches)}."
            )
        return self.ds.prediction.sel(branch=branch).astype(np.float32)

    def x0(self, branch: str | xr.DataArray = COND) -> xr.DataArray:
        """The one-step prediction at every step, `(step, sample, channel, frame, y, x)`, in latents, lazy.

        The model's own. Where the run's scheduler limits it before the step (DDIM with `clip_sample`, `thresholding`), the
        attribute `limited_by_the_scheduler` says how. That of "guided" is NaN where it does not follow from what the pipeline
        stepped with (coordinate `x0_guided`).

        Args:
            branch: name of a recorded branch, or any prediction like those, such as `rec.reweight(lab.CFG(6))`.

        Raises:
            GuidanceError: no such branch.
        """
        prediction: xr.DataArray = branch if hasattr(branch, "dims") else self.prediction(branch)  # type: ignore[assignment, arg-type]
        # The coefficients are float32 so that the numbers equal those of a float32 sampler bit for bit.
        step = OneStep(self.ds.x0_sample.astype(np.float32), self.ds.x0_prediction.astype(np.float32))  # type: ignore[arg-type]
        dims = ("step", "sample", *LATENT_DIMS)
        x0 = step(self.ds.x_t.astype(np.float32), prediction).transpose(*dims)
        if isinstance(branch, str) and branch == GUIDED:  # NaN where what was stepped with does not tell it
            x0 = x0.where(self.ds.x0_guided == 1)
        limit = {"limited_by_the_scheduler": self.x0_limit} if self.x0_limit else {}
        return x0.rename(f"x0 of {prediction.name if prediction is branch else branch}").assign_attrs(limit)

    @property
    def x0_limit(self) -> str:
        """How the run's scheduler limited x0 in its steps, such as "clip_sample=True: to [-1, 1]"; "" where it did not."""
        scheduler = self.settings.get("scheduler") or {}
        return limit_of(scheduler.get("class", ""), scheduler)

    def delta(self, weak: str = "skip") -> xr.DataArray:
        """The guidance vector away from a branch, `cond - weak`, `(step, sample, channel, frame, y, x)`, lazy.

        Raises:
            GuidanceError: no such branch.
        """
        return (self.prediction(COND) - self.prediction(weak)).rename(f"{COND} - {weak}")

    def reweight(self, guidance: Guidance | Term) -> xr.DataArray:
        """What each step's guided prediction would have been under another guidance, from this run's states.

        Exact for each step by itself. It is not the trajectory that the other guidance would have taken: there every
        step but the first would have started from another x_t.

        Returns:
            `(step, sample, channel, frame, y, x)`, float32, computed step by step.

        Raises:
            GuidanceError: the guidance needs a branch that was not recorded.
        """
        import xarray as xr

        guidance = as_guidance(guidance)
        recorded = self._branches_for(guidance)
        slices: list[Any] = []
        memory: dict[Any, Any] = {}
        looks = guidance.space == "x0" or any(t.rules for t in guidance.terms)
        for k in range(self.steps):
            now = self.ds.prediction.isel(step=k).astype(np.float32)
            arrays = {name: now.sel(branch=branch).values for name, branch in recorded.items()}
            at = self.moment(k, x_t=looks, memory=memory)
            own = own_scale(self, k) if asks_for_own(self, guidance, at) else None
            slices.append(combine(guidance, arrays, at, cfg_scale=own))
        like = self.prediction(COND)
        return xr.DataArray(
            np.stack(slices), dims=like.dims, coords=like.drop_vars("branch").coords, name=str(guidance)
        )

    def moment(self, k: int, *, x_t: bool = False, memory: dict[Any, Any] | None = None) -> Moment:
        """Row k as the guidance saw it when it was sampled.

        Args:
            x_t: whether to read the latents, for sums in x0 and for rules.
            memory: what methods with a momentum carry from row to row.
        """
        row = self.ds.isel(step=k)
        weight = float(row.next_weight)
        return Moment(
            step=int(row.run_step),
            steps=self.settings.get("steps", self.planned),
            sigma=float(row.noise),
            next_weight=None if np.isnan(weight) else weight,
            one_step=OneStep(float(row.x0_sample), float(row.x0_prediction)),
            x_t=row.x_t.values.astype(np.float32) if x_t else None,
            memory={} if memory is None else memory,
            given=self.given_frames,
            by_frame=partial(by_frame, self) if has_frames(self) else None,
        )

    def _branches_for(self, guidance: Guidance) -> dict[str, str]:
        """The recorded branch behind each name that a guidance uses; weak models are told apart by what they are."""
        weak = {specification: branch for branch, specification in self.weak.items()}
        names = {b: b for b in self.branches if b not in weak.values()}
        for name, model in guidance.weak.items():
            if str(model) not in weak:
                raise GuidanceError(
                    f"the weak model {model} was not recorded in this run. It has: {', '.join(weak) or 'none'}."
                )
            names[name] = weak[str(model)]
        return names

    def video(self, branch: str | None = None, *, step: int | None = None) -> np.ndarray:
        """Pictures without a model: the final video, or a branch's one-step prediction at a step.

        Args:
            branch: whose one-step prediction; None for the final video.
            step: at which step; needed with a branch.

        Returns:
            float32 `(sample, frame, height, width, 3)` in [0, 1]. Exact for the embedded models.

        Raises:
            RecordingError: this recording has no preview of its latents, or it was cut off before the final video.
            GuidanceError: no such branch.
        """
        if step is not None:
            step = read("step", step, Whole(-self.steps), RecordingError)
        if branch is None:
            final = self.ds.final.values
            if not self.complete:
                raise RecordingError(f"the run was cut off after {self.steps} of {self.planned} steps: no final video.")
            return self.preview(final)
        if step is None:
            raise RecordingError(f"say at which step: rec.video({shown(branch)}, step=0..{self.steps - 1}).")
        if not -self.steps <= step < self.steps:
            raise RecordingError(f"step {step} is out of range: this recording has steps 0 to {self.steps - 1}.")
        return self.preview(self.x0(branch).isel(step=step).values)

    @property
    def has_preview(self) -> bool:
        """Whether latents can be shown without the model."""
        return self._preview is not None

    @property
    def preview_exact(self) -> bool:
        """Whether the preview is the model's own decoder, not an approximation."""
        return self._preview is not None and self._preview.exact

    @property
    def preview_r2(self) -> float | None:
        """How much of the decoded pictures the preview explains, from 1 (all) down; None without a preview."""
        return None if self._preview is None else self._preview.r2

    def fit_preview(self, video: np.ndarray) -> Preview:
        """Fit a linear preview on the run's final video and keep it with the recording (`lab.sample` does so by itself).

        Args:
            video: the decoded final video, `(sample, frame, height, width, 3)` in [0, 1].

        Returns:
            The preview; its `r2` says how much of the pictures it explains.

        Raises:
            RecordingError: the run was cut off, or the video is not of this run.
        """
        if not self.complete:
            raise RecordingError(
                f"the run was cut off after {self.steps} of {self.planned} steps: no final latents to fit on."
            )
        try:
            self._preview = fit_preview(self.ds.final.values.astype(np.float32), np.asarray(video))
        except ValueError as error:
            raise RecordingError(str(error)) from None
        add_preview(self.path, self._preview, MARK, FORMAT)
        return self._preview

    def preview(self, latents: np.ndarray, *, clip: bool = True) -> np.ndarray:
        """Latents `(sample, channel, frame, y, x)` as video `(sample, frame, height, width, 3)`, without a model.

        Args:
            latents: such as `rec.x0("cond").isel(step=3)`.
            clip: to [0, 1]. Unclipped pictures add up as their latents do.

        Raises:
            RecordingError: this recording has no preview of its latents.
        """
        if self._preview is None:
            raise RecordingError(
                "this recording has no linear preview, since its model has a learned decoder. Fit one on the final video, "
                "rec.fit_preview(lab.decode(pipe, rec.ds.final)), or decode with the pipeline: "
                "lab.decode(pipe, rec.x0('cond').isel(step=10))."
            )
        return self._preview.decode(latents, clip=clip)

    def __repr__(self) -> str:
        state = "" if self.complete else f", INCOMPLETE: cut off after {self.steps} of {self.planned} steps"
        state += "" if self.checked else ", no checksums"
        return (
            f"Recording({self.path.name}: {self.steps} steps x {len(self.branches)} branches "
            f"[{', '.join(self.branches)}] x {self.ds.sizes['sample']} samples, {self.settings.get('guidance_text')}{state})"
        )

    def _repr_html_(self) -> str:
        s = self.settings
        rows = {
            "model": s.get("model"),
            "guidance": s.get("guidance_text"),
            "steps": f"{self.steps}" if self.complete else f"{self.steps} of {self.planned}: the run was cut off",
            "branches": ", ".join(self.branches),
            "samples": "; ".join(
                f"{c or '(no caption)'} (seed {d})" for c, d in zip(self.captions, self._seeds, strict=True)
            ),
            **({"x0": f"the model's own; the scheduler limits it ({self.x0_limit})"} if self.x0_limit else {}),
            "latents": " x ".join(f"{self.ds.sizes[d]} {d}" for d in LATENT_DIMS),
            **({} if self.checked else {"checksums": "none: recorded by a version that wrote none"}),
            "opened from": self.opened_from or str(self.path),
        }
        cell = 'style="text-align:left;padding:2px 12px 2px 0;vertical-align:top"'
        body = "".join(
            f"<tr><th {cell}>{html.escape(k)}</th><td {cell}>{html.escape(str(v))}</td></tr>" for k, v in rows.items()
        )
        settings = html.escape(json.dumps(s, indent=1, default=str))
        return f"<div><b>Recording</b><table>{body}</table><details><summary>settings</summary><pre>{settings}</pre></details></div>"

    @property
    def _seeds(self) -> list[str]:
        return [str(v) for v in self.ds.seed.values] if "seed" in self.ds.coords else ["?"] * self.ds.sizes["sample"]


def check_number(what: str, number: int, count: int) -> int:
    """The number of a step or sample of a recording.

    Args:
        what: "step" or "sample".
        count: how many there are.

    Raises:
        RecordingError: there is no such one.
    """
    if not 0 <= number < count:
        raise RecordingError(f"{what} {number} is out of range: this recording has {what}s 0 to {count - 1}.")
    return number
