"""Colours and words for branches, the same in every plot, figure and widget; safe for colour-blind eyes (Okabe and Ito)."""

from __future__ import annotations

import re

FIXED = {"cond": "#000000", "uncond": "#E69F00", "cfg": "#D55E00", "guided": "#009E73"}
WEAK = ("#0072B2", "#CC79A7", "#56B4E9", "#8C6D31", "#7F3C8D")  # weak models, in the order of their branches


def colour(branch: str, branches: list[str]) -> str:
    """The colour of a branch among its recording's branches."""
    if branch in FIXED:
        return FIXED[branch]
    weak = [b for b in branches if b not in FIXED]
    return WEAK[weak.index(branch) % len(WEAK)]


def describe_weak(specification: str) -> str:
    """A weak model's specification in plain words.

    >>> describe_weak("skip:attention:3-5")
    'attention of blocks 3-5 skipped'
    """
    match = re.fullmatch(r"skip:(\w+):([\d,-]+)(?:@(\w+))?", specification)
    if match is None:
        return specification
    part, layers, axis = match.groups()
    plural = "s" if re.search(r"[,-]", layers) else ""
    what = {
        "block": f"block{plural} {layers}",
        "attention": f"attention of block{plural} {layers}",
        "attention_zero": f"attention branch of block{plural} {layers}",
        "feedforward": f"feed-forward of block{plural} {layers}",
    }.get(part, f"{part} of block{plural} {layers}")
    return f"{axis + ' ' if axis else ''}{what} skipped"
