"""Patching modules for the length of a `with`: their forward, their answer, their compiled graph. Nothing else of a model is touched."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from stg_lab.undone import undone

if TYPE_CHECKING:  # a weak model is a value: naming one needs no torch
    from torch import nn

Hits = dict[str, int]  # how often each interception has acted, by its place
Make = Callable[[Callable[..., Any]], Callable[..., Any]]  # of a forward, the one to use in its place
Change = tuple["nn.Module", Make, str]  # whose forward is replaced, how, and under which name its calls are counted
Put = tuple["nn.Module", str, Any]  # of a module, the name of an attribute and its value
ANSWER = "_compiled_call_impl"  # what torch asks first, in every call of a module
_NONE = object()

#: Whoever wants to know what is put in place here; another thread's pipeline is no concern of theirs.
_watching: ContextVar[tuple[list[list[Put]], ...]] = ContextVar("watching", default=())


@contextlib.contextmanager
def watched() -> Iterator[Callable[[], list[Put]]]:
    """Inside the `with`, the function that it yields tells what has been put in place since and is there now, in order; `in_place`
    puts it there again."""
    found: list[list[Put]] = []
    before = _watching.get()
    with undone(functools.partial(_watching.set, before)):
        _watching.set((*before, found))
        yield lambda: [put for puts in found for put in puts]


@contextlib.contextmanager
def in_place(puts: Iterable[Put]) -> Iterator[None]:
    """Inside the `with`, modules (or other objects) have these attributes; what the instances had before, or had not, comes back."""
    before: list[Put] = []
    there: list[Put] = []
    for found in _watching.get():
        found.append(there)
    with undone(functools.partial(_put_back, before, there)):
        for module, name, value in puts:
            before.append((module, name, vars(module).get(name, _NONE)))
            setattr(module, name, value)
            there.append((module, name, value))
        yield


def _put_back(before: list[Put], there: list[Put]) -> None:
    there.clear()
    for module, name, value in reversed(before):
        if value is _NONE:
            vars(module).pop(name, None)
        else:
            setattr(module, name, value)


@contextlib.contextmanager
def replaced_forwards(changes: Iterable[Change]) -> Iterator[Hits]:
    """Give modules another `forward` inside the `with`.

    Args:
        changes: (module, make, place): `make` takes the module's forward and returns the one to use, whose calls are counted under
            `place`.

    Yields:
        How often each has been called.
    """
    hits: Hits = {}
    with in_place(_counted(uncompiled(module), make, hits, place) for module, make, place in changes):
        yield hits


@contextlib.contextmanager
def replaced_forward(module: nn.Module, make: Make, hits: Hits, place: str) -> Iterator[None]:
    """`replaced_forwards` of one module, counted in `hits`."""
    with in_place([_counted(uncompiled(module), make, hits, place)]):
        yield


def _counted(module: nn.Module, make: Make, hits: Hits, place: str) -> Put:
    hits.setdefault(place, 0)
    forward = make(module.forward)

    @functools.wraps(module.forward)
    def counted(*args: Any, **kwargs: Any) -> Any:
        hits[place] += 1
        return forward(*args, **kwargs)

    return module, "forward", counted


def answered(answers: Iterable[tuple[nn.Module, Callable[..., Any]]]) -> contextlib.AbstractContextManager[None]:
    """Inside the `with`, calls of modules are answered by functions, without their hooks, their forward, or their compiled graph,
    whose guards would otherwise compile it anew for every other forward that it finds."""
    return in_place([(module, ANSWER, answer) for module, answer in answers])


def plain_around(changed: Iterable[nn.Module], module: nn.Module) -> list[Put]:
    """What makes compiled blocks that hold a changed module run their own Python code, and their hooks."""
    ids = {id(one) for one in changed}
    compiled = [one for one in module.modules() if is_compiled(one)]
    holding = [one for one in compiled if any(id(inner) in ids for inner in one.modules())]
    return [
        (one, ANSWER, one._call_impl) if uncompiled(one) is one else (one, "forward", uncompiled(one)._call_impl)
        for one in holding
    ]


def uncompiled(module: nn.Module) -> nn.Module:
    """The module itself, where `torch.compile` has wrapped it."""
    return getattr(module, "_orig_mod", module)


def own_call(module: nn.Module) -> Callable[..., Any]:
    """What a call of a module runs: its compiled graph, where there is one, or its hooks and its forward."""
    return module._compiled_call_impl or module._call_impl


def is_compiled(module: nn.Module) -> bool:
    """Whether calls of a module run a compiled graph."""
    return "_orig_mod" in module._modules or module._compiled_call_impl is not None
