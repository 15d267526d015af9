"""How a weak pass is made: which rows it has, at which block it begins, what it costs, and whether it weakened anything."""

from stg_lab.passes.choice import PASSES, Passes, computes_exactly
from stg_lab.passes.prefix import Prefix, can_reuse
from stg_lab.passes.run import Prepared, asked, run_weak
from stg_lab.passes.weak_passes import WeakPasses

__all__ = ["PASSES", "Passes", "Prefix", "Prepared", "WeakPasses", "asked", "can_reuse", "computes_exactly", "run_weak"]
