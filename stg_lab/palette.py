"""Colours and words for branches, the same in every plot, figure and widget; safe for colour-blind eyes (Okabe and Ito)."""

from __future__ import annotations

import re

BRANCH_COLOURS = {"cond": "#000000", "uncond": "#E69F00", "skip": "#0072B2", "cfg": "#D55E00", "guided": "#009E73"}
_FURTHER = ("#CC79A7", "#56B4E9", "#8C6D31", "#F0E442")

WORDS = {
    "cond": "conditional",
    "uncond": "unconditional",
    "cfg": "CFG",
    "guided": "guided",
}


def colour(branch: str, branches: list[str]) -> str:
    """The colour of a branch; weak models beyond the first take further colours in order."""
    if branch in BRANCH_COLOURS:
        return BRANCH_COLOURS[branch]
    others = [b for b in branches if b not in BRANCH_COLOURS]
    if branch in others and "skip" not in branches:
        others = others[1:] if others[0] != branch else [branch]
        if others == [branch]:
            return BRANCH_COLOURS["skip"]
    return _FURTHER[others.index(branch) % len(_FURTHER)]


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
