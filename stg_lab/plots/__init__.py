"""Labelled arrays -> interactive plotly figures. Plain `Figure` objects: they show in untrusted notebooks too.

Wherever a recording is asked for, a `Run`, a path, or the name of one that ships will do.
"""

from stg_lab.plots.ablation import aligned_and_worse, layer_scores
from stg_lab.plots.angles import angle_map, angles, components, removed
from stg_lab.plots.bands import kept
from stg_lab.plots.comparison import comparison
from stg_lab.plots.gaussians import gaussian_scores
from stg_lab.plots.norms import norm_map, norms
from stg_lab.plots.strengths import strengths
from stg_lab.plots.vectors import vector_lengths, vector_map, vector_parts, vector_spectra

__all__ = [
    "aligned_and_worse",
    "angle_map",
    "angles",
    "comparison",
    "components",
    "gaussian_scores",
    "kept",
    "layer_scores",
    "norm_map",
    "norms",
    "removed",
    "strengths",
    "vector_lengths",
    "vector_map",
    "vector_parts",
    "vector_spectra",
]
