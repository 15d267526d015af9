"""Patching modules for the length of a `with`: their forward, their answer, their compiled graph. Nothing else of a model is touched."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from stg_lab.undone import stacked, undone

if TYPE_CHECKING:  # a weak model is a value: naming one needs no torch
    from torch import nn

Hits = dict[str, int]  # how often each interception has acted, by its place

#: Lists that are told every module whose forward is replaced here; another thread's pipeline is no concern of theirs.
_watching: ContextVar[tuple[list[nn.Module], ...]] = ContextVar("watching", default=())


@contextlib.contextmanager
def changed_modules() -> Iterator[list[nn.Module]]:
    """Collects the modules whose forward is replaced inside the `with`, in order."""
    found: list[nn.Module] = []
    before = _watching.get()
    with undone(functools.partial(_watching.set, before)):
        _watching.set((*before, found))
        yield found


@contextlib.contextmanager
def replaced_forward(
    module: nn.Module, make: Callable[[Callable[..., Any]], Callable[..., Any]], hits: Hits, place: str
) -> Iterator[None]:
    """Give one module another `forward` inside the `with`; an instance attribute that was there before comes back.

    Args:
        make: takes the module's forward and returns the one to use.
        hits, place: where its calls are counted.
    """
    module = uncompiled(module)
    hits.setdefault(place, 0)
    for found in _watching.get():
        found.append(module)
    forward = make(module.forward)

    @functools.wraps(module.forward)
    def counted(*args: Any, **kwargs: Any) -> Any:
        hits[place] += 1
        return forward(*args, **kwargs)

    with instance_attribute(module, "forward", counted):
        yield


@contextlib.contextmanager
def instance_attribute(module: nn.Module, name: str, value: Any) -> Iterator[None]:
    """Set an attribute of one module inside the `with`; what the instance had before, or had not, comes back."""
    own = vars(module)
    put_back = (
        functools.partial(setattr, module, name, own[name]) if name in own else functools.partial(own.pop, name, None)
    )
    with undone(put_back):
        setattr(module, name, value)
        yield


def uncompiled(module: nn.Module) -> nn.Module:
    """The module itself, where `torch.compile` has wrapped it."""
    return getattr(module, "_orig_mod", module)


def own_call(module: nn.Module) -> Callable[..., Any]:
    """What a call of a module runs: its compiled graph, where there is one, or its hooks and its forward."""
    return module._compiled_call_impl or module._call_impl


def answered(module: nn.Module, answer: Callable[..., Any]) -> contextlib.AbstractContextManager[None]:
    """Inside the `with`, calls of a module are answered by a function, without its hooks, its forward, or its compiled graph,
    whose guards would otherwise compile it anew for every other forward that it finds."""
    return instance_attribute(module, "_compiled_call_impl", answer)  # what torch asks first, in every call of a module


@contextlib.contextmanager
def plain_around(changed: list[nn.Module], module: nn.Module) -> Iterator[None]:
    """Inside the `with`, compiled blocks that hold a changed module run their own Python code."""
    ids = {id(m) for m in changed}
    with stacked() as stack:
        for one in module.modules():
            if is_compiled(one) and any(id(inner) in ids for inner in one.modules()):
                stack.enter_context(_plain(one))
        yield


def _plain(module: nn.Module) -> contextlib.AbstractContextManager[None]:
    """Inside the `with`, a compiled module runs its own Python code, and its hooks."""
    if uncompiled(module) is module:
        return answered(module, module._call_impl)
    return instance_attribute(module, "forward", uncompiled(module)._call_impl)


def is_compiled(module: nn.Module) -> bool:
    """Whether calls of a module run a compiled graph."""
    return "_orig_mod" in module._modules or module._compiled_call_impl is not None
