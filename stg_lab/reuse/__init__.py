"""Weak passes at a fraction of their price: from the first block that they change on, and several as one batch."""

from stg_lab.reuse.joined import can_join
from stg_lab.reuse.prefix import PASSES, Passes, Prefix, can_reuse, changed_stages, computes_exactly

__all__ = ["PASSES", "Passes", "Prefix", "can_join", "can_reuse", "changed_stages", "computes_exactly"]
