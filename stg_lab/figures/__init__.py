"""Recording -> matplotlib figure for print: vector PDF with embedded fonts, and PNG."""

from stg_lab.figures.animate import animate
from stg_lab.figures.compare_layers import compare_layers
from stg_lab.figures.gaussians import gaussian_samples, gaussian_vectors
from stg_lab.figures.grids import grid, video_grid
from stg_lab.figures.layer_ablation import layer_ablation
from stg_lab.figures.quality_diversity import quality_diversity
from stg_lab.figures.scale_sweep import scale_sweep
from stg_lab.figures.spatial_temporal import spatial_temporal
from stg_lab.figures.style import save, styled
from stg_lab.figures.weak_model import weak_model
from stg_lab.figures.weak_models import weak_models

__all__ = [
    "animate",
    "compare_layers",
    "gaussian_samples",
    "gaussian_vectors",
    "grid",
    "layer_ablation",
    "quality_diversity",
    "save",
    "scale_sweep",
    "spatial_temporal",
    "styled",
    "video_grid",
    "weak_model",
    "weak_models",
]
