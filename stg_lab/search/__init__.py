"""Which guidance is best, answered by sampling: a race of candidates on the same states, and a test on fresh ones.

`lab.search(...)` is `stg_lab.search.search(...)`: the room and what it is for have one name, so the module can be called.
"""

import sys
from types import ModuleType

from stg_lab.search.found import Found
from stg_lab.search.run import open_search, search

__all__ = ["Found", "open_search", "search"]


class _Callable(ModuleType):
    """Python binds `stg_lab.search` to this module when any part of it is imported, whatever else had that name."""

    __call__ = staticmethod(search)


sys.modules[__name__].__class__ = _Callable
