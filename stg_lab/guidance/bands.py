"""Bands: a guidance vector whose fine and coarse parts are weighed by themselves, over space and over time.

Splitting into bands is linear, so a method that guides every band with a scale of its own is CFG whose vector went through a
filter: `u + sum_k w_k B_k (c - u)` is `c + sum_k (w_k - 1) B_k (c - u)`, since the bands add up to the whole.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

from stg_lab.errors import GuidanceError
from stg_lab.given import real, shown
from stg_lab.guidance.moment import Moment
from stg_lab.guidance.rules import Rule
from stg_lab.guidance.scales import count

if TYPE_CHECKING:
    import numpy as np

#: The binomial kernel that pyramids are blurred with (Burt and Adelson 1983).
KERNEL = [weight / 16 for weight in (1, 4, 6, 4, 1)]


@dataclass(frozen=True)
class Bands(Rule):
    """Each band of the vector times a number of its own: frequency-decoupled guidance (Sadat et al. 2025, arXiv 2506.19713).

    The bands are the levels of a Laplacian pyramid, which halves each side from level to level. `CFG(5).bands(space=[9 / 4, 1])`
    is their guidance with the scales 10 (fine) and 5 (coarse): a factor is (scale of the band - 1) / (scale of the term - 1).
    With `cutoff` there are two bands, split in the Fourier transform as in FreSca (`low_pass_fourier`).

    Args:
        space: factors from the finest band within frames to the coarsest; None leaves space alone.
        time: factors from the fastest band over frames to the slowest; None leaves time alone. Sides that a level has brought
            down to one value are not halved again: bands between there and the coarsest hold nothing.
        cutoff: frequencies (periods in a whole side) below which a band is the coarse one; None for the pyramid.

    Raises:
        GuidanceError: no factors, factors that are not finite, or not two of them with a cutoff.
    """

    method: ClassVar[str] = "bands"
    linear: ClassVar[bool] = True

    space: tuple[float, ...] | None = None
    time: tuple[float, ...] | None = None
    cutoff: int | None = None

    def __post_init__(self) -> None:
        for name in ("space", "time"):
            object.__setattr__(self, name, _factors(name, getattr(self, name)))
        if self.space is None and self.time is None:
            raise GuidanceError(
                "bands takes space=, time= or both. Type for example lab.CFG(5).bands(space=[2.25, 1])."
            )
        if self.cutoff is not None:
            object.__setattr__(self, "cutoff", count("bands(cutoff)", self.cutoff, 1))
            if any(f is not None and len(f) != 2 for f in (self.space, self.time)):
                raise GuidanceError(
                    f"a cutoff splits into two bands, so it takes two factors, fine and coarse, got {self}. Leave the cutoff out "
                    "for a pyramid with a level for each factor."
                )

    def check(self, at: Moment) -> None:
        if not at.space:
            raise GuidanceError(
                f"{self} needs predictions that lie in rows and columns, and those of this pipeline are packed tokens, or the lab "
                "does not know how they lie. Leave it out."
            )
        if self.time is not None and at.frame in at.space:
            raise GuidanceError(f"{self}: there are no frames in what this pipeline makes. Leave time out.")

    def on_vector(self, vector: Any, cond: Any, weak: Any, at: Moment, key: Any) -> Any:
        for factors, axes in ((self.space, at.space), (self.time, (at.frame,))):
            if factors is not None:
                vector = filtered(vector, factors, axes, self.cutoff)
        return vector


def _factors(name: str, value: Any) -> tuple[float, ...] | None:
    import numpy as np

    if value is None:
        return None
    lone = real(value)
    given = (
        [lone]
        if lone is not None
        else list(value)
        if isinstance(value, Iterable) and not isinstance(value, str | bytes)
        else []
    )
    numbers = [real(one) for one in given]
    if not numbers or any(one is None or not np.isfinite(one) for one in numbers):
        raise GuidanceError(
            f"bands({name}) takes numbers from the finest band to the coarsest, got {shown(value)}. Type for example "
            f"{name}=[2.25, 1]."
        )
    return tuple(float(one) for one in numbers)  # type: ignore[arg-type]


def filtered(x: Any, factors: tuple[float, ...], axes: tuple[int, ...], cutoff: int | None = None) -> Any:
    """`sum_k factors[k] * B_k x`, where B_k takes the k-th finest band along some axes together.

    Args:
        x: an array, torch's or numpy's.
        factors: from the finest band to the coarsest.
        cutoff: see `Bands`.

    Returns:
        An array like `x`. With B_k = P_k - P_(k+1), where P_k is what is left below the k-th level, the sum is
        `factors[0] x + sum_k (factors[k] - factors[k-1]) P_k x`, so that equal factors cost no digit.
    """
    out = factors[0] * x
    for level, (finer, coarser) in enumerate(pairwise(factors), start=1):
        if finer != coarser:
            out = out + (coarser - finer) * smoothed(x, level, axes, cutoff)
    return out


def smoothed(x: Any, level: int, axes: tuple[int, ...], cutoff: int | None = None) -> Any:
    """What is left of an array below a level of the pyramid, or below the cutoff, along some axes together."""
    out = x if cutoff is None else x + 0j
    for axis in axes:
        size = x.shape[axis]
        matrix = low_pass(size, level) if cutoff is None else low_pass_fourier(size, cutoff)
        out = (out.swapaxes(axis, -1) @ _like(matrix.T, out)).swapaxes(axis, -1)
    return out if cutoff is None else out.real


def _like(matrix: np.ndarray, x: Any) -> Any:
    """A matrix in the precision and at the place of an array."""
    return x.new_tensor(matrix) if hasattr(x, "new_tensor") else matrix.astype(x.dtype)


@functools.cache
def low_pass(size: int, level: int) -> np.ndarray:
    """Down so many levels of a pyramid and up again, as a matrix `(size, size)` along one side, float64.

    Down is blurring with `KERNEL` and halving, up is doubling and blurring; sides are resampled linearly and reflected at
    their ends, as in kornia's `pyrdown` and `pyrup` and in OpenCV's.
    """
    import numpy as np

    half = max(size // 2, 1)
    if level == 0 or half == size:
        return np.eye(size)
    down, up = _resampled(size, half) @ _blurred(size), _blurred(size) @ _resampled(half, size)
    return up @ low_pass(half, level - 1) @ down


def _blurred(size: int) -> np.ndarray:
    """Blurring with `KERNEL`, the side reflected at its ends, which are not repeated."""
    import numpy as np

    places = np.pad(np.arange(size), 2, mode="reflect") if size > 1 else np.zeros(5, int)
    matrix = np.zeros((size, size))
    for row in range(size):
        np.add.at(matrix[row], places[row : row + 5], KERNEL)
    return matrix


def _resampled(size: int, wanted: int) -> np.ndarray:
    """Linear interpolation from `size` values to `wanted`, between the centres of cells of equal extent."""
    import numpy as np

    where = np.clip((np.arange(wanted) + 0.5) * size / wanted - 0.5, 0, size - 1)
    below = np.minimum(where.astype(int), max(size - 2, 0))
    matrix = np.zeros((wanted, size))
    rows = np.arange(wanted)
    np.add.at(matrix, (rows, below), 1 - (where - below))
    np.add.at(matrix, (rows, np.minimum(below + 1, size - 1)), where - below)
    return matrix


@functools.cache
def low_pass_fourier(size: int, cutoff: int) -> np.ndarray:
    """Keeping the frequencies -cutoff to cutoff - 1 along one side, as a complex matrix `(size, size)`; of several sides one
    after the other, the real part is what is meant.

    As ComfyUI's FreSca node does it (nodes_fresca.py), which leaves one frequency more on the one side. On sides shorter than
    twice the cutoff the node's slice begins on the wrong end; here all of such a side is kept.
    """
    import numpy as np

    frequency = np.fft.fftfreq(size, 1 / size).round()
    kept = (-cutoff <= frequency) & (frequency < cutoff) if size > 2 * cutoff else np.ones(size, bool)
    return np.fft.ifft(kept[:, None] * np.fft.fft(np.eye(size), axis=0), axis=0)
