"""The two seams: the denoiser's forward and `scheduler.step`. Nothing else of a pipeline is touched.

Inside `tapped` an observer sees every denoiser call and may answer every step with another prediction. When the `with`
ends, by whatever way, the pipeline is as it was.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
import types
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from stg_lab.errors import CallError
from stg_lab.families import Family
from stg_lab.undone import undone

_MISSING = object()
#: What is said to whoever comes from another thread.
ELSEWHERE = (
    "this pipeline is sampling in another thread now (a live run, a fork explorer, or a lab.attach that is open there?). Wait "
    "until it is done, stop it, or take a second one: lab.load(...)."
)


@dataclass
class Coming:
    """One call of a denoiser that the pipeline is about to make."""

    denoiser: str
    module: nn.Module
    args: tuple
    kwargs: dict[str, Any]

    @property
    def timestep(self) -> Any:
        """The noise level as the denoiser is told it; None where it has another name for it."""
        if "timestep" in self.kwargs or not self.args:
            return self.kwargs.get("timestep")
        named = dict(zip(inspect.signature(self.module.forward).parameters, self.args, strict=False))
        return named.get("timestep")


@dataclass
class Call(Coming):
    """One call of a denoiser, as the pipeline made it."""

    prediction: Tensor


@dataclass
class Step:
    """One call of `scheduler.step`, as the pipeline made it."""

    scheduler: Any
    model_output: Tensor
    timestep: Any
    sample: Tensor
    rest: dict[str, Any]  # every other argument, by name
    came_down: Tensor | None = None  # what the scheduler's last step gave to go on with


#: Arguments of a call.
Asked = tuple[tuple, dict[str, Any]]


class Observer(Protocol):
    """Who listens at the seams."""

    def before_call(self, call: Coming) -> Asked | None:
        """Before every denoiser call of the pipeline's own: returns the arguments to make it with, or None for its own."""
        ...

    def on_call(self, call: Call) -> None:
        """After every denoiser call of the pipeline's own."""
        ...

    def on_step(self, step: Step) -> Tensor:
        """At every scheduler step: returns the prediction to step with, or the one given."""
        ...

    def before_step(self, step: Step, prediction: Tensor) -> None:
        """Before every scheduler step, with the prediction that it will really step with."""
        ...

    def after_step(self, step: Step, sample: Tensor) -> Tensor:
        """After every scheduler step, with the sample that it returned: returns the sample to go on with, or the same."""
        ...


#: Whoever makes calls of its own here (a sweep, Restart), with the denoisers and the scheduler that it makes them with.
_alone: ContextVar[tuple[tuple[Observer, tuple[Any, ...]], ...]] = ContextVar("alone", default=())


@contextlib.contextmanager
def alone(observer: Observer, pipe: Any, family: Family) -> Iterator[None]:
    """Inside the `with` only this observer hears of calls and steps of the pipeline: it is making extra ones.

    Observers of other pipelines go on listening, and so do those in other threads.
    """
    parts = (pipe.scheduler, *family.denoisers(pipe).values())
    before = _alone.get()
    with undone(functools.partial(_alone.set, before)):
        _alone.set((*before, (observer, parts)))
        yield


def _listens(observer: Observer, part: Any) -> bool:
    """Whether an observer is to hear of what a denoiser or a scheduler does now."""
    only = next((who for who, parts in reversed(_alone.get()) if any(one is part for one in parts)), observer)
    return only is observer


class _Tap:
    """An observer at the seams, in the thread that opened them."""

    def __init__(self, observer: Observer) -> None:
        self.observer = observer
        self.open, self._thread, self._disturbed = True, threading.get_ident(), False
        self._handles: list[Any] = []

    def hook(self, name: str, module: nn.Module, family: Family) -> None:
        """Listen to a denoiser."""
        # Not to be traced, weak passes and all, into the graph of a denoiser that is compiled in place.
        before = functools.partial(torch.compiler.disable(_before_forward), name, self)
        after = functools.partial(torch.compiler.disable(_after_forward), name, family, self)
        self._handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
        self._handles.append(module.register_forward_hook(after, with_kwargs=True))

    def close(self) -> None:
        self.open = False
        for handle in self._handles:
            handle.remove()

    def hears(self, part: Any) -> bool:
        """Whether the observer is to hear of what a denoiser or a scheduler does now.

        Raises:
            CallError: another thread does it, or has done it in the middle of a call of this one: they share the scheduler, so
                neither can go on.
        """
        if not self.open:
            return False
        if threading.get_ident() != self._thread:
            self._disturbed = True
            raise CallError(ELSEWHERE)
        busy = getattr(self.observer, "busy", False)
        if self._disturbed and busy:
            raise CallError(
                "another thread called this pipeline in the middle of this call, so its scheduler is not where it was. Sample "
                "again, and give each thread a pipeline of its own: lab.load(...)."
            )
        self._disturbed = self._disturbed and busy
        return _listens(self.observer, part)


@contextlib.contextmanager
def tapped(pipe: Any, family: Family, observer: Observer) -> Iterator[None]:
    """Open both seams of a pipeline inside the `with`.

    The denoiser's seam is a pair of torch hooks: they survive CPU offloading, which takes instance patches away. The
    scheduler's seam is an attribute on the instance that looks like the method it stands for.
    """
    tap = _Tap(observer)
    with undone(tap.close):
        for name, module in family.denoisers(pipe).items():
            tap.hook(name, module, family)
        with _patched_step(pipe, family, tap):
            yield


def _before_forward(name: str, tap: _Tap, module: nn.Module, args: tuple, kwargs: dict) -> Asked | None:
    return tap.observer.before_call(Coming(name, module, args, kwargs)) if tap.hears(module) else None


def _after_forward(
    name: str, family: Family, tap: _Tap, module: nn.Module, args: tuple, kwargs: dict, output: Any
) -> None:
    if tap.hears(module):
        tap.observer.on_call(Call(name, module, args, kwargs, family.prediction(output)))


class _Step:
    """Stands for `scheduler.step` on one scheduler instance, with everyone who listens there.

    Pipelines read the signature of `step` to decide what to pass, so it is kept. Pipelines that deep-copy their scheduler
    get a copy that steps as stock: what is observed is this instance alone, but where the family says that each frame is
    stepped with a copy (`Family.sweep`).
    """

    def __init__(self, scheduler: Any, family: Family, pipe: Any) -> None:
        functools.update_wrapper(self, scheduler.step, updated=())
        self.__signature__ = inspect.signature(scheduler.step)
        self._taps: list[_Tap] = []
        self._scheduler, self._family, self._inner = scheduler, family, scheduler.step
        self._before = scheduler.__dict__.get("step", _MISSING)
        self._came_down: Tensor | None = None
        self._pipe = pipe
        self._sweeping: tuple[Step, Tensor, list[Tensor]] | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        bound = self.__signature__.bind(*args, **kwargs)  # by name: the order of arguments differs between schedulers
        given, listeners = bound.arguments, [tap.observer for tap in self._taps if tap.hears(self._scheduler)]
        if not self._family.takes_step(given):
            return self._inner(*args, **kwargs)
        named = ("model_output", "timestep", "sample")
        rest = {name: value for name, value in given.items() if name not in named}
        step = Step(self._scheduler, given["model_output"], given["timestep"], given["sample"], rest, self._came_down)
        prediction = self._asked(step, listeners)
        if prediction is not step.model_output:
            given |= self._family.stepped_with(prediction)
        result = self._inner(*bound.args, **bound.kwargs)
        sample = stepped = result[0] if isinstance(result, tuple) else result.prev_sample
        for observer in listeners:
            sample = observer.after_step(step, sample)
        self._came_down = sample.clone()  # callbacks may write into it
        if sample is stepped:
            return result
        if isinstance(result, tuple):
            return (sample, *result[1:])
        result.prev_sample = sample
        return result

    def _asked(self, step: Step, listeners: list[Observer]) -> Tensor:
        """The prediction to step with. All are asked about the pipeline's own; one of them at most answers with another."""
        answers = [o.on_step(step) for o in listeners]
        prediction = next((answer for answer in answers if answer is not step.model_output), step.model_output)
        for observer in listeners:
            observer.before_step(step, prediction)
        return prediction

    def frame(self, scheduler: Any, inner: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        """One frame of a step, by a copy of the scheduler: the first one brings the step, the last one ends it."""
        listeners = [tap.observer for tap in self._taps if tap.hears(self._scheduler)]
        sweep = self._family.sweep(self._pipe) if listeners else None
        if sweep is None:
            return inner(*args, **kwargs)
        bound = self.__signature__.bind(*args, **kwargs)
        given = bound.arguments
        if sweep.number == 0:
            step = Step(scheduler, sweep.model_output, given["timestep"], sweep.sample, {}, self._came_down)
            self._sweeping = step, self._asked(step, listeners), []
        assert self._sweeping is not None
        step, prediction, done = self._sweeping
        given["model_output"] = prediction[:, :, sweep.number]
        result = inner(*bound.args, **bound.kwargs)
        done.append((result[0] if isinstance(result, tuple) else result.prev_sample).clone())
        if sweep.number == sweep.count - 1:
            sample, self._sweeping = torch.stack(done, dim=2), None
            for observer in listeners:
                sample = observer.after_step(step, sample)
            self._came_down = sample.clone()
        return result

    def join(self, tap: _Tap) -> None:
        """Listen here."""
        self._taps.append(tap)
        self._scheduler.step = self

    def leave(self, tap: _Tap) -> None:
        """Listen no more; the last one to leave puts back what `step` was before."""
        self._taps = [other for other in self._taps if other is not tap]
        if self._taps:
            return
        if self._before is _MISSING:
            vars(self._scheduler).pop("step", None)  # somebody inside may have taken it away already
        else:
            self._scheduler.step = self._before

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        copied = memo[id(self._scheduler)]
        inner = types.MethodType(type(copied).step, copied)
        return inner if type(self._family).sweep is Family.sweep else _FrameStep(self, copied, inner)


class _FrameStep:
    """Stands for `scheduler.step` on a copy of a scheduler that steps one frame."""

    def __init__(self, whole: _Step, scheduler: Any, inner: Any) -> None:
        functools.update_wrapper(self, inner, updated=())
        self.__signature__ = inspect.signature(inner)
        self._whole, self._scheduler, self._inner = whole, scheduler, inner

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._whole.frame(self._scheduler, self._inner, args, kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        copied = memo[id(self._scheduler)]
        return types.MethodType(type(copied).step, copied)


@contextlib.contextmanager
def _patched_step(pipe: Any, family: Family, tap: _Tap) -> Iterator[None]:
    step = pipe.scheduler.__dict__.get("step")
    if not isinstance(step, _Step):
        step = _Step(pipe.scheduler, family, pipe)
    with undone(functools.partial(step.leave, tap)):
        step.join(tap)
        yield
