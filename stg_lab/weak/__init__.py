"""How a weak model is made. One idea a file; `parse` reads back what `str` wrote."""

from stg_lab.weak.base import Weak, run_weak
from stg_lab.weak.skip import PARTS, Skip, skip
from stg_lab.weak.spec import parse

__all__ = ["PARTS", "Skip", "Weak", "parse", "run_weak", "skip"]
