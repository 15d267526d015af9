"""Labelled arrays -> interactive plotly figures. Plain `Figure` objects: they show in untrusted notebooks too."""

from stg_lab.plots.norms import norms

__all__ = ["norms"]
