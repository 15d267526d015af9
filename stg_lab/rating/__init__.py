"""Blind pairs: two videos of one caption and seed side by side, which a person judges without knowing which is which.

`Rating` asks and keeps the answers; `ratings` reads what several raters answered; `Result` says what it amounts to. The widget
that shows the pairs is in `stg_lab.widgets`.
"""

from stg_lab.rating.pairs import ANSWERS, ASPECTS, Pair
from stg_lab.rating.result import Result, Share
from stg_lab.rating.session import Question, Rating, ratings
from stg_lab.rating.sources import Clips, gather

__all__ = ["ANSWERS", "ASPECTS", "Clips", "Pair", "Question", "Rating", "Result", "Share", "gather", "ratings"]
