"""Arithmetic on guidance vectors: pure functions of arrays `(sample, ...)`, torch tensors and numpy arrays alike.

A vector here is everything of one sample after the first dimension; `per="frame"` treats each frame of its video as a
vector of its own. Nothing divides by zero: what has no direction is left as it is.
"""

from __future__ import annotations

from typing import Any

from stg_lab.errors import GuidanceError

FRAME = 2  # axis of the frames in (sample, channel, frame, y, x)


def inner(a: Any, b: Any, per: str = "sample", *, frame: int = FRAME) -> Any:
    """Inner product of each sample (or of each of its frames), shaped to broadcast against `a`.

    Args:
        per: "sample"; "frame", for arrays of five dimensions; or "batch", one product for all samples together.
        frame: which dimension counts the frames.

    Raises:
        GuidanceError: `per` is none of these, or there are no frames to tell apart.
    """
    if per not in ("sample", "frame", "batch"):
        raise GuidanceError(f"per is 'sample', 'frame' or 'batch', got {per!r}.")
    if per == "frame" and a.ndim != 5:
        raise GuidanceError(f"per='frame' is for video of five dimensions, and this has the shape {tuple(a.shape)}.")
    kept = {"sample": (0,), "frame": (0, frame), "batch": ()}[per]
    axes = tuple(i for i in range(a.ndim) if i not in kept)
    return (a * b).sum(axis=axes, keepdims=True) if axes else a * b  # torch would read no axis as all of them


def norm(a: Any, per: str = "sample") -> Any:
    """Euclidean norm of each sample, shaped to broadcast against `a`."""
    return inner(a, a, per) ** 0.5


def parallel(vector: Any, onto: Any, per: str = "sample", *, frame: int = FRAME) -> Any:
    """The part of a vector along another; zero where the other is zero."""
    length = inner(onto, onto, per, frame=frame)
    nowhere = length == 0
    return inner(vector, onto, per, frame=frame) / (length + nowhere) * onto


def orthogonal(vector: Any, to: Any, per: str = "sample", *, frame: int = FRAME) -> Any:
    """The part of a vector that is orthogonal to another (paper, eq. 21 and Alg. 5); all of it where the other is zero."""
    return vector - parallel(vector, to, per, frame=frame)


def clip_norm(vector: Any, longest: float) -> Any:
    """Shorten each sample's vector to at most `longest`."""
    length = norm(vector)
    at_least = (length - longest) * (length > longest) + longest  # the longer of the two, in the vector's own precision
    return vector * (longest / at_least)


def std(x: Any, per: str = "sample") -> Any:
    """Standard deviation over all values of each sample (or of the whole batch), shaped to broadcast against `x`."""
    rows = x.reshape(1 if per == "batch" else x.shape[0], -1)
    centred = rows - rows.mean(1)[:, None]
    return ((centred * centred).mean(1) ** 0.5).reshape(-1, *[1] * (x.ndim - 1))


def rescale(guided: Any, cond: Any, phi: float, per: str = "sample") -> Any:
    """Pull the standard deviation back to the conditional prediction's (paper, Alg. 4; Lin et al. 2023, section 3.4).

    Args:
        phi: 0 leaves `guided` alone, 1 gives it the standard deviation of `cond`.
        per: "sample", so that samples of a batch do not touch each other (as in diffusers), or "batch": one deviation for the
            whole batch (as in the STGuidance repository).

    Where `guided` has no deviation at all it is left alone.
    """
    wanted, deviation = std(cond, per), std(guided, per)
    flat = deviation == 0
    return guided * (phi * ((wanted * ~flat + flat) / (deviation + flat)) + (1 - phi))


def along_first_direction(weak: Any, cond: Any) -> Any:
    """The part of `weak` along the first right singular vector of the two rows [cond; weak], per sample (TCFG).

    Both rows lie in the plane of the two singular vectors, so two rows need no SVD: the first direction is
    `cos(t) cond + sin(t) weak`, with t half the angle of the 2 x 2 matrix of their inner products.
    """
    cc, cw, ww = inner(cond, cond), inner(cond, weak), inner(weak, weak)
    # Half-angle of the Gram matrix [[cc, cw], [cw, ww]] without arc tangents: its eigenvector to the larger eigenvalue.
    size = cc + ww + (cc + ww == 0)  # only the shape of the matrix matters, and squares of squares soon leave float32
    half, cw = (cc - ww) / 2 / size, cw / size
    radius = (half * half + cw * cw) ** 0.5
    first_is_cond = half >= 0
    # Of the two equal ways to write it, the one that subtracts nothing.
    a = first_is_cond * (radius + half) + ~first_is_cond * cw
    b = first_is_cond * cw + ~first_is_cond * (radius - half) + (radius == 0)  # no first direction: weak stays
    size = abs(a) + abs(b)  # never 0
    return parallel(weak, a / size * cond + b / size * weak)
