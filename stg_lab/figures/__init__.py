"""Recording -> matplotlib figure for print: vector PDF with embedded fonts, and PNG."""

from stg_lab.figures.style import save
from stg_lab.figures.weak_model import weak_model
from stg_lab.figures.weak_models import weak_models

__all__ = ["save", "weak_model", "weak_models"]
