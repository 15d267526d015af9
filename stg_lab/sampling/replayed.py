"""Denoisers that answer without computing, at steps where nobody wants their prediction."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch import nn

from stg_lab.patch import answered
from stg_lab.undone import undone


class Resting:
    """Lets denoisers answer what they answered before, without hooks and without computing.

    Args:
        denoisers: of one pipeline.
        noting: whether what is computed now shall be the answer later: true in one whole step.
    """

    def __init__(self, denoisers: Iterable[nn.Module], noting: Callable[[], bool]) -> None:
        self._denoisers, self._noting = list(denoisers), noting
        self._answers: list[Any] = []
        self._asleep = contextlib.ExitStack()

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Inside the `with`, answers are noted; at its end, all denoisers are awake."""

        def keep(module: nn.Module, args: tuple, output: Any) -> None:
            if self._noting():
                self._answers.append(output)

        handles: list[Any] = []

        def let_go() -> None:
            self.wake()
            for handle in handles:
                handle.remove()

        with undone(let_go):
            for module in self._denoisers:
                handles.append(module.register_forward_hook(keep))  # noqa: PERF401  (one that is there must be known)
            yield

    def rest(self, wanted: bool) -> None:
        """For the coming step: whether the denoisers answer without computing."""
        self.wake()
        if wanted:
            answers = itertools.cycle(self._answers)  # as many calls a step, whichever denoiser is called
            given = [(module, lambda *args, **kwargs: next(answers)) for module in self._denoisers]
            self._asleep.enter_context(answered(given))

    def wake(self) -> None:
        """The denoisers compute again."""
        self._asleep.close()
