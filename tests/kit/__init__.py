"""What the tests share: small stock pipelines, plain calls of them, and eyes on what happens inside."""

from pathlib import Path

#: The checkout.
ROOT = Path(__file__).parents[2]
