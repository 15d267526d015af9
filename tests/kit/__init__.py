"""What the tests share: small stock pipelines, plain calls of them, and eyes on what happens inside."""
