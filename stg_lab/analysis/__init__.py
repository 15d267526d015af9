"""Recording -> labelled arrays: what a guidance vector is made of. One analysis a file; nothing here needs a model.

Wherever a recording is asked for, a `Run`, a path, or the name of one that ships will do.
"""

from stg_lab.analysis.advice import Advice, Candidate
from stg_lab.analysis.advise import CRITERIA, advise
from stg_lab.analysis.agreement import agreement
from stg_lab.analysis.angles import angles, random_cosine, removed, shifted_cosine
from stg_lab.analysis.bands import kept
from stg_lab.analysis.compare import Comparison, compare
from stg_lab.analysis.components import components
from stg_lab.analysis.directions import space_and_time
from stg_lab.analysis.mixing import gram, mixing_pictures, recorded_scales
from stg_lab.analysis.norms import norms
from stg_lab.analysis.rank import rank_correlation
from stg_lab.analysis.spectra import vector_spectra
from stg_lab.analysis.vectors import vector_lengths, vector_map, vector_names, vector_parts
from stg_lab.analysis.watched import watched
from stg_lab.guidance import scores

__all__ = [
    "CRITERIA",
    "Advice",
    "Candidate",
    "Comparison",
    "advise",
    "agreement",
    "angles",
    "compare",
    "components",
    "gram",
    "kept",
    "mixing_pictures",
    "norms",
    "random_cosine",
    "rank_correlation",
    "recorded_scales",
    "removed",
    "scores",
    "shifted_cosine",
    "space_and_time",
    "vector_lengths",
    "vector_map",
    "vector_names",
    "vector_parts",
    "vector_spectra",
    "watched",
]
