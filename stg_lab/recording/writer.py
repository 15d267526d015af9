"""Writing a recording while sampling: memory does not grow, and what is written survives whatever comes after."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stg_lab.errors import RecordingError, RecordingExistsError
from stg_lab.preview import Preview
from stg_lab.recording.chunks import ChunkFiles, Planned, lay_out
from stg_lab.recording.half import keeps_x0, kept
from stg_lab.recording.layout import (
    FORMAT,
    ID,
    LATENT_DIMS,
    LATER_COORDS,
    MARK,
    PLAIN,
    PREVIEW,
    PROGRESS,
    STEP_COORDS,
    X0_KEPT,
)
from stg_lab.recording.previews import preview_arrays
from stg_lab.recording.successor import Successor
from stg_lab.x0 import OneStep

DTYPES = ("float32", "float16")


class Recorder:
    """Writes one run: `claim` the place, `start` once sizes are known, `write` every step, `finish`.

    Args:
        path: folder to make, usually ending in `.zarr`.
        dtype: "float32" (exact), or "float16": half the size. Latents, predictions and x0 keep three digits there, whatever the
            model predicts (`half`).
        overwrite: replace an earlier recording there; anything that is no recording is never replaced. The earlier one stays
            until the first step of the new one is on disk: the new one lies beside it up to then, and takes its place by two
            renames.

    Raises:
        RecordingExistsError: the place is taken.
        RecordingError: the place cannot be written, or an unknown dtype.
    """

    def __init__(self, path: str | Path, *, dtype: str = "float32", overwrite: bool = False) -> None:
        self.path, self.dtype = Path(path).absolute(), known_dtype(dtype)
        self.steps, self.written = 0, 0
        self._branches: tuple[str, ...] = ()
        self._arrays: dict[str, ChunkFiles] = {}
        self._successor = Successor(self.path, _claim(self.path, overwrite))

    def start(
        self,
        *,
        steps: int,
        branches: tuple[str, ...],
        shape: tuple[int, ...],
        settings: Mapping[str, Any],
        samples: Mapping[str, list],
        preview: Preview | None = None,
    ) -> None:
        """Lay out the store, before the first step is written.

        Args:
            steps: how many steps the run will have.
            branches: names of the predictions of a step, in the order in which they are kept.
            shape: of x_t and of every prediction, (sample, channel, frame, y, x).
            settings: everything needed to run this again, as plain values.
            samples: coordinates of the samples, one list each (caption, seed).
            preview: a linear decoder to keep with the recording.

        Raises:
            RecordingError: the disk will not hold the run.
        """
        self.steps, self._branches = steps, branches
        self.check_space(steps, len(branches), shape)
        plan = self._plan(shape, samples, preview)
        with _explained(self, "laid out"):
            mark = {MARK: FORMAT if self._half else PLAIN, ID: self._successor.id}
            self._arrays = lay_out(self._successor.place, plan, {**mark, "settings": dict(settings)})

    def write(self, level: Mapping[str, float], x_t: np.ndarray, predictions: Mapping[str, np.ndarray]) -> None:
        """Append one whole step.

        Args:
            level: the step's coordinates: timestep, sigma, x0_sample, x0_prediction, and any of `LATER_COORDS`.
            x_t: (sample, channel, frame, y, x).
            predictions: arrays like x_t by branch; a branch that was not computed at this step is left out and reads NaN.

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
            for name in STEP_COORDS:
                self._arrays[name].write(level[name], k)
            for name, otherwise in LATER_COORDS.items():
                self._arrays[name].write(level.get(name, otherwise), k)
            self._arrays[PROGRESS].write([k + 1, 0])
            self._successor.take_place(self._arrays.values())
        self.written += 1

    def give_up(self) -> None:
        """After the last write, whatever ended it: what was to replace an earlier recording goes where it has no whole step."""
        self._successor.give_up()

    def finish(self, final: np.ndarray | None) -> None:
        """Mark the recording complete; `final` is the sample after the last step, like x_t."""
        if not self.started:
            return
        with _explained(self, "finished"):
            if final is not None:
                self._arrays["final"].write(final)
            self._arrays[PROGRESS].write([self.written, int(self.written == self.steps)])

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
        level = Planned(("step",), (n,), "float64", chunks=(1,), fill=nan, coordinate=True)
        return {
            "x_t": Planned(("step", *dims), (n, *shape), dtype, chunks=(1, *shape), fill=nan),
            "prediction": Planned(
                ("step", "branch", *dims), (n, branches, *shape), dtype, chunks=(1, 1, *shape), fill=nan
            ),
            "final": Planned(dims, shape, dtype, fill=nan),
            PROGRESS: Planned.of("progress_field", np.zeros(2, np.int64), coordinate=False),
            "step": Planned.of("step", np.arange(n)),
            "branch": Planned.of("branch", np.array(self._branches, object)),
            **dict.fromkeys((*STEP_COORDS, *LATER_COORDS), level),
            **{name: Planned.of("sample", values) for name, values in samples.items()},
            **preview_arrays(preview),
        }

    def check_space(self, steps: int, branches: int, shape: tuple[int, ...]) -> None:
        """Ask the disk whether it will hold a run; see `start`.

        Raises:
            RecordingError: it will not.
        """
        check_space(self.path, recording_bytes(steps, branches, shape, self.dtype), self.dtype)


def known_dtype(name: str) -> np.dtype:
    """The dtype that a recording may have, by name; raises `RecordingError` for another."""
    if name not in DTYPES:
        raise RecordingError(f"record_dtype {name!r} is unknown; choose one of: {', '.join(DTYPES)}.")
    return np.dtype(name)


def recording_bytes(steps: int, branches: int, shape: tuple[int, ...], dtype: Any) -> int:
    """Size of a recording's arrays: x_t and every branch at every step, and the final latents. On disk they are compressed a
    little, and a few kilobytes of metadata and coordinates come with them."""
    return (steps * (branches + 1) + 1) * int(np.prod(shape)) * np.dtype(dtype).itemsize


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


def add_preview(path: Path, preview: Preview) -> None:
    """Keep a preview with a recording that was written without one, or replace it.

    Raises:
        RecordingError: the recording cannot be written to.
    """
    import zarr

    try:
        group = zarr.open_group(path, mode="r+", use_consolidated=False)
        for name, value in preview.to_dict().items():
            array = np.asarray(value)
            dims = [f"{PREVIEW}{name}_{i}" for i in range(array.ndim)]
            group.create_array(PREVIEW + name, data=array, overwrite=True, dimension_names=dims)
    except OSError as error:
        raise RecordingError(f"the preview could not be kept in {path}: {error.strerror or error}.") from error


def _claim(path: Path, overwrite: bool) -> bool:
    """Check the place before anything is computed; returns whether an earlier recording is to be replaced."""
    if not path.exists():
        parent = next(p for p in path.absolute().parents if p.exists())
        if not parent.is_dir():
            raise RecordingError(f"{path} cannot be made: {parent} is a file, not a folder.")
        return False
    if path.is_dir() and not any(path.iterdir()):
        path.rmdir()
        return False
    from stg_lab.recording.reader import is_recording

    if not is_recording(path):
        raise RecordingExistsError(
            f"{path} exists and is not a recording of the lab; it is left alone. Choose another name."
        )
    if not overwrite:
        raise RecordingExistsError(
            f"{path} already holds a recording. Choose another name, or pass overwrite=True to replace it."
        )
    return True


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
            if r.replacing:
                kept = "The earlier recording there is as it was."
            raise RecordingError(f"{r.path} could not be {self._what}: {error.strerror or error}. {kept}") from error
