"""`stg-lab demo`: the same seeds without guidance, with STG, with CFG, with both, and all of it on one page.

`wanted` reads what was asked for and imports nothing heavy, so that wrong arguments are told at once; `columns` samples,
`pictures` draws, `page` says in words what came out, `run` puts it together.
"""
