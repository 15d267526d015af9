"""Labelled arrays -> interactive plotly figures. Plain `Figure` objects: they show in untrusted notebooks too."""

from stg_lab.plots.norms import norm_map, norms

__all__ = ["norm_map", "norms"]
