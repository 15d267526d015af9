"""Writing a recording while sampling: memory does not grow, and what is written survives whatever comes after."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stg_lab.errors import RecordingError, RecordingExistsError
from stg_lab.preview import Preview
from stg_lab.recording.chunks import ChunkFiles, lay_out
from stg_lab.recording.claim import claimed, where
from stg_lab.recording.float16 import keeps_x0, kept
from stg_lab.recording.layout import (
    FORMAT,
    ID,
    LATENT_DIMS,
    LATER_COORDS,
    MARK,
    PROGRESS,
    STEP_COORDS,
    WATCHED,
    X0_KEPT,
)
from stg_lab.recording.planned import Planned
from stg_lab.recording.previews import preview_arrays
from stg_lab.recording.store import has_mark
from stg_lab.x0 import OneStep

DTYPES = ("float32", "float16")


class Recorder:
    """Writes one run: `claim` the place, `start` once sizes are known, `write` every step, `finish`.

    Args:
        path: folder to make, usually ending in `.zarr`.
        dtype: "float32" (exact), or "float16": half the size. Latents, predictions and x0 keep three digits there, whatever the
            model predicts (`half`).
        overwrite: replace an earlier recording there; anything that is no recording is never replaced. The earlier one stays
            until the first step of the new one is on disk: the new one lies beside it up to then, and takes its place in one
            step (`successor`).

    Raises:
        RecordingExistsError: the place is taken, or another run is writing there.
        RecordingError: the place cannot be written, or an unknown dtype.
    """

    def __init__(self, path: str | Path, *, dtype: str = "float32", overwrite: bool = False) -> None:
        self.path, self.dtype = where(path), known_dtype(dtype)
        self.steps, self.written = 0, 0
        self._branches: tuple[str, ...] = ()
        self._arrays: dict[str, ChunkFiles] = {}
        self._levels: dict[str, np.ndarray] = {}
        self._successor = claimed(self.path, overwrite, MARK, "a recording")

    def start(
        self,
        *,
        steps: int,
        branches: tuple[str, ...],
        shape: tuple[int, ...],
        settings: Mapping[str, Any],
        samples: Mapping[str, list],
        preview: Preview | None = None,
        watched: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:
        """Lay out the store, before the first step is written.

        Args:
            steps: how many steps the run will have.
            branches: names of the predictions of a step, in the order in which they are kept.
            shape: of x_t and of every prediction, (sample, channel, frame, y, x).
            settings: everything needed to run this again, as plain values.
            samples: coordinates of the samples, one list each (caption, seed).
            preview: a linear decoder to keep with the recording.
            watched: shapes of what is looked at in each step, by name.

        Raises:
            RecordingError: the disk will not hold the run.
        """
        self.steps, self._branches = steps, branches
        looks = self._watched(watched or {})
        seen = sum(math.prod(array.chunk) * array.numpy.itemsize for array in looks.values())
        self.check_space(steps, len(branches), shape, seen)
        plan = self._plan(shape, samples, preview) | looks
        with _explained(self, "laid out"), self._successor.laying_out() as place:
            arrays = lay_out(place, plan, {MARK: FORMAT, ID: self._successor.id, "settings": dict(settings)})
        for files in arrays.values():
            files.moved(self._successor.place)
        self._arrays = arrays

    def write(
        self,
        level: Mapping[str, float],
        x_t: np.ndarray,
        predictions: Mapping[str, np.ndarray],
        watched: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Append one whole step.

        Args:
            level: the step's coordinates: timestep, sigma, x0_sample, x0_prediction, and any of `LATER_COORDS`.
            x_t: (sample, channel, frame, y, x).
            predictions: arrays like x_t by branch; a branch that was not computed at this step is left out and reads NaN.
            watched: what was looked at, by name; so are those that were not, or had no place laid out.

        Raises:
            RecordingError: the disk is full or gone, or there are more steps than were announced.
        """
        if self.written >= self.steps:
            raise RecordingError(
                f"{self.path} holds all its {self.steps} steps. One recording keeps one pipeline call: "
                "open another lab.attach(...) for the next call."
            )
        k, step = self.written, OneStep(level["x0_sample"], level["x0_prediction"])
        level = {**level, X0_KEPT: float(self._half and keeps_x0(step))}
        with _explained(self, f"written at step {k}"):
            self._arrays["x_t"].write(x_t, k)
            for b, name in enumerate(self._branches):
                prediction = predictions.get(name, np.nan)
                self._arrays["prediction"].write(kept(step, x_t, prediction) if self._half else prediction, k, b)
            for name, seen in (watched or {}).items():
                if WATCHED + name in self._arrays:
                    self._arrays[WATCHED + name].write(seen, k)
            for (
                name,
                values,
            ) in self._levels.items():  # of all steps in one file, so that thousands of steps are opened at once
                values[k] = level[name] if name in STEP_COORDS else level.get(name, LATER_COORDS[name])
                self._arrays[name].write(values)
            self._arrays[PROGRESS].write([k + 1, 0])
            if not self.replacing:
                self.written += 1
            self._successor.take_place(self._arrays.values())
        self.written = k + 1

    def give_up(self) -> None:
        """After the last write, whatever ended it: what was to replace an earlier recording goes where it has no whole step, and
        the place is free for others."""
        self._successor.give_up()

    def finish(self, final: np.ndarray | None) -> None:
        """Mark the recording complete; `final` is the sample after the last step, like x_t."""
        if not self.started:
            return
        with _explained(self, "finished"):
            if final is not None:
                self._arrays["final"].write(final)
            self._arrays[PROGRESS].write([self.written, int(self.written == self.steps)])
        self._successor.give_up()

    @property
    def started(self) -> bool:
        return bool(self._arrays)

    @property
    def _half(self) -> bool:
        return self.dtype == np.float16

    @property
    def replacing(self) -> bool:
        """Whether an earlier recording still lies in the place that this one is to take."""
        return self._successor.replacing

    def _plan(self, shape: tuple[int, ...], samples: Mapping[str, list], preview: Preview | None) -> dict[str, Planned]:
        n, dims, nan = self.steps, ("sample", *LATENT_DIMS), float("nan")
        dtype, branches = self.dtype.name, len(self._branches)
        self._levels = {name: np.full(n, nan) for name in (*STEP_COORDS, *LATER_COORDS)}
        return {
            "x_t": Planned(("step", *dims), (n, *shape), dtype, chunks=(1, *shape), fill=nan),
            "prediction": Planned(
                ("step", "branch", *dims), (n, branches, *shape), dtype, chunks=(1, 1, *shape), fill=nan
            ),
            "final": Planned(dims, shape, dtype, fill=nan),
            PROGRESS: Planned.of("progress_field", np.zeros(2, np.int64), coordinate=False),
            "step": Planned.of("step", np.arange(n)),
            "branch": Planned.of("branch", np.array(self._branches, object)),
            **{name: Planned.of("step", values) for name, values in self._levels.items()},
            **{name: Planned.of("sample", values) for name, values in samples.items()},
            **preview_arrays(preview),
        }

    def _watched(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Planned]:
        n = self.steps
        return {
            WATCHED + name: Planned(
                ("step", *(f"{WATCHED}{name}_{i}" for i in range(len(shape)))),
                (n, *shape),
                "float32",
                chunks=(1, *shape),
                fill=float("nan"),
            )
            for name, shape in shapes.items()
        }

    def check_space(self, steps: int, branches: int, shape: tuple[int, ...], watched: int = 0) -> None:
        """Ask the disk whether it will hold a run; see `start`, and `recording_bytes` for `watched`.

        Raises:
            RecordingError: it will not.
        """
        check_space(self.path, recording_bytes(steps, branches, shape, self.dtype, watched), self.dtype)


def known_dtype(name: str) -> np.dtype:
    """The dtype that a recording may have, by name; raises `RecordingError` for another."""
    if name not in DTYPES:
        raise RecordingError(f"record_dtype {name!r} is unknown; choose one of: {', '.join(DTYPES)}.")
    return np.dtype(name)


def recording_bytes(steps: int, branches: int, shape: tuple[int, ...], dtype: Any, watched: int = 0) -> int:
    """Size of a recording's arrays: x_t and every branch at every step, the final latents, and so many bytes a step of what is
    watched. On disk they are compressed a little, and a few kilobytes of metadata and coordinates come with them."""
    return (steps * (branches + 1) + 1) * math.prod(shape) * np.dtype(dtype).itemsize + steps * watched


def free_bytes(path: Path) -> int:
    """How much space is left where a path is, or where it would be made."""
    return shutil.disk_usage(next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())).free


def check_space(path: Path, needed: int, dtype: Any) -> None:
    """Raise `RecordingError` where a recording of this size does not fit."""
    free = free_bytes(path)
    if needed > free:
        smaller = "record_dtype='float16' (half the size), " if np.dtype(dtype).itemsize > 2 else ""
        raise RecordingError(
            f"recording this run to {path} takes {size_text(needed)}, but only {size_text(free)} are free there. Choose another "
            f"place with record='some/folder.zarr', {smaller}fewer steps or frames, or record=False."
        )


def size_text(count: int) -> str:
    """A number of bytes for people: "512 B", "1.5 kB", "20.4 GB".

    >>> size_text(20_440_000_000)
    '20.4 GB'
    """
    power = min((len(str(count)) - 1) // 3, 4)
    return f"{count / 1000**power:.1f} {('B', 'kB', 'MB', 'GB', 'TB')[power]}" if power else f"{count} B"


class _explained:
    """Turn a failed write into one clear error that says what is kept."""

    def __init__(self, recorder: Recorder, what: str) -> None:
        self._recorder, self._what = recorder, what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type | None, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, OSError) and not isinstance(error, RecordingError):
            r = self._recorder
            kept = f"{r.written} whole steps are kept there; open them with lab.open({str(r.path)!r})."
            if not r.written:
                kept = "0 whole steps are kept there, so there is nothing to open."
            elif not has_mark(r.path, MARK):
                kept = f"The {r.written} whole steps that were written there are gone."
            if r.replacing:
                kept = "The earlier recording there is as it was."
            kind = RecordingExistsError if isinstance(error, FileExistsError) else RecordingError
            raise kind(f"{r.path} could not be {self._what}: {error.strerror or error}. {kept}") from error
