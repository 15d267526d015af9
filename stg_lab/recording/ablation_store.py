"""Writing an ablation: model by model, so that a sweep that was cut off goes on with what is missing.

A marker is written after the data of each weak pass, so whatever it counts is there.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stg_lab.errors import RecordingError, RecordingExistsError
from stg_lab.guidance.scores import SCORES
from stg_lab.recording.ablation import FORMAT, MARK, MISSING, MODEL, is_ablation
from stg_lab.recording.layout import LATENT_DIMS
from stg_lab.recording.writer import free_bytes, size_text

Index = tuple[int, int, int]  # of a weak model, by layer, part and axis


@dataclass(frozen=True)
class Layout:
    """What an ablation holds.

    Attributes:
        steps, layers, parts, axes: coordinates.
        weak: specification of each weak model `(layer, part, axis)`; "" where there is none.
        why: why there is none; "" where there is one.
        captions, seeds: of every sample, run after run.
        runs: how many runs the samples come from, in equal shares.
        dtype: of the one-step predictions.
        keep_x0: whether those of the weak models are kept.
        arguments: what was asked for, as plain values; whoever resumes must ask for the same.
        settings: what else there is to know.
    """

    steps: Sequence[int]
    layers: Sequence[int]
    parts: Sequence[str]
    axes: Sequence[str]
    weak: np.ndarray
    why: np.ndarray
    captions: Sequence[str]
    seeds: Sequence[int]
    runs: int
    dtype: str
    keep_x0: bool
    arguments: Mapping[str, Any]
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def batch(self) -> int:
        """Samples of one run."""
        return len(self.seeds) // self.runs

    @property
    def models(self) -> list[Index]:
        """Indices of the weak models that there are."""
        return [tuple(map(int, index)) for index in np.argwhere(self.weak != "")]  # type: ignore[misc]


class AblationStore:
    """Writes one ablation, or goes on with one.

    Args:
        path: folder to make, usually ending in `.zarr`.
        layout: what it will hold.
        overwrite: replace an earlier ablation there; anything else is never replaced.

    Raises:
        RecordingExistsError: something else is there, or an ablation that was asked for otherwise.
    """

    def __init__(self, path: str | Path, layout: Layout, *, overwrite: bool = False) -> None:
        self.path, self.layout = Path(path), layout
        self._group: Any = None
        self._replace = False
        if self.path.exists() and not (self.path.is_dir() and not any(self.path.iterdir())):
            if not is_ablation(self.path):
                raise RecordingExistsError(
                    f"{self.path} exists and is not an ablation of the lab; it is left alone. Choose another name."
                )
            self._replace = overwrite
            if not overwrite:
                self._check_same()
                self._open()
        self.made = np.zeros(self._made_shape, np.int8) if self._group is None else self._group["made"][...]

    @property
    def started(self) -> bool:
        """Whether there is anything on disk yet."""
        return self._group is not None

    def missing(self, run: int, step: int) -> list[Index]:
        """The weak models still to be run, by numbers of the run and of the step among the wanted ones."""
        return [index for index in self.layout.models if self.made[(run, step, *index)] == MISSING]

    @property
    def left(self) -> int:
        """How many weak passes are missing."""
        made, runs, steps = self.layout.models, self.layout.runs, len(self.layout.steps)
        return sum(self.made[(r, k, *index)] == MISSING for r in range(runs) for k in range(steps) for index in made)

    def start(self, shape: tuple[int, ...], *, uncond: bool) -> None:
        """Lay out the store once the latents' size is known; does nothing where that was done.

        Args:
            shape: of the predictions of a run, (sample, channel, frame, y, x).
            uncond: whether there is an unconditional prediction.

        Raises:
            RecordingError: the disk will not hold it, or the sizes are not those of the sweep that is resumed.
        """
        if self.started:
            there = self._group["x0_cond"].shape[2:]
            if there != tuple(shape[1:]):
                raise RecordingError(
                    f"{self.path} holds latents {there}, and this run has {shape[1:]}. Choose a new name."
                )
            return
        self.check_space(shape)
        if self._replace:
            shutil.rmtree(self.path)
        template = self._template((len(self.layout.seeds), *shape[1:]), uncond)
        one = (self.layout.batch, *shape[1:])
        chunks = {
            "scores": (1, 1, 1, 1, len(SCORES), self.layout.batch),
            "made": (1, 1, *self.layout.weak.shape),
            **dict.fromkeys(("x0_cond", "x0_uncond"), (1, *one)),
            "x0": (1, 1, 1, 1, *one),
        }
        flat = {"name": "default", "configuration": {"separator": "."}}  # one file a chunk, without a tree of folders
        encoding = {n: {"chunks": size, "chunk_key_encoding": flat} for n, size in chunks.items() if n in template}
        with self._explained(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zarr's notes on strings in the v3 format: both ends are ours
            self.path.parent.mkdir(parents=True, exist_ok=True)
            template.to_zarr(self.path, mode="w-", compute=False, zarr_format=3, consolidated=False, encoding=encoding)
        self._open()

    def write_state(
        self, run: int, step: int, timestep: float, sigma: float, x0: Mapping[str, np.ndarray | None]
    ) -> None:
        """Keep what a state gave without weak models.

        Args:
            x0: one-step predictions "x0_cond" and "x0_uncond", (sample, channel, frame, y, x).
        """
        with self._explained():
            for name, values in x0.items():
                if values is not None:
                    self._group[name][step, self._samples(run)] = values.astype(self.layout.dtype)
            self._group["timestep"][step], self._group["sigma"][step] = timestep, sigma

    def x0_cond(self, run: int, step: int) -> np.ndarray | None:
        """What was kept by `write_state`, if it was."""
        x0 = self._group["x0_cond"][step, self._samples(run)].astype(np.float32)
        return None if np.isnan(x0).all() else x0

    def write(
        self, run: int, step: int, found: Mapping[Index, tuple[int, Mapping[str, np.ndarray], np.ndarray | None]]
    ) -> None:
        """Keep weak passes that were made together: either all of them count as made afterwards, or none.

        Args:
            found: by weak model, what became of it (`MADE`, `NOTHING_CHANGED` or `REFUSED`), its scores, and its one-step
                prediction.
        """
        samples, marks = self._samples(run), self.made[run, step].copy()
        with self._explained():
            for index, (what, scores, x0) in found.items():
                if scores:
                    self._group["scores"][(step, *index, slice(None), samples)] = np.stack([scores[n] for n in SCORES])
                if x0 is not None and "x0" in self._group:
                    self._group["x0"][(step, *index, samples)] = x0.astype(self.layout.dtype)
                marks[index] = what
            self._group["made"][run, step] = marks
        self.made[run, step] = marks

    def note(self, specification: str, why: str) -> None:
        """Keep why a weak model could not be run."""
        self._group.attrs["refused"] = {**self._group.attrs.get("refused", {}), specification: why}

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn a failed write into one clear error."""
        try:
            yield
        except OSError as error:
            raise RecordingError(f"{self.path} could not be written: {error.strerror or error}.") from error

    def _samples(self, run: int) -> slice:
        return slice(run * self.layout.batch, (run + 1) * self.layout.batch)

    @property
    def _made_shape(self) -> tuple[int, ...]:
        return (self.layout.runs, len(self.layout.steps), *self.layout.weak.shape)

    def _open(self) -> None:
        """Chunks of nothing but NaN are written too, so that a missing one means that it was not written."""
        import zarr

        with zarr.config.set({"array.write_empty_chunks": True}):
            group = zarr.open_group(self.path, mode="r+", use_consolidated=False)
            self._group = _Group(group)

    def _check_same(self) -> None:
        attrs = json.loads((self.path / "zarr.json").read_text())["attributes"]
        before, now = attrs["arguments"], json.loads(json.dumps(self.layout.arguments))
        differ = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        if differ:
            told = "; ".join(f"{n}: {_short(before.get(n))} there, {_short(now.get(n))} now" for n in differ)
            raise RecordingExistsError(
                f"{self.path} holds an ablation that was asked for otherwise ({told}). Ask for the same to go on with it, "
                "choose another name, or pass overwrite=True to begin anew."
            )

    def check_space(self, shape: tuple[int, ...]) -> None:
        """Ask the disk whether it will hold the sweep; see `start`.

        Raises:
            RecordingError: it will not.
        """
        states = len(self.layout.steps) * self.layout.runs
        each = int(np.prod(shape)) * np.dtype(self.layout.dtype).itemsize
        needed = states * each * (2 + len(self.layout.models) * self.layout.keep_x0)
        free = free_bytes(self.path)
        if needed > free:
            raise RecordingError(
                f"this sweep takes {size_text(needed)} at {self.path}, but only {size_text(free)} are free there. Type "
                "keep_x0=False for scores alone, record_dtype='float16' for half the size, or choose another place with record=."
            )

    def _template(self, shape: tuple[int, ...], uncond: bool) -> Any:
        import dask.array as da
        import xarray as xr

        plan, dims = self.layout, ("sample", *LATENT_DIMS)

        def lazy(dtype: str, *size: int) -> Any:  # only metadata is written from these, never values
            return da.full(size, np.nan if dtype != "int8" else MISSING, dtype=dtype, chunks=-1)

        steps, models = len(plan.steps), plan.weak.shape
        arrays = {
            "scores": (("step", *MODEL, "score", "sample"), lazy("float64", steps, *models, len(SCORES), shape[0])),
            "made": (("run", "step", *MODEL), lazy("int8", *self._made_shape)),
            "x0_cond": (("step", *dims), lazy(plan.dtype, steps, *shape)),
        }
        if uncond:
            arrays["x0_uncond"] = (("step", *dims), lazy(plan.dtype, steps, *shape))
        if plan.keep_x0:
            arrays["x0"] = (("step", *MODEL, *dims), lazy(plan.dtype, steps, *models, *shape))
        coords = {
            "step": np.array(plan.steps),
            "layer": np.array(plan.layers),
            **{n: np.array(v, object) for n, v in (("part", plan.parts), ("axis", plan.axes), ("score", list(SCORES)))},
            "caption": ("sample", np.array(plan.captions, object)),
            "seed": ("sample", np.array(plan.seeds)),
            "weak": (MODEL, plan.weak.astype(object)),
            "why": (MODEL, plan.why.astype(object)),
            **{name: ("step", np.full(steps, np.nan)) for name in ("timestep", "sigma")},
        }
        attrs = {MARK: FORMAT, "arguments": dict(plan.arguments), "settings": dict(plan.settings)}
        return xr.Dataset(arrays, coords=coords, attrs=attrs)


class _Group:
    """The arrays of a store, opened once each."""

    def __init__(self, group: Any) -> None:
        self.attrs, self._arrays = group.attrs, dict(group.arrays())

    def __getitem__(self, name: str) -> Any:
        return self._arrays[name]

    def __contains__(self, name: str) -> bool:
        return name in self._arrays


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
