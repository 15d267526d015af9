"""Live views for notebooks: state and layout only, no maths."""

from stg_lab.widgets.x0_explorer import X0Explorer, x0_explorer

__all__ = ["X0Explorer", "x0_explorer"]
