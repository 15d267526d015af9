"""Recording -> labelled arrays: what a guidance vector is made of. One analysis a file; nothing here needs a model."""

from stg_lab.analysis.norms import norms
from stg_lab.analysis.rank import rank_correlation
from stg_lab.guidance import scores

__all__ = ["norms", "rank_correlation", "scores"]
