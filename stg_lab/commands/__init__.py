"""Commands of `stg-lab`: one a file, each with its options and what it does. Heavy imports wait until one runs."""
