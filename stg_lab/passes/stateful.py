"""Denoisers that remember from one call to the next: a weak pass would be answered by what they keep, and change it.

Hooks of diffusers say so themselves. A forward that somebody else has put in a module's place does not: it is watched once, at
the first call that weak passes repeat.
"""

from __future__ import annotations

import contextlib
import functools
import types
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from stg_lab.errors import GuidanceError
from stg_lab.patch import uncompiled
from stg_lab.weak import Pass

#: Whose forwards and attention processors are known: they keep nothing from one call for the next, but for hooks that say so.
KNOWN = ("torch", "diffusers", "accelerate", "peft", "transformers", "stg_lab", "beartype", "jaxtyping")
#: What runs itself; of another object, its class's code does.
FUNCTIONS = (types.FunctionType, types.MethodType, functools.partial)
#: How deep a function's belongings are looked through.
DEPTH = 8
#: Attributes that every module has.
STRUCTURE = frozenset(vars(nn.Module()))


def stateful_hooks(denoiser: nn.Module) -> Iterator[tuple[str, str, str]]:
    """Hooks of diffusers that carry something from call to call, by whatever door they came, as (place, name, class)."""
    for place, module in denoiser.named_modules():
        registry = vars(module).get("_diffusers_hook")  # getattr takes long to find nothing
        for name, hook in getattr(registry, "hooks", {}).items():
            if getattr(hook, "_is_stateful", False):
                yield place, name, type(hook).__name__


def foreign(denoiser: nn.Module) -> dict[str, Any]:
    """What computes in a denoiser and is of no library that is known, by place: forwards that were put in the place of a module's
    or of a class's own, and attention processors."""
    found: dict[str, Any] = {}
    for place, module in uncompiled(denoiser).named_modules():
        forward = vars(module).get("forward")
        if forward is not None and not _is_known(forward):
            found[f"{place or 'its own'}.forward"] = (forward, module)
        owner = next(c for c in type(module).__mro__ if "forward" in vars(c))
        if _home(vars(owner)["forward"]) != owner.__module__ and not _is_known(vars(owner)["forward"]):
            found[f"{owner.__name__}.forward"] = (vars(owner)["forward"], module, _kept_by(owner))
        processor = vars(module).get("processor")
        written = processor if isinstance(processor, FUNCTIONS) else type(processor)
        if processor is not None and not _is_known(written):
            found[f"{place}.processor"] = processor
    return found


def _home(thing: Any) -> str:
    """Where code was written; wrappers carry the name of what they wrap, so what they run is asked."""
    code = thing.func if isinstance(thing, functools.partial) else getattr(thing, "__func__", thing)
    return getattr(code, "__globals__", {}).get("__name__") or getattr(code, "__module__", None) or ""


def _is_known(thing: Any) -> bool:
    return _home(thing).partition(".")[0] in KNOWN


def _kept_by(kind: type) -> dict[str, Any]:
    """What a class keeps for all its objects, beside its code."""
    return {name: value for name, value in vars(kind).items() if not name.startswith("__") and not callable(value)}


class Belongings:
    """What foreign code has at hand, as it is now: it can be compared, and put back."""

    def __init__(self, things: Mapping[str, Any]) -> None:
        self._tensors: set[tuple[int, int]] = set()  # by identity and how often each has been written into
        self._seen: dict[int, Any] = {}  # held, so that nothing else gets its address
        self._back: list[Callable[[], None]] = []
        for thing in things.values():
            self._add(thing)

    def has_tensors_of(self, other: Belongings) -> bool:
        """Whether the tensors are those that the other one has, not written into since."""
        return self._tensors == other._tensors

    def restore(self) -> None:
        """Put back what was there."""
        for put in self._back:
            put()

    def _add(self, thing: Any, depth: int = 0) -> None:
        if id(thing) in self._seen or depth > DEPTH or isinstance(thing, type | types.ModuleType):
            return
        self._seen[id(thing)] = thing
        if isinstance(thing, Tensor):
            self._tensors.add((id(thing), -1 if thing.is_inference() else thing._version))
            return
        if type(thing) in (dict, OrderedDict, defaultdict):
            self._back.append(functools.partial(_refill, thing, dict(thing)))
        elif type(thing) is list:
            self._back.append(functools.partial(thing.__setitem__, slice(None), list(thing)))
        for one in self._inside(thing):
            self._add(one, depth + 1)

    def _inside(self, thing: Any) -> list[Any]:
        """What a thing holds; where that can be another thing later, a way back is noted."""
        if isinstance(thing, Mapping):
            return list(thing.values())
        if isinstance(thing, list | tuple | set | frozenset):
            return list(thing)
        if isinstance(thing, types.MethodType):
            return [thing.__func__, thing.__self__]
        if isinstance(thing, functools.partial):
            return [thing.func, *thing.args, *thing.keywords.values()]
        if isinstance(thing, types.FunctionType):
            return self._of_function(thing)
        if isinstance(thing, nn.Module):
            return self._noted(vars(thing), set(vars(thing)) - STRUCTURE)
        own = getattr(thing, "__dict__", None)
        return [own] if isinstance(own, dict) and not _is_known(type(thing)) else []

    def _of_function(self, function: types.FunctionType) -> list[Any]:
        cells = []
        for cell in function.__closure__ or ():
            with contextlib.suppress(ValueError):  # not filled yet
                cells.append(cell.cell_contents)
                self._back.append(functools.partial(setattr, cell, "cell_contents", cell.cell_contents))
        named = set(function.__code__.co_names) & set(function.__globals__)
        everywhere = [] if _is_known(function) else self._noted(function.__globals__, named)
        return [*cells, *everywhere, *(function.__defaults__ or ()), vars(function)]

    def _noted(self, where: dict[str, Any], names: set[str]) -> list[Any]:
        values = {name: where[name] for name in names}
        self._back.append(functools.partial(where.update, values))
        return list(values.values())


def _refill(thing: dict, values: dict) -> None:
    thing.clear()
    thing.update(values)


class Watched:
    """Watches the first call of a denoiser that weak passes repeat, where foreign code computes in it.

    Costs nothing where there is none, which is the rule; else one more plain pass of the denoiser in the whole run, which must give
    what the call gave. What the code counts in variables of its own is put back after it.
    """

    def __init__(self) -> None:
        self._sure: set[int] = set()
        self._before: tuple[dict[str, Any], Belongings] | None = None

    def calling(self, denoiser: nn.Module) -> None:
        """A call that weak passes will repeat is coming."""
        self._before = None
        if id(denoiser) in self._sure:
            return
        self._sure.add(id(denoiser))
        if found := foreign(denoiser):
            self._before = found, Belongings(found)

    def called(self, at: Pass) -> None:
        """The call has been made.

        Raises:
            GuidanceError: something in it remembers.
        """
        watched, self._before = self._before, None
        if watched is None:
            return
        found, before = watched
        after = Belongings(found)
        if not after.has_tensors_of(before):
            raise _remembers(at, found, "it keeps tensors from one call to the next")
        try:
            same = _alike(_again(at), at.prediction)
        except torch.OutOfMemoryError:
            return  # weak passes have a way of their own to make do
        finally:
            after.restore()
        if not same:
            raise _remembers(at, found, "the same call, made again, gave another prediction")


def _again(at: Pass) -> Tensor:
    with torch.no_grad(), torch.random.fork_rng():
        return at.family.prediction(uncompiled(at.denoiser).forward(*at.args, **at.kwargs))


def _alike(one: Tensor, other: Tensor) -> bool:
    """Whether two predictions are equal, up to what kernels may add up in another order."""
    if one.shape != other.shape:
        return False
    off = (one.float() - other.float()).norm() / other.float().norm()
    return torch.equal(one, other) or bool(off <= torch.finfo(other.dtype).eps)


def _remembers(at: Pass, found: Mapping[str, Any], seen: str) -> GuidanceError:
    return GuidanceError(
        f"{at.component} is not a function of its arguments alone: {seen} (there is code of no library that the lab knows: "
        f"{', '.join(found)}). As a step cache does, it would answer for skipped blocks, and weak passes would change what it "
        "remembers. Take it off, or load the pipeline afresh. Without weak passes it can be recorded: guidance=None."
    )
