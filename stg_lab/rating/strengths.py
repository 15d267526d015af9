"""Wins of one over another -> shares and strengths, with intervals. Numbers only: who is compared is known elsewhere."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.sparse.csgraph import connected_components

DRAWS = 2000
HALF = 0.5  # of a unit, won by either side beforehand: Jeffreys' prior for two settings
ROUNDS, CLOSE = 5000, 1e-7


def bradley_terry(wins: Float[ndarray, "*draw setting setting"]) -> Float[ndarray, "*draw setting"]:
    """Strengths s under which i is preferred over j with probability s_i / (s_i + s_j) (Bradley and Terry 1952).

    The maximum of the likelihood, by Newman's iteration (2023, eq. 10), one setting after the other: like the
    minorisation-maximisation of Hunter (2004) it always gets there and nothing has to be tuned, but in far fewer rounds where one
    setting wins nearly always. All draws are fitted at once; a general optimiser would take them one by one.

    Args:
        wins: `wins[i, j]`, above 0 where both were compared, is how often i was preferred over j, half of all ties included. All
            settings must hang together through comparisons.

    Returns:
        Strengths whose logarithms have mean 0.
    """
    strengths = np.ones(wins.shape[:-1])
    for _ in range(ROUNDS):
        before = strengths.copy()
        for i in range(wins.shape[-1]):
            both = strengths[..., i, None] + strengths
            strengths[..., i] = (wins[..., i, :] * strengths / both).sum(-1) / (wins[..., :, i] / both).sum(-1)
        strengths /= np.exp(np.log(strengths).mean(-1, keepdims=True))
        if np.abs(np.log(strengths / before)).max() < CLOSE:
            break
    return strengths


def prior(wins: Float[ndarray, "unit setting setting"]) -> Float[ndarray, "setting setting"]:
    """Wins that either side of a compared pair has beforehand: half a unit, in answers.

    It keeps the strength of a setting that always wins finite. A unit, not an answer: ten raters who agree about one pair of videos
    are no more evidence about other videos than one is.
    """
    counted = wins + wins.transpose(0, 2, 1)
    units = (counted > 0).sum(0)
    return HALF * counted.sum(0) / np.maximum(units, 1)


def drawn(wins: Float[ndarray, "unit setting setting"], *, seed: int = 0) -> Float[ndarray, "draw setting setting"]:
    """Wins under units drawn anew: the Bayesian bootstrap (Rubin 1981) with `prior`.

    Every unit gets a weight from the exponential distribution, and either side of a compared pair a weight of the prior's from the
    gamma distribution of shape 1/2. For two settings and one answer a unit without ties that is Jeffreys' interval, exactly; so
    unlike resampling it has an interval where one side won everything (Brown, Cai and DasGupta 2001 on both).
    """
    rng = np.random.default_rng(seed)
    weights = rng.standard_exponential((DRAWS, len(wins)))
    beforehand = prior(wins)
    extra = rng.standard_gamma(HALF, (DRAWS, *beforehand.shape)) * beforehand / HALF
    # A gamma variable may be so small that it is 0 in floating point, and a strength's logarithm would be none.
    floor = np.where(beforehand > 0, 1e-12, 0.0)
    return np.einsum("du,uij->dij", weights, wins) + np.maximum(extra, floor)


def hang_together(wins: Float[ndarray, "unit setting setting"]) -> bool:
    """Whether any two settings are compared, directly or through others; otherwise they have no strengths in common."""
    return int(connected_components(wins.sum(0) > 0, directed=False, return_labels=False)) == 1
