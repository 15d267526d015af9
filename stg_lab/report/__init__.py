"""Recordings as one interactive page that works offline, for whoever has neither the lab nor a kernel.

`lab.report(...)` is `lab.report.report(...)`: the room and what it is for have one name, so the module can be called.
"""

import sys
from types import ModuleType

from stg_lab.report.grid import Column, Grid
from stg_lab.report.sources import open_any
from stg_lab.report.write import report, write_report

__all__ = ["Column", "Grid", "open_any", "report", "write_report"]


class _Callable(ModuleType):
    """Python binds `stg_lab.report` to this module when any part of it is imported, whatever else had that name."""

    __call__ = staticmethod(report)


sys.modules[__name__].__class__ = _Callable
