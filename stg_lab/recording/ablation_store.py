"""Writing an ablation: model by model, so that a sweep that was cut off goes on with what is missing.

A marker is written after the data of each weak pass, so whatever it counts is there.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stg_lab.errors import RecordingError, RecordingExistsError
from stg_lab.guidance.scores import SCORES
from stg_lab.preview import Preview
from stg_lab.recording.ablation import FORMAT, MARK, MISSING, MODEL, is_ablation
from stg_lab.recording.chunks import ChunkFiles, chunk_files, lay_out
from stg_lab.recording.claim import claimed
from stg_lab.recording.documents import array_sums, read_documents, write_root
from stg_lab.recording.layout import ID, LATENT_DIMS, PREVIEW
from stg_lab.recording.planned import Planned
from stg_lab.recording.previews import add_preview, preview_arrays
from stg_lab.recording.store import opening
from stg_lab.recording.successor import Successor, recover
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
        preview: a linear decoder to keep with the sweep, so that its predictions can be looked at without the model.
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
    preview: Preview | None = None

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
        overwrite: replace an earlier ablation there; anything else is never replaced. The earlier one stays until the first weak
            passes of the new one are on disk.

    Raises:
        RecordingExistsError: something else is there, or an ablation that was asked for otherwise.
    """

    def __init__(self, path: str | Path, layout: Layout, *, overwrite: bool = False) -> None:
        self.path, self.layout = Path(path).absolute(), layout
        self._arrays: dict[str, ChunkFiles] = {}
        recover(self.path)
        if is_ablation(self.path) and not overwrite:
            self._successor = Successor.there(self.path)
            self._resume()
        else:
            self._successor = claimed(self.path, overwrite, MARK, "an ablation")
        self.made = self._made() if self.started else np.full(self._made_shape, MISSING, np.int8)

    def _resume(self) -> None:
        """Go on with the sweep that is there."""
        with opening(self.path, "an ablation", MARK, "lab.ablate"):
            self._check_same()
            self._arrays = chunk_files(self.path, MARK, FORMAT)
        # A sweep from before there were previews has none.
        if self.layout.preview is not None and f"{PREVIEW}rest" not in self._arrays:
            add_preview(self.path, self.layout.preview, MARK, FORMAT)

    @property
    def started(self) -> bool:
        """Whether there is anything on disk yet."""
        return bool(self._arrays)

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
            there = self._arrays["x0_cond"].plan.shape[2:]
            if there != tuple(shape[1:]):
                raise RecordingError(
                    f"{self.path} holds latents {there}, and this run has {shape[1:]}. Choose a new name."
                )
            return
        self.check_space(shape)
        plan = self._plan((len(self.layout.seeds), *shape[1:]), uncond)
        attributes = {
            MARK: FORMAT,
            ID: self._successor.id,
            "arguments": dict(self.layout.arguments),
            "settings": dict(self.layout.settings),
        }
        with self._explained(), self._successor.laying_out() as place:
            arrays = lay_out(place, plan, attributes)
        for files in arrays.values():
            files.moved(self._successor.place)
        self._arrays = arrays

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
                    self._arrays[name].write(values, step, run)
            self._arrays["timestep"].write(timestep, step)
            self._arrays["sigma"].write(sigma, step)

    def x0_cond(self, run: int, step: int) -> np.ndarray | None:
        """What was kept by `write_state`, if it was."""
        try:
            x0 = self._arrays["x0_cond"].read(step, run)[0].astype(np.float32)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RuntimeError) as error:
            raise RecordingError(
                f"{self.path} is damaged: x0_cond of run {run} and step {step} cannot be read ({error}). Begin anew with "
                "overwrite=True."
            ) from error
        return None if np.isnan(x0).all() else x0

    def write(
        self, run: int, step: int, found: Mapping[Index, tuple[int, Mapping[str, np.ndarray], np.ndarray | None]]
    ) -> None:
        """Keep weak passes that were made together: either all of them count as made afterwards, or none.

        Args:
            found: by weak model, what became of it (`MADE`, `NOTHING_CHANGED` or `REFUSED`), its scores, and its one-step
                prediction.
        """
        marks = self.made[run, step].copy()
        with self._explained():
            for index, (what, scores, x0) in found.items():
                if scores:
                    self._arrays["scores"].write(np.stack([scores[n] for n in SCORES]), step, *index, 0, run)
                if x0 is not None and "x0" in self._arrays:
                    self._arrays["x0"].write(x0, step, *index, run)
                marks[index] = what
            self._arrays["made"].write(marks, run, step)
            self._successor.take_place(self._arrays.values())
        self.made[run, step] = marks

    def give_up(self) -> None:
        """After the last write, whatever ended it: what was to replace an earlier ablation goes where it has no weak pass."""
        self._successor.give_up()

    def note(self, specification: str, why: str) -> None:
        """Keep why a weak model could not be run."""
        with self._explained():
            found = read_documents(self._successor.place, MARK, FORMAT)
            refused = {**found.attributes.get("refused", {}), specification: why}
            write_root(
                self._successor.place, {**found.attributes, "refused": refused}, array_sums(self._successor.place)
            )

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn a failed write into one clear error."""
        try:
            yield
        except OSError as error:
            kept = " The earlier ablation there is as it was." if self._successor.replacing else ""
            raise RecordingError(f"{self.path} could not be written: {error.strerror or error}.{kept}") from error

    def _made(self) -> np.ndarray:
        """What became of each weak pass, as it lies on disk."""
        made = np.full(self._made_shape, MISSING, np.int8)
        for index in np.ndindex(self._made_shape[:2]):
            with contextlib.suppress(FileNotFoundError):  # nothing of this state was made
                made[index] = self._arrays["made"].read(*index)[0, 0]
        return made

    @property
    def _made_shape(self) -> tuple[int, ...]:
        return (self.layout.runs, len(self.layout.steps), *self.layout.weak.shape)

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

    def _plan(self, shape: tuple[int, ...], uncond: bool) -> dict[str, Planned]:
        plan, steps, models, nan = self.layout, len(self.layout.steps), self.layout.weak.shape, float("nan")
        dims, one = ("sample", *LATENT_DIMS), (self.layout.batch, *shape[1:])
        x0 = Planned(("step", *dims), (steps, *shape), plan.dtype, chunks=(1, *one), fill=nan)
        weak_x0 = Planned(
            ("step", *MODEL, *dims), (steps, *models, *shape), plan.dtype, chunks=(1, 1, 1, 1, *one), fill=nan
        )
        scores = Planned(
            ("step", *MODEL, "score", "sample"),
            (steps, *models, len(SCORES), shape[0]),
            "float64",
            chunks=(1, 1, 1, 1, len(SCORES), plan.batch),
            fill=nan,
        )
        level = Planned(("step",), (steps,), "float64", chunks=(1,), fill=nan, coordinate=True)
        return {
            "scores": scores,
            "made": Planned(("run", "step", *MODEL), self._made_shape, "int8", chunks=(1, 1, *models), fill=MISSING),
            "x0_cond": x0,
            **({"x0_uncond": x0} if uncond else {}),
            **({"x0": weak_x0} if plan.keep_x0 else {}),
            "step": Planned.of("step", np.array(plan.steps)),
            "layer": Planned.of("layer", np.array(plan.layers)),
            "part": Planned.of("part", np.array(plan.parts, object)),
            "axis": Planned.of("axis", np.array(plan.axes, object)),
            "score": Planned.of("score", np.array(list(SCORES), object)),
            "caption": Planned.of("sample", np.array(plan.captions, object)),
            "seed": Planned.of("sample", np.array(plan.seeds)),
            "weak": Planned.of(MODEL, plan.weak.astype(object)),
            "why": Planned.of(MODEL, plan.why.astype(object)),
            "timestep": level,
            "sigma": level,
            **preview_arrays(plan.preview),
        }


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
