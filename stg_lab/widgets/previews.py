"""Pictures of latents while a run goes on: at once where the decoder is linear, else by a map fitted on the way."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np

from stg_lab.errors import UnsupportedPipelineError
from stg_lab.families import family_of
from stg_lab.preview import Preview, fit_preview
from stg_lab.sampling import decode


class StepPictures:
    """Latents of one pipeline as pictures, at a cost that a running call does not notice.

    Args:
        pipe: the pipeline.
        preview: a linear decoder that is known already; else the family's own, else one is fitted on the first latents that
            are shown, which are decoded once for it.

    Attributes:
        note: what to say of the pictures; "" where they are the decoder's own.
    """

    def __init__(self, pipe: Any, preview: Preview | None = None) -> None:
        self._pipe, self._preview = pipe, preview or family_of(pipe).preview(pipe)
        self._tried = False
        self.note = ""
        self._say()

    def __call__(self, latents: np.ndarray) -> np.ndarray | None:
        """`(sample, channel, frame, y, x)` as videos `(sample, frame, height, width, 3)` in [0, 1]; None where nothing can be
        shown."""
        if not np.isfinite(latents).all():
            return None  # at the first noise level of some schedulers nothing is known of x0
        if self._preview is None and not self._tried:
            self._fit(latents[:1])
        return None if self._preview is None else self._preview.decode(latents)

    def _fit(self, latents: np.ndarray) -> None:
        self._tried = True
        with contextlib.suppress(UnsupportedPipelineError):
            self._preview = fit_preview(latents, decode(self._pipe, latents))
        self._say()

    def _say(self) -> None:
        if self._preview is None:
            self.note = "no pictures on the way: the lab cannot decode this model" if self._tried else ""
        elif not self._preview.exact:
            self.note = f"linear preview of the latents, R² {self._preview.r2:.2f}"
