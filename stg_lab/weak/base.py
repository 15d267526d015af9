"""What every weak model is: a frozen value that can perturb a denoiser for the length of one forward pass."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from stg_lab.errors import GuidanceError

if TYPE_CHECKING:  # a weak model is a value: naming one needs no torch
    from torch import Tensor, nn

    from stg_lab.families import Family


class Weak(Protocol):
    """A weak model made from the model itself. `str()` gives a specification that `weak.parse` reads back."""

    @property
    def name(self) -> str:
        """Branch name in recordings."""
        ...

    def check(self, family: Family, denoiser: nn.Module) -> None:
        """Raise `GuidanceError` where this denoiser cannot be weakened so, before any compute is spent."""
        ...

    def perturb(self, family: Family, denoiser: nn.Module) -> contextlib.AbstractContextManager[dict[str, int]]:
        """Perturb the denoiser inside a `with`; yields how often each interception has acted, by its place."""
        ...


@contextlib.contextmanager
def replaced_forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Give one module another `forward` inside the `with`; an instance attribute that was there before comes back."""
    missing = object()
    before = module.__dict__.get("forward", missing)
    module.forward = forward
    try:
        yield
    finally:
        if before is missing:
            del module.forward
        else:
            module.forward = before


def run_weak(weak: Weak, family: Family, denoiser: nn.Module, args: tuple, kwargs: dict, cond: Tensor) -> Tensor:
    """The weak model's prediction at exactly the state of the conditional call.

    Calls `denoiser.forward` with the very same arguments: forward hooks do not see it, offloading and caches do.

    Args:
        args, kwargs: of the conditional call.
        cond: its prediction, `(batch, channel, frame, y, x)` or the family's own layout.

    Returns:
        A prediction of the same shape and dtype.

    Raises:
        GuidanceError: an interception was never reached, or the pass came out equal to the conditional one.
    """
    import torch

    with weak.perturb(family, denoiser) as hits, torch.no_grad():
        prediction = family.prediction(denoiser.forward(*args, **kwargs))
    unreached = [place for place, count in hits.items() if count == 0]
    if unreached:
        raise GuidanceError(
            f"weak model {weak}: {', '.join(unreached)} was never reached during the pass, so nothing was weakened there. "
            "The pipeline bypasses it (a step cache or another attention backend?)."
        )
    if torch.equal(prediction, cond):
        raise GuidanceError(
            f"weak model {weak} changed nothing: its prediction equals the conditional one bit for bit. "
            "Choose other layers or another part, or drop the term."
        )
    return prediction
