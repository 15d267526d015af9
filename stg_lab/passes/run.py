"""One weak pass: the pipeline's own call again, by a model that is perturbed."""

from __future__ import annotations

import torch
from torch import Tensor

from stg_lab.errors import GuidanceError, NothingChangedError
from stg_lab.passes.caption import without_caption
from stg_lab.patch import Hits, changed_modules, plain_around, uncompiled
from stg_lab.weak.base import Pass, Weak

#: Changes below this share of a prediction are rounding in float32, which guidance would make larger, and mean nothing.
ROUNDING = 2e-6


def run_weak(weak: Weak, at: Pass) -> Tensor:
    """The weak model's prediction at exactly the state of the pipeline's call.

    Calls `forward` with the very same arguments: forward hooks do not see it, offloading and caches do. Where the pipeline
    batches [uncond, cond], so does the weak pass: kernels round differently for other batch shapes, and the guidance vector
    would hold that rounding, times the scale.

    Returns:
        The concerned part of a prediction like `at.prediction`.

    Raises:
        GuidanceError: an interception was never reached.
        NothingChangedError: the pass came out equal to the one that it weakens; a kind of `GuidanceError`.
    """
    args, kwargs = (at.args, at.kwargs)
    if weak.prompt == "none":
        args, kwargs = without_caption(at)
    module = uncompiled(weak.module(at))
    with changed_modules() as changed, weak.perturb(at) as hits, plain_around(changed, module), torch.no_grad():
        prediction = at.family.prediction(module.forward(*args, **kwargs))
    return checked(weak, at, prediction, hits)


def checked(weak: Weak, at: Pass, prediction: Tensor, hits: Hits) -> Tensor:
    """The concerned part of a weak pass's prediction, once it is sure that something was weakened; see `run_weak`."""
    unreached = [place for place, count in hits.items() if count == 0]
    if unreached:
        raise GuidanceError(
            f"weak model {weak}: {', '.join(unreached)} was never reached during the pass, so nothing was weakened there. "
            "The pipeline bypasses it (a step cache or another attention backend?)."
        )
    prediction = at.concerned(prediction)
    own = at.concerned(at.prediction).float()
    if (prediction.float() - own).norm() <= ROUNDING * own.norm():
        raise NothingChangedError(
            f"weak model {weak} changed nothing: its prediction equals the one it was to weaken, up to rounding. "
            "Choose other layers or another part, or drop the term."
        )
    return prediction
