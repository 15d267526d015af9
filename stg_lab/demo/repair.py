"""How often STG repairs a video of a model and how often it spoils one, and one that it repairs: kept beside the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stg_lab.errors import GuidanceError
from stg_lab.recommended import FILE


@dataclass(frozen=True)
class Repair:
    """What was counted once over many captions and seeds, without guidance and with STG on the recommended weak model.

    Attributes:
        repaired: videos that the judge found wrong without guidance and right with STG.
        broken: the reverse.
        of: how many were sampled each way.
        caption, seed: of the repaired video whose probability rose most.
    """

    repaired: int
    broken: int
    of: int
    caption: str
    seed: int

    @classmethod
    def kept(cls, recommendation: Mapping[str, Any] | None) -> Repair | None:
        """What is kept of a model under "repair" of its recommendation; None where nothing is.

        Raises:
            GuidanceError: it cannot be read.
        """
        found = (recommendation or {}).get("repair")
        if found is None:
            return None
        try:
            counts = {name: int(found[name]) for name in ("repaired", "broken", "of")}
            return cls(**counts, caption=str(found["example"]["caption"]), seed=int(found["example"]["seed"]))
        except (KeyError, TypeError, ValueError) as error:
            raise GuidanceError(
                f'"repair" in {FILE} beside the weights cannot be read ({type(error).__name__}: {error}). Take it out, or write '
                '{"repaired": 8, "broken": 2, "of": 64, "example": {"caption": "a red seven moving left", "seed": 1000}}.'
            ) from None
