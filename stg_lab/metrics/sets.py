"""Distances and counts between two sets of clips, each given by its features `(clip, feature)`.

The features may be the judge's (`metrics.judge_features`), VideoMAE's (`metrics.videomae_features`) or any others; a figure
means something only beside figures in the same features with the same number of clips. Every computation is in float64.

What counts neighbours returns one value a clip, whose mean is the metric. So an interval comes from resampling those values:
resampling the clips themselves would make copies, and a copy is its own nearest neighbour.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from stg_lab.errors import MetricError
from stg_lab.given import takes
from stg_lab.metrics.arrays import numbers

K = 5  # neighbours, as in the experiments of Naeem et al. 2020


def frechet_distance(features: Float[ndarray, "clip d"], reference: Float[ndarray, "clip2 d"]) -> float:
    """Frechet distance of the Gaussians with the means and covariances of two sets (Dowson and Landau 1982):

        |m1 - m2|^2 + tr(C1) + tr(C2) - 2 tr((C1 C2)^(1/2))

    Squared units of the features, from 0 (same mean and covariance) up; lower is better. It is called FVD only in the features
    of FVD's own network (I3D), which these are not. Biased upwards for small sets: compare equal numbers of clips.

    Raises:
        MetricError: fewer than two clips, or features of different lengths.
    """
    x, y = _pair(features, reference, least=2)
    shift = x.mean(0) - y.mean(0)
    # tr((C1 C2)^(1/2)) is the sum of the singular values of C1^(1/2) C2^(1/2): no root of an unsymmetric matrix is needed,
    # singular covariances do no harm, and the two sets may change places.
    roots = [_root(_covariance(z)) for z in (x, y)]
    overlap = np.linalg.svd(roots[0] @ roots[1], compute_uv=False).sum()
    spread = sum(float((root**2).sum()) for root in roots)
    return max(float(shift @ shift + spread - 2 * overlap), 0.0)


class FrechetTo:
    """`frechet_distance` to one reference, for many sets such as the resamples of a bootstrap: several times as fast.

    What belongs to the reference alone is computed once, and tr((C1 C2)^(1/2)) from the eigenvalues of C2^(1/2) C1 C2^(1/2),
    which costs no root of C1. It is good to about six digits: the roots of eigenvalues that are zero are those of rounding.

    Args:
        reference: features `(clip, d)`, two clips or more.
    """

    def __init__(self, reference: Float[ndarray, "clip2 d"]) -> None:
        y = _checked(reference, least=2)
        self.mean, covariance = y.mean(0), _covariance(y)
        self.root, self.spread = _root(covariance), float(np.trace(covariance))

    def __call__(self, features: Float[ndarray, "clip d"]) -> float:
        """The distance of a set; features must be finite and of the reference's length, which is not checked again."""
        x = np.asarray(features, np.float64)
        shift = x.mean(0) - self.mean
        covariance = _covariance(x)
        overlap = np.sqrt(np.linalg.eigvalsh(self.root @ covariance @ self.root).clip(0)).sum()
        return max(float(shift @ shift + np.trace(covariance) + self.spread - 2 * overlap), 0.0)


@takes(MetricError)
def precision(
    features: Float[ndarray, "clip d"], reference: Float[ndarray, "clip2 d"], k: int = K
) -> Float[ndarray, " clip"]:
    """Whether each clip lies among the reference: nearer to some reference clip than that one's k-th neighbour.

    Kynkaanniemi et al. 2019, eq. 2. Values 0 or 1, their mean is the precision; higher is better.

    Raises:
        MetricError: k is not below the number of reference clips, or features of different lengths.
    """
    x, y = _pair(features, reference)
    return (distances(x, y) <= radii(y, k)).any(1).astype(float)


@takes(MetricError)
def recall(
    features: Float[ndarray, "clip d"], reference: Float[ndarray, "clip2 d"], k: int = K
) -> Float[ndarray, " clip2"]:
    """Whether each reference clip lies among the clips: precision with the sets exchanged (Kynkaanniemi et al. 2019).

    Values 0 or 1, one a *reference* clip; their mean is the recall; higher is better. Errors as for `precision`.
    """
    return precision(reference, features, k)


@takes(MetricError)
def density(
    features: Float[ndarray, "clip d"], reference: Float[ndarray, "clip2 d"], k: int = K
) -> Float[ndarray, " clip"]:
    """In how many reference neighbourhoods each clip lies, divided by k (Naeem et al. 2020, eq. 4).

    Values from 0 up; their mean is the density, 1 on average for clips like the reference; higher is better, and unlike the
    precision one outlier in the reference does not raise it much. Errors as for `precision`.
    """
    x, y = _pair(features, reference)
    return (distances(x, y) <= radii(y, k)).sum(1) / k


@takes(MetricError)
def coverage(
    features: Float[ndarray, "clip d"], reference: Float[ndarray, "clip2 d"], k: int = K
) -> Float[ndarray, " clip2"]:
    """Whether each reference clip has a clip in its neighbourhood (Naeem et al. 2020, eq. 5).

    Values 0 or 1, one a *reference* clip; their mean is the coverage; higher is better. For two equal sources of n clips each
    it is near 1 - 2**-k. Errors as for `precision`.
    """
    x, y = _pair(features, reference)
    return (distances(x, y).min(0) <= radii(y, k)).astype(float)


def vendi_score(features: Float[ndarray, "clip d"]) -> float:
    """How many different clips there effectively are (Friedman and Dieng 2023): exp of the entropy of the eigenvalues of K/n.

    K holds the cosines between features. From 1 (all alike) to the number of clips (all orthogonal); higher is more diverse.

    Raises:
        MetricError: no clips, or features without direction (all zero).
    """
    x = _checked(features, least=1)
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    if not lengths.all():
        raise MetricError("the Vendi score needs features with a direction; some of those given are zero throughout.")
    unit = x / lengths
    gram = unit @ unit.T if len(x) <= x.shape[1] else unit.T @ unit  # the same eigenvalues but for zeros
    share = np.linalg.eigvalsh(gram / len(x))
    share = share[share > 1e-12]
    return float(np.exp(-(share * np.log(share)).sum()))


def nearest(
    features: Float[ndarray, "clip d"], reference: Float[ndarray, "clip2 d"]
) -> tuple[Float[ndarray, " clip"], Int[ndarray, " clip"]]:
    """Each clip's distance to the nearest clip of a reference, and which one that is.

    With the training clips as reference this shows memorisation: copies lie nearer than clips of unseen scans do (Meehan et al.
    2020 compare just these two). Units of the features, from 0 up.

    Raises:
        MetricError: features of different lengths.
    """
    apart = distances(*_pair(features, reference))
    index = apart.argmin(1)
    return apart[np.arange(len(apart)), index], index


def distances(x: Float[ndarray, "clip d"], y: Float[ndarray, "clip2 d"]) -> Float[ndarray, "clip clip2"]:
    """Euclidean distances between all pairs."""
    from scipy.spatial.distance import cdist

    return cdist(x, y)


def radii(x: Float[ndarray, "clip d"], k: int = K) -> Float[ndarray, " clip"]:
    """Each clip's distance to its k-th nearest neighbour, itself not counted.

    Raises:
        MetricError: k is not between 1 and the number of clips less one.
    """
    if not 1 <= k < len(x):
        raise MetricError(f"k = {k} neighbours need at least {k + 1} clips in each set, got {len(x)}.")
    return np.partition(distances(x, x), k, axis=1)[:, k]


def _covariance(x: Float[ndarray, "clip d"]) -> Float[ndarray, "d d"]:
    return np.cov(x, rowvar=False).reshape(x.shape[1], -1)  # of one feature numpy makes a bare number


def _root(covariance: Float[ndarray, "d d"]) -> Float[ndarray, "d d"]:
    """The symmetric square root; eigenvalues that rounding made negative count as zero."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(values.clip(0))) @ vectors.T


def _checked(features: ndarray, least: int) -> ndarray:
    x = numbers("features are", features, "(clip, feature)").astype(np.float64)
    if x.ndim != 2 or len(x) < least:
        raise MetricError(f"features need the shape (clip, feature) with {least} clips or more, got {x.shape}.")
    finite: Bool[ndarray, "clip d"] = np.isfinite(x)
    if not finite.all():
        raise MetricError(f"{int((~finite).any(1).sum())} of {len(x)} clips have features that are not finite.")
    return x


def _pair(features: ndarray, reference: ndarray, least: int = 1) -> tuple[ndarray, ndarray]:
    x, y = _checked(features, least), _checked(reference, least)
    if x.shape[1] != y.shape[1]:
        raise MetricError(f"features of length {x.shape[1]} cannot be compared with features of length {y.shape[1]}.")
    return x, y
