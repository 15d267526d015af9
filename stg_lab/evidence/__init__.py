"""The paper's claims, put to the test on the embedded models: `python -m stg_lab.evidence`."""

from stg_lab.evidence import advice, bars, directions, layers, repairs, scales  # noqa: F401  (each registers its claims)
from stg_lab.evidence.claim import CLAIMS
from stg_lab.evidence.gathered import Evidence, Found

__all__ = ["CLAIMS", "Evidence", "Found"]
