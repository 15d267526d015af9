"""Where guidance vectors point: angles between them, what eq. 21 takes away, and what chance alone would give."""

from __future__ import annotations

import numpy as np
import xarray as xr

from stg_lab.analysis.directions import chosen_vectors, space_and_time, vectors_at
from stg_lab.errors import GuidanceError
from stg_lab.given import Text, Whole, takes
from stg_lab.guidance.vectors import parallel
from stg_lab.recording import Source, recording_of
from stg_lab.recording.layout import LATENT_DIMS


def angles(recording: Source, *names: str) -> xr.Dataset:
    """Cosine and angle between every two guidance vectors, at every step: over the whole clip, and frame by frame.

    Args:
        recording: any recording with two guidance vectors or more.
        names: branches that the vectors point away from, such as "uncond"; all by default.

    Returns:
        Dataset over `(vector, other, step, sample)`:

        - `cosine`, `angle` (degrees): of the vectors of the whole clip;
        - `coefficient`: the part of `other` along `vector` is coefficient x vector, which eq. 21 of the paper removes;
        - `frame_cosine`, `frame_angle`: of each latent frame by itself, with the dim `frame` last.

        NaN where a branch was not computed at a step, and where a vector has no length. `attrs["dimensions"]` and
        `attrs["frame_dimensions"]` say in how many dimensions the vectors lie, for `random_cosine`.

    Raises:
        GuidanceError: no such vector.
        RecordingError: fewer than two vectors.
    """
    recording = recording_of(recording)
    chosen = chosen_vectors(recording, names)
    grams = np.stack([_gram(vectors_at(recording, chosen, k)) for k in range(recording.steps)])
    by_frame = grams.transpose(3, 4, 0, 1, 2)  # [vector, other, step, sample, frame]
    dims = ("vector", "other", "step", "sample")
    whole = by_frame.sum(-1)
    cosine, frame_cosine = _cosine(whole), _cosine(by_frame)
    result = xr.Dataset(
        {
            "cosine": (dims, cosine),
            "angle": (dims, np.degrees(np.arccos(cosine))),
            "coefficient": (dims, _over(whole, np.einsum("vvks->vks", whole)[:, None])),
            "frame_cosine": ((*dims, "frame"), frame_cosine),
            "frame_angle": ((*dims, "frame"), np.degrees(np.arccos(frame_cosine))),
        },
        coords={"vector": chosen, "other": chosen, "step": recording.ds.step.values},
    )
    for name in result:
        result[name].attrs["units"] = "degree" if "angle" in str(name) else "1"
    sizes = recording.ds.sizes
    count = int(np.prod([sizes[d] for d in LATENT_DIMS]))
    result.attrs = {"dimensions": count, "frame_dimensions": count // sizes["frame"]}
    return result


@takes(dimensions=Whole(1))
def random_cosine(dimensions: int) -> float:
    """The standard deviation of the cosine between two random vectors, `1 / sqrt(dimensions)`; its mean is 0.

    For vectors whose directions are uniform on the sphere. Guidance vectors are smooth, so fewer of their numbers are free
    than they have dimensions: `shifted_cosine` asks the same of vectors as smooth as they are.

    >>> random_cosine(10_000)
    0.01
    """
    return float(dimensions) ** -0.5


def shifted_cosine(recording: Source, *names: str) -> xr.DataArray:
    """What cosine two vectors have by chance that are as smooth as these: one is moved over the other.

    Moved by every shift in frame, y and x (round the edges), a vector keeps its length, its smoothness and its mean colour,
    but no longer points at the same places. Where two vectors are not in one place by more than chance, their cosine is
    about as large as those.

    Args:
        recording: any recording with two guidance vectors or more.
        names: branches that the vectors point away from; all by default.

    Returns:
        Root mean square of the cosines over all shifts but the one by nothing, `(vector, other, step, sample)`; NaN where a
        branch was not computed.

    Raises:
        GuidanceError: no such vector.
        RecordingError: fewer than two vectors.
    """
    recording = recording_of(recording)
    chosen = chosen_vectors(recording, names)
    rows = [_shifted(vectors_at(recording, chosen, k).astype(np.float64)) for k in range(recording.steps)]
    coords = {"vector": chosen, "other": chosen, "step": recording.ds.step.values}
    return xr.DataArray(np.stack(rows, axis=2), coords, ("vector", "other", "step", "sample"))


def _shifted(vectors: np.ndarray) -> np.ndarray:
    """`shifted_cosine` of one step's vectors `(vector, sample, channel, frame, y, x)`."""
    spectra = np.fft.fftn(vectors, axes=(3, 4, 5))  # a correlation over all shifts is a product of spectra
    lengths = np.sqrt((vectors**2).sum((2, 3, 4, 5)))
    chance = np.empty((len(vectors), *vectors.shape[:2]))
    for i, one in enumerate(spectra):
        for j, other in enumerate(spectra[: i + 1]):
            inner = np.fft.ifftn((one * other.conj()).sum(1), axes=(1, 2, 3)).real.reshape(vectors.shape[1], -1)
            rms = np.sqrt((inner[:, 1:] ** 2).mean(1))  # the first is no shift at all
            chance[i, j] = chance[j, i] = _over(rms, lengths[i] * lengths[j])
    return chance


@takes(spatial=Text(), temporal=Text(), loses=Text(), per=Text())
def removed(
    recording: Source,
    spatial: str | None = None,
    temporal: str | None = None,
    *,
    loses: str = "temporal",
    per: str = "sample",
) -> xr.Dataset:
    """What making the two vectors orthogonal takes away at every step (paper, eq. 21 and Alg. 5).

    Args:
        recording: holds both vectors.
        spatial, temporal: their branches; by default the first weak model along each axis. Any two vectors may be given.
        loses: "temporal" as in the paper, or "spatial": which of the two loses its part along the other.
        per: "sample", over everything of a sample, or "frame", for each frame by itself.

    Returns:
        Dataset with

        - `vector`: the loser before, `(step, sample, channel, frame, y, x)`;
        - `removed`: its part along the other vector, and `left`: the rest, orthogonal to it;
        - `share (step, sample)`: the removed part's share of the loser's energy; for `per="sample"` the squared cosine;
        - `coefficient (step, sample)`: removed = coefficient x the vector that is kept (`per="sample"` only). Below zero the
          two point apart, and eq. 21 adds to what is kept instead of taking from it.

    Raises:
        GuidanceError: no such vectors, or an unknown argument.
    """
    recording = recording_of(recording)
    if loses not in ("temporal", "spatial") or per not in ("sample", "frame"):
        raise GuidanceError(
            f"removed takes loses='temporal' or 'spatial' and per='sample' or 'frame', got loses={loses!r}, per={per!r}."
        )
    if spatial is None or temporal is None:
        found = space_and_time(recording)
        spatial, temporal = spatial or found[0], temporal or found[1]
    kept, loser = (spatial, temporal) if loses == "temporal" else (temporal, spatial)
    chosen_vectors(recording, (kept, loser), least=1)
    parts: dict[str, list[np.ndarray]] = {name: [] for name in ("vector", "removed", "share", "coefficient")}
    for k in range(recording.steps):
        keep, vector = vectors_at(recording, (kept, loser), k)
        along = parallel(vector, keep, per)
        energy = _inner(vector, vector)
        parts["vector"].append(vector)
        parts["removed"].append(along)
        parts["share"].append(_over(_inner(along, along), energy))
        parts["coefficient"].append(_over(_inner(vector, keep), _inner(keep, keep)))
    dims = ("step", "sample")
    stacked = {name: np.stack(rows) for name, rows in parts.items()}
    result = xr.Dataset(
        {
            "vector": ((*dims, *LATENT_DIMS), stacked["vector"]),
            "removed": ((*dims, *LATENT_DIMS), stacked["removed"]),
            "left": ((*dims, *LATENT_DIMS), stacked["vector"] - stacked["removed"]),
            "share": (dims, stacked["share"]),
            "coefficient": (dims, stacked["coefficient"]),
        },
        coords={"step": recording.ds.step.values},
        attrs={"kept": kept, "loses": loser, "per": per},
    )
    return result if per == "sample" else result.drop_vars("coefficient")


def _gram(vectors: np.ndarray) -> np.ndarray:
    """Inner products of vectors `(vector, sample, channel, frame, y, x)`, as float64 `(sample, frame, vector, other)`."""
    rows = vectors.astype(np.float64).transpose(1, 3, 0, 2, 4, 5)
    rows = rows.reshape(*rows.shape[:3], -1)
    return rows @ rows.swapaxes(-1, -2)


def _cosine(gram: np.ndarray) -> np.ndarray:
    """Inner products `(vector, other, ...)` over both lengths; NaN where there is no length."""
    lengths = np.sqrt(np.einsum("vv...->v...", gram))
    return np.clip(_over(gram, lengths[:, None] * lengths[None]), -1, 1)


def _inner(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Inner product of each sample, float64."""
    return (a.astype(np.float64) * b).sum((1, 2, 3, 4))


def _over(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """A quotient; NaN where it is of nothing."""
    return part / np.where(whole > 0, whole, np.nan)
