"""Recording -> labelled arrays: what a guidance vector is made of. One analysis a file; nothing here needs a model."""

from stg_lab.analysis.norms import norms

__all__ = ["norms"]
