"""Effects that are undone whatever ends them, an interrupt at any line among that.

An interrupt may come between an effect and the `try` that was to undo it, at the line that leaves a `with` (whose `__exit__`
is then never called), or inside the undoing itself. So what undoes an effect is registered before the effect, it may be called
more than once, and it is called a second time, which an interrupt of the first cannot keep from being whole. Where `__exit__` is
not called at all, Python closes the generator of the context manager that nobody refers to any more, and so undoes it, too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def undone(undo: Callable[[], object]) -> Iterator[None]:
    """Make an effect inside the `with`; at its end `undo` is called, twice.

    Args:
        undo: puts things back; where there is nothing to put back, it does nothing.
    """
    try:
        try:
            yield
        finally:
            undo()
    finally:
        undo()


@contextlib.contextmanager
def stacked() -> Iterator[contextlib.ExitStack]:
    """An `ExitStack` for contexts that are each `undone`, closed whatever ends the `with`."""
    stack = contextlib.ExitStack()
    with undone(stack.close):
        yield stack
