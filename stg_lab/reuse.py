"""The old name of `stg_lab.passes`."""

from stg_lab.passes import PASSES, Passes, Prefix, can_reuse, computes_exactly

__all__ = ["PASSES", "Passes", "Prefix", "can_reuse", "computes_exactly"]
