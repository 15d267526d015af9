"""Recording -> labelled arrays: what a guidance vector is made of. One analysis a file; nothing here needs a model."""

from stg_lab.analysis.angles import angles, random_cosine, removed, shifted_cosine
from stg_lab.analysis.components import components
from stg_lab.analysis.directions import space_and_time
from stg_lab.analysis.norms import norms
from stg_lab.analysis.rank import rank_correlation
from stg_lab.guidance import scores

__all__ = [
    "angles",
    "components",
    "norms",
    "random_cosine",
    "rank_correlation",
    "removed",
    "scores",
    "shifted_cosine",
    "space_and_time",
]
