"""Who listens at the seams in a trace's place, and hands it what it hears: a fork, a sweep."""

from __future__ import annotations

import contextlib

from stg_lab.sampling.replayed import Resting
from stg_lab.sampling.trace import Trace


class BeforeTrace:
    """Base of those: holds the trace, and denoisers that can be let rest."""

    def __init__(self, trace: Trace, resting: Resting) -> None:
        self._trace, self._resting = trace, resting

    def listening(self) -> contextlib.AbstractContextManager[None]:
        """Inside the `with`, denoisers can be let rest."""
        return self._resting.listening()

    @property
    def busy(self) -> bool:
        """Whether a pipeline call is on its way."""
        return self._trace.busy

    @property
    def _number(self) -> int:
        return self._trace.now.number
