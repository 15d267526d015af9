"""What guidance vectors are like at every step, over many videos: recorded, measured, and let go."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stg_lab.evidence.cells import BATCH, Cell, begun, once
from stg_lab.evidence.statistics import Estimate, mean
from stg_lab.evidence.subjects import subject
from stg_lab.guidance import COND, GUIDED
from stg_lab.metrics import laplacian_variance
from stg_lab.recording import Recording
from stg_lab.sampling import sample
from stg_lab.sweeps import ALONE, Workers

SIGMA = "sigma"  # beside the numbers by kind and branch


@dataclass(frozen=True)
class Vectors:
    """Numbers of every video at every step.

    Attributes:
        sharpness: of each branch's one-step prediction, decoded, by branch: `(video, step)`.
        cosine: between guidance vectors, by pair of branches: `(video, step)`.
        norm: root mean square of each guidance vector, by branch: `(video, step)`.
        sigma: noise level of each step.
    """

    sharpness: dict[str, np.ndarray]
    cosine: dict[tuple[str, str], np.ndarray]
    norm: dict[str, np.ndarray]
    sigma: np.ndarray
    folder: str = ""

    def between(self, one: str, other: str) -> np.ndarray:
        """Cosine between the guidance vectors of two branches, in whichever order they were measured, `(video, step)`."""
        return self.cosine[one, other] if (one, other) in self.cosine else self.cosine[other, one]

    def of_sum(self, parts: Sequence[str], other: str) -> np.ndarray:
        """Cosine between the sum of some branches' vectors, at equal scales, and another one's, `(video, step)`."""
        along = sum(self.norm[part] * self.between(part, other) for part in parts)
        squared = sum(self.norm[part] ** 2 for part in parts)
        for one, two in itertools.combinations(parts, 2):
            squared = squared + 2 * self.norm[one] * self.norm[two] * self.between(one, two)
        return np.asarray(along / np.sqrt(squared))

    def over_steps(self, values: np.ndarray) -> list[Estimate]:
        """Mean over videos at each step."""
        return [mean(values[:, k]) for k in range(values.shape[1])]


def vectors(
    cell: Cell, root: Path, count: int, told: Callable[[int], None] = lambda done: None, workers: Workers = ALONE
) -> dict[str, np.ndarray]:
    """Record a cell's first videos and measure the guidance vectors; parts that were measured before are read.

    Args:
        told: called with how many videos are done.

    Returns:
        Numbers by kind and branch, each `(video, step)`, for `named_vectors`.
    """
    folder = begun(cell, root)

    def measure() -> dict[str, np.ndarray]:
        batches = [(cell, folder, first, min(BATCH, count - first)) for first in range(0, count, BATCH)]
        for done, _ in enumerate(workers.do(_part, batches), start=1):
            told(min(done * BATCH, count))
        parts = [_part(*batch) for batch in batches]  # from disk
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    return once(folder / f"vectors-{count}.npz", measure)


def named_vectors(values: Mapping[str, np.ndarray], folder: str) -> Vectors:
    """What `vectors` measured, by name."""

    def named(kind: str) -> dict[str, np.ndarray]:
        return {n.split(" ", 1)[1]: v for n, v in values.items() if n.startswith(kind + " ")}

    cosine = {tuple(pair.split(" | ")): v for pair, v in named("cosine").items()}
    return Vectors(named("sharpness"), cosine, named("norm"), values[SIGMA][0], folder)  # type: ignore[arg-type]


def _part(cell: Cell, folder: Path, first: int, count: int) -> dict[str, np.ndarray]:
    def measure() -> dict[str, np.ndarray]:
        who = subject(cell.model)
        run = sample(
            who.pipe,
            guidance=cell.guidance,
            num_inference_steps=cell.steps,
            **who.call(first, count),
        )
        return measured(run.recording)

    return once(folder / f"vectors-{first:05d}-{count}.npz", measure)


def measured(recording: Recording) -> dict[str, np.ndarray]:
    """Numbers of one recording, by kind and branch; each `(sample, step)`."""
    weak = [name for name in recording.branches if name not in (COND, GUIDED)]
    found: dict[str, list[np.ndarray]] = {}
    for k in range(recording.steps):
        step = {name: recording.prediction(name).isel(step=k).values for name in (COND, *weak)}
        vector = {name: (step[COND] - step[name]).reshape(len(step[COND]), -1) for name in weak}
        lengths = {name: np.linalg.norm(v, axis=1) for name, v in vector.items()}
        for name in (COND, *weak):
            x0 = recording.x0(name).isel(step=k).values
            found.setdefault(f"sharpness {name}", []).append(laplacian_variance(recording.preview(x0).clip(0, 1)))
        for i, one in enumerate(weak):
            found.setdefault(f"norm {one}", []).append(lengths[one] / vector[one].shape[1] ** 0.5)
            for two in weak[i + 1 :]:
                inner = (vector[one] * vector[two]).sum(1)
                found.setdefault(f"cosine {one} | {two}", []).append(inner / (lengths[one] * lengths[two] + 1e-12))
    numbers = {name: np.stack(v, axis=1).astype(np.float32) for name, v in found.items()}
    return numbers | {SIGMA: np.tile(recording.ds.sigma.values, (len(numbers["sharpness " + COND]), 1))}
