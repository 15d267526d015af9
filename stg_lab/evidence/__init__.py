"""The paper's claims, put to the test on the embedded models: `python -m stg_lab.evidence`."""

from stg_lab.evidence import advice, bars, directions, layers, repairs, scales  # noqa: F401  (each registers its claims)
from stg_lab.evidence.browse import Evidence, Found
from stg_lab.evidence.claim import CLAIMS

__all__ = ["CLAIMS", "Evidence", "Found"]
