"""`Journal`: what is kept of each step, for the recorder and for whoever looks on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
from torch import Tensor

from stg_lab.families import Family
from stg_lab.families.noise import along_step, noise_level
from stg_lab.guidance import COND, GUIDED, UNCOND, Guidance
from stg_lab.recording import BackgroundRecorder
from stg_lab.sampling.form import changed
from stg_lab.sampling.guide import Guide
from stg_lab.sampling.host_copy import host_copy
from stg_lab.sampling.loop import Bar
from stg_lab.sampling.provenance import pipeline_settings, seeds_of
from stg_lab.sampling.reels import Reels
from stg_lab.sampling.step_view import Seen
from stg_lab.sampling.steps import Now
from stg_lab.seams import Step
from stg_lab.weak import Weak


class Journal:
    """Keeps the steps of one pipeline's runs.

    Attributes:
        reels: the recorders.
        settings: what a recording says of its run beside what is seen of it.
    """

    def __init__(
        self,
        pipe: Any,
        family: Family,
        guide: Guide,
        settings: Mapping[str, Any] | None,
        on_step: Callable[[Seen], None] | None,
    ) -> None:
        self.reels, self.settings = Reels(), dict(settings or {})
        self._pipe, self._family, self._guide, self._on_step = pipe, family, guide, on_step
        self._given: Mapping[str, Any] = {}  # keyword arguments of the last denoiser call
        self._seen: Seen | None = None  # the step that is on its way, for whoever looks on
        self._final: Tensor | None = None  # what the last step gave, until the pipeline is done with it
        self._bar = Bar(pipe, self._pipeline_has)

    @property
    def recorder(self) -> BackgroundRecorder | None:
        """Of the running loop; None where nothing is recorded."""
        return self.reels.current

    @property
    def wanted(self) -> bool:
        """Whether anybody wants the steps."""
        return self.recorder is not None or self._on_step is not None

    def begin(self) -> None:
        """A new call, or a new loop within one."""
        self.reels.turn_over(self._pipe)
        if self.recorder is not None:
            self._bar.watch()

    def called(self, kwargs: Mapping[str, Any], prediction: Tensor) -> None:
        """A denoiser call has been made. At the first one the size of a step is known, so the disk is asked whether it will hold
        the run."""
        self._given = kwargs
        if self.recorder is not None and not self.recorder.started:
            shape = self.latents(prediction, predicted=True).shape
            branches = 1 + self._guide.uncond + len(self._guide.sum.weak) + 1
            watched = sum(edit.most_bytes(tuple(shape)) for edit in cast("list[Weak]", self._guide.sum.edits))
            self.recorder.check_space(self._guide.rows, branches, tuple(shape), watched)

    def look(self, step: Step, now: Now, guided: Tensor) -> Seen:
        """What there is to keep of a step that is about to be taken, as it is now: schedulers and pipelines may write into their
        tensors afterwards."""
        guide, level = self._guide, noise_level(step.scheduler, step.timestep, self._family.prediction_type)
        along = along_step(step.rest, step.scheduler, level.sigma)
        every = {**now.predictions, GUIDED: guided}
        arrays = {name: self._to_host(p if along is None else along * p, predicted=True) for name, p in every.items()}
        return Seen(
            now.number,
            len(guide.steps),
            now.restart,
            level,
            self._to_host(step.sample, predicted=False),
            arrays,
            () if now.restart or guide.check.knows_x0(now.number) else (GUIDED,),
            guide.scale(now),
            guide.check.edited and not now.restart,
        )

    def keep(self, seen: Seen, step: Step, now: Now, *, shown: bool = True) -> None:
        """Hand a step to the recorder, and have it shown once it is done."""
        self._seen = seen if shown else None
        if self.recorder is None:
            return
        if not self.recorder.started:
            self._start(step, now)
        coordinates = seen.level.coordinates | {
            "run_step": seen.step,
            "restart": seen.restart,
            "guidance_scale": seen.guidance_scale,
            "edited": float(seen.edited),
            "x0_guided": float(GUIDED not in seen.unknown),
        }
        looked = {name: host_copy(values.float()) for name, values in now.looked.items()}
        self.recorder.write(coordinates, seen.x_t, seen.predictions, looked)

    def show(self) -> None:
        """Tell whoever looks on that a step is done; what they raise ends the call, and the whole steps are kept."""
        seen, self._seen = self._seen, None
        if seen is not None and self._on_step is not None:
            self._on_step(seen)

    def finish(self, sample: Tensor) -> None:
        """The last step gave this."""
        if self.recorder is not None:
            self.recorder.finish(self._to_host(sample, predicted=False)())
            self._final = sample.clone()  # callbacks may write into it

    def end(self) -> None:
        """Let go of what is held of the call."""
        self._given, self._final = {}, None

    def latents(self, x: Tensor, *, predicted: bool) -> Tensor:
        """Latents or a prediction as recordings have them, `(sample, channel, frame, y, x)`."""
        return self._family.recorded(x.detach(), self._pipe, self._given, predicted=predicted)

    def _to_host(self, x: Tensor, *, predicted: bool) -> Callable[[], np.ndarray]:
        return host_copy(self.latents(x, predicted=predicted))

    def _start(self, step: Step, now: Now) -> None:
        assert self.recorder is not None
        guide, pipe, family = self._guide, self._pipe, self._family
        shape = tuple(self.latents(step.sample, predicted=False).shape)
        seen = {
            "steps": len(guide.steps),
            **guide.said(now),
            "dtype": str(now.predictions[COND].dtype).removeprefix("torch."),
            **watched_words(guide.sum, pipe, self.settings),
            **self.reels.settings,
            **self.settings,
        }
        captions = self.settings.get("captions", [])
        samples: dict[str, list] = {"caption": captions if len(captions) == shape[0] else [""] * shape[0]}
        if seeds := seeds_of(self.settings, shape[0]):
            samples["seed"] = seeds
        self.recorder.start(
            steps=guide.rows,
            branches=self._branches(now.predictions),
            shape=shape,
            settings=pipeline_settings(pipe, family, guide.sum) | seen,
            samples=samples,
            preview=family.preview(pipe),
            watched={name: tuple(values.shape) for name, values in now.looked.items()},
        )

    def _branches(self, predictions: Mapping[str, Tensor]) -> tuple[str, ...]:
        """What is recorded of a step, in order."""
        weak = self._guide.sum.weak
        own = [b for b in predictions if b not in weak]
        own += [b for b in self._family.later_branches(self._pipe) if b not in own]
        # cond, uncond, and then perturbed passes of the pipeline's own
        return (*sorted(own, key=[COND, UNCOND, *own].index), *weak, GUIDED)

    def _pipeline_has(self, latents: Any) -> None:
        """The pipeline's loop is done with a step, callbacks and all: what it holds after the last one is what it returns."""
        final, self._final = self._final, None
        if final is None or not isinstance(latents, Tensor) or latents.shape != final.shape:
            return
        if self.recorder is not None and changed(final, latents):
            self.recorder.finish(self._to_host(latents, predicted=False)())
        self._given = {}


def watched_words(guidance: Guidance, pipe: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The tokens of each caption as text, for whoever reads maps of words; empty where none are watched or nothing tells them."""
    captions, tokenizer = settings.get("captions", []), getattr(pipe, "tokenizer", None)
    if not any(edit.watches for edit in guidance.edits) or tokenizer is None:  # type: ignore[attr-defined]
        return {}
    try:
        return {"words": [tokenizer.convert_ids_to_tokens(tokenizer(one).input_ids) for one in captions]}
    except (AttributeError, TypeError, ValueError):  # tokenizers of other makes
        return {}
