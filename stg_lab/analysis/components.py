"""The few directions that all guidance vectors of a recording share, and their paths among them."""

from __future__ import annotations

import numpy as np
import xarray as xr

from stg_lab.analysis.directions import chosen_vectors, vectors_at
from stg_lab.errors import RecordingError
from stg_lab.given import Whole, takes
from stg_lab.recording import Recording, Source, recording_of
from stg_lab.recording.layout import LATENT_DIMS


@takes(count=Whole(1, 1000))
def components(
    recording: Source, *names: str, sample: int | None = None, count: int = 2, unit: bool = False
) -> xr.Dataset:
    """Principal components of the guidance vectors of all steps, and each vector's steps as a path among them.

    Every vector at every step is one point; the components are the directions in which the points differ most (scikit-learn's
    PCA, centred, exact). No guidance at all, the vector 0, is a point too: `origin`.

    Args:
        recording: any recording with a guidance vector.
        names: branches that the vectors point away from, such as "uncond"; all by default.
        sample: one sample, with components of its own; None takes all samples together.
        count: how many components.
        unit: give every vector the length 1 first, so that long ones do not decide the directions alone.

    Returns:
        Dataset with

        - `score (vector, step, sample, component)`: the path of each vector; NaN where it was not computed;
        - `origin (component)`: where the vector 0 lies;
        - `explained (component)`: share of the points' variance;
        - `direction (component, channel, frame, y, x)`: the components, of length 1;
        - `mean (channel, frame, y, x)`: of all points.

    Raises:
        GuidanceError: no such vector.
        RecordingError: no such sample, or fewer points than components.
    """
    recording = recording_of(recording)
    from sklearn.decomposition import PCA

    chosen = chosen_vectors(recording, names, least=1)
    samples = _samples(recording, sample)
    points = np.stack([vectors_at(recording, chosen, k)[:, samples] for k in range(recording.steps)], axis=1)
    shape = points.shape  # [vector, step, sample, channel, frame, y, x]
    rows = points.reshape(int(np.prod(shape[:3])), -1).astype(np.float64)
    there = np.isfinite(rows).all(1)
    if unit:
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        rows = rows / np.where(lengths > 0, lengths, 1)
    if not 1 <= count <= min(there.sum(), rows.shape[1]):
        raise RecordingError(
            f"count={count} components of {there.sum()} guidance vectors cannot be; give 1 to {there.sum()}."
        )
    mean = rows[there].mean(0)
    centred = rows[there] - mean
    # The points are few and their dimensions many: turned into as many dimensions as there are points, they are all that they were.
    few = _turned(centred)
    pca = PCA(n_components=count, svd_solver="full").fit(few)
    score = np.full((len(rows), count), np.nan)
    reached = pca.transform(few)
    furthest = reached[np.abs(reached).argmax(0), np.arange(count)]
    score[there] = reached * np.where(
        furthest < 0, -1, 1
    )  # either sign is right: the furthest point lies on the positive side
    energy = (score[there] ** 2).sum(0)[:, None]
    direction = score[there].T @ centred / np.where(energy > 0, energy, 1)
    return xr.Dataset(
        {
            "score": (("vector", "step", "sample", "component"), score.reshape(*shape[:3], count)),
            "origin": ("component", -direction @ mean),
            "explained": ("component", pca.explained_variance_ratio_),
            "direction": (("component", *LATENT_DIMS), direction.reshape(count, *shape[3:])),
            "mean": (LATENT_DIMS, mean.reshape(shape[3:])),
        },
        coords={"vector": chosen, "step": recording.ds.step.values, "component": np.arange(1, count + 1)},
        attrs={"unit": int(unit)},
    )


def _turned(points: np.ndarray) -> np.ndarray:
    """Points `(point, dimension)` with the same inner products in as many dimensions as there are points."""
    squares, axes = np.linalg.eigh(points @ points.T)
    return axes * np.sqrt(squares.clip(0))


def _samples(recording: Recording, sample: int | None) -> list[int]:
    count = recording.ds.sizes["sample"]
    if sample is None:
        return list(range(count))
    if not 0 <= sample < count:
        raise RecordingError(f"sample {sample} is out of range: this recording has samples 0 to {count - 1}.")
    return [sample]
