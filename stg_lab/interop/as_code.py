"""What to type for a guidance, for error messages."""

from __future__ import annotations

import re

from stg_lab.guidance import Guidance, Term, as_guidance


def typed(guidance: Guidance | Term) -> str:
    """A sum as Python, with its weak models as calls.

    >>> import stg_lab as lab
    >>> typed(lab.CFG(4) + lab.STG(1, lab.skip([5])))
    'lab.CFG(4) + lab.STG(1, lab.skip([5]))'
    """
    total = as_guidance(guidance)
    text = re.sub(r"\b(CFGpp|CFG|STG|Probe|Edit|Watch)\(", r"lab.\1(", str(total))
    models = {str(t.weak_model): repr(t.weak_model) for t in total.terms if t.weak_model is not None}
    for specification in sorted(models, key=len, reverse=True):  # one may begin like another
        text = text.replace(specification, models[specification])
    return text


def window(first: int, last: int, steps: int) -> str:
    """Arguments for a term that acts from step `first` to before step `last`.

    >>> window(1, 5, 24)
    ', start=1/24, stop=5/24'
    """
    start = f", start={first}/{steps}" if first else ""
    return start + (f", stop={last}/{steps}" if last != steps else "")
