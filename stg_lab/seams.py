"""The two seams: the denoiser's forward and `scheduler.step`. Nothing else of a pipeline is touched.

Inside `tapped` an observer sees every denoiser call and may answer every step with another prediction. When the `with`
ends, by whatever way, the pipeline is as it was.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from stg_lab.families import Family


@dataclass
class Call:
    """One call of a denoiser, as the pipeline made it."""

    denoiser: str
    module: nn.Module
    args: tuple
    kwargs: dict[str, Any]
    prediction: Tensor


class Observer(Protocol):
    """Who listens at the seams."""

    def on_call(self, call: Call) -> None:
        """After every denoiser call of the pipeline's own."""
        ...

    def on_step(self, scheduler: Any, model_output: Tensor, timestep: Any, sample: Tensor) -> Tensor:
        """Before every scheduler step; returns the prediction to step with."""
        ...

    def after_step(self, sample: Tensor) -> None:
        """After every scheduler step, with the sample that it returned."""
        ...


@contextlib.contextmanager
def tapped(pipe: Any, family: Family, observer: Observer) -> Iterator[None]:
    """Open both seams of a pipeline inside the `with`.

    The denoiser's seam is a torch forward hook: it survives CPU offloading, which takes instance patches away. The
    scheduler's seam is an attribute on the instance that looks like the method it stands for.
    """
    with contextlib.ExitStack() as stack:
        for name, module in family.denoisers(pipe).items():
            hook = functools.partial(_forward_hook, name, family, observer)
            stack.callback(module.register_forward_hook(hook, with_kwargs=True).remove)
        stack.enter_context(_patched_step(pipe.scheduler, observer))
        yield


def _forward_hook(
    name: str, family: Family, observer: Observer, module: nn.Module, args: tuple, kwargs: dict, output: Any
) -> None:
    observer.on_call(Call(name, module, args, kwargs, family.prediction(output)))


class _Step:
    """Stands for `scheduler.step` on one scheduler instance.

    Pipelines read the signature of `step` to decide what to pass, so it is kept. Pipelines that deep-copy their scheduler
    get a copy that steps as stock: what is observed is this instance alone.
    """

    def __init__(self, scheduler: Any, observer: Observer) -> None:
        self._scheduler, self._observer, self._inner = scheduler, observer, scheduler.step
        self.__signature__ = inspect.signature(self._inner)
        functools.update_wrapper(self, self._inner)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        bound = self.__signature__.bind(*args, **kwargs)  # by name: the order of arguments differs between schedulers
        given = bound.arguments
        given["model_output"] = self._observer.on_step(
            self._scheduler, given["model_output"], given["timestep"], given["sample"]
        )
        result = self._inner(*bound.args, **bound.kwargs)
        self._observer.after_step(result[0] if isinstance(result, tuple) else result.prev_sample)
        return result

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        copied = memo[id(self._scheduler)]
        return types.MethodType(type(copied).step, copied)


@contextlib.contextmanager
def _patched_step(scheduler: Any, observer: Observer) -> Iterator[None]:
    missing = object()
    before = scheduler.__dict__.get("step", missing)
    scheduler.step = _Step(scheduler, observer)
    try:
        yield
    finally:
        if before is missing:
            del scheduler.step
        else:
            scheduler.step = before
