"""Arrays as they are given to metrics: of real numbers, or refused."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import ndarray

from stg_lab.errors import MetricError
from stg_lab.given import Text, read, shown


def numbers(what: str, value: Any, shape: str) -> ndarray:
    """An array of whole or real numbers; booleans, complex numbers and texts are none.

    Raises:
        MetricError: something else.
    """
    try:
        array = np.asarray(value)
        plain = array.dtype.kind in "fiu"
    except (TypeError, ValueError, RecursionError):  # rows of different lengths, or what is no array at all
        plain = False
    if not plain:
        kind = f" of {array.dtype}" if isinstance(value, ndarray) else ""
        raise MetricError(f"{what} real numbers of shape {shape}, got {shown(value)}{kind}.")
    return array


def check_captions(captions: Any, count: int) -> list[str]:
    """One caption a clip.

    Raises:
        MetricError: another number of them, or no texts.
    """
    if isinstance(captions, str | bytes) or not hasattr(captions, "__len__") or len(captions) != count:
        raise MetricError(f"{count} clips need as many captions, got {shown(captions)}.")
    return [read("a caption", caption, Text(), MetricError) for caption in captions]
