"""Predictions for hypothesis to choose: float64 arrays `(sample, ...)` with one branch for each name.

Importing it makes every run of the tests choose the same examples, in as much time as they take.
"""

from __future__ import annotations

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

settings.register_profile("house", deadline=None, database=None, derandomize=True)
settings.load_profile("house")

#: Numbers as predictions have them: of either sign, zero now and then, never so small that their squares vanish.
ENTRIES = st.one_of(st.just(0.0), st.floats(1e-3, 10), st.floats(-10, -1e-3))
SCALES = st.floats(-5, 10)
UNIT = st.floats(0, 1)
SHAPES = st.sampled_from([(1, 4), (2, 3), (3, 2, 2, 3, 2), (1, 1, 3, 1, 2)])


@st.composite
def branches(draw, *names, shapes=SHAPES):
    shape = draw(shapes)
    return {name: draw(arrays(np.float64, shape, elements=ENTRIES)) for name in names}


def samples(*batches):
    """The samples of several arrays side by side, each flat."""
    return zip(*(x.reshape(len(x), -1) for x in batches), strict=True)
