# ruff: noqa: F401
"""How a weak model is made. One idea a file; `parse` reads back what `str` wrote.

Every module here is imported, and every class with a `kind` becomes known under that name: to `parse`, as `lab.<kind>`, and
in specifications. Adding a weak model is adding one file.
"""

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

from stg_lab.weak.base import PROMPTS, Pass, Weak, described
from stg_lab.weak.spec import KINDS, parse

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

from stg_lab.weak.skip import PARTS  # noqa: E402

globals().update(KINDS)  # after the modules of the same names

if TYPE_CHECKING:  # for editors; new kinds work without a line here
    from stg_lab.weak.blur import Blur as blur
    from stg_lab.weak.checkpoint import Checkpoint as checkpoint
    from stg_lab.weak.drop import Drop as drop
    from stg_lab.weak.early_exit import EarlyExit as early_exit
    from stg_lab.weak.ema import Ema as ema
    from stg_lab.weak.empty import Empty as empty
    from stg_lab.weak.enhance import Enhance as enhance
    from stg_lab.weak.history import History as history
    from stg_lab.weak.nag import Nag as nag
    from stg_lab.weak.per_step import PerStep as per_step
    from stg_lab.weak.picture import Picture as picture
    from stg_lab.weak.pladis import Pladis as pladis
    from stg_lab.weak.plain import Plain as plain
    from stg_lab.weak.predictor import Predictor as predictor
    from stg_lab.weak.shuffle import Shuffle as shuffle
    from stg_lab.weak.skip import Skip as skip
    from stg_lab.weak.swap import Swap as swap
    from stg_lab.weak.temper import Temper as temper
    from stg_lab.weak.window import Window as window


def __getattr__(name: str) -> Any:
    """Weak models that were defined later, in a notebook for example."""
    if name in KINDS:
        return KINDS[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["KINDS", "PARTS", "PROMPTS", "Pass", "Weak", "described", "parse", *KINDS]  # noqa: PLE0604
