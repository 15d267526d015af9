"""Commands of `stg-lab` that sample: one a file, each with its options and what it does. Heavy imports wait until one runs."""
