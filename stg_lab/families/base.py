"""What a family tells the seams. A family is stateless; every method takes the pipeline or the module it asks about."""

from __future__ import annotations

from typing import Any

from stg_lab.families.latents import Latents
from stg_lab.families.network import Grid, two_streams_without

__all__ = ["Family", "Grid", "two_streams_without"]


class Family(Latents):
    """Base of the families; holds what most of them share.

    Its members are of three kinds, each a file: about the network (`Network`), about the pipeline's call (`Call`), and about the
    latents (`Latents`).
    """

    sources: str = ""  # settings that the method's authors used, with where that is written

    def notes(self, pipe: Any) -> dict[str, str]:
        """What else there is to say about a pipeline, for `lab.describe`."""
        return {}
