"""Colours of branches, the same in every plot, figure and widget; safe for colour-blind eyes (Okabe and Ito)."""

from __future__ import annotations

FIXED = {"cond": "#000000", "uncond": "#E69F00", "cfg": "#D55E00", "guided": "#009E73"}
WEAK = (
    "#0072B2",
    "#CC79A7",
    "#56B4E9",
    "#8C6D31",
    "#7F3C8D",
    "#882255",
    "#332288",
    "#999933",
)  # weak models, in the order of their branches

#: Lines that are not branches, in order.
SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")


def vector_colour(branch: str, branches: list[str]) -> str:
    """The colour of the guidance vector that points away from a branch: the one away from uncond is CFG's, wherever it is shown."""
    return FIXED["cfg"] if branch == "uncond" else colour(branch, branches)


def colour(branch: str, branches: list[str]) -> str:
    """The colour of a branch among its recording's branches."""
    if branch in FIXED:
        return FIXED[branch]
    weak = [b for b in branches if b not in FIXED]
    return WEAK[weak.index(branch) % len(WEAK)]
