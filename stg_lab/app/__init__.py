"""`stg-lab app`: the explorers in a browser, for whoever would rather not open a notebook. Served on this machine alone."""

from stg_lab.app.bench import Bench, show
from stg_lab.app.launch import serve

__all__ = ["Bench", "serve", "show"]
