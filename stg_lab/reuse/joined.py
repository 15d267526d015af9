"""Several weak models in one forward pass: each has its own rows of a larger batch, and acts on those alone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from stg_lab.families import Family
from stg_lab.undone import stacked
from stg_lab.weak import Pass, Weak
from stg_lab.weak.base import Hits, changed_modules, checked, plain_around, replaced_forward, uncompiled
from stg_lab.weak.memory import chunked, with_rows


def can_join(family: Family, weak: Weak, at: Pass) -> bool:
    """Whether a weak model may have its rows in a larger batch: blocks of the family must keep the rows apart and in order, which
    those that fold space or time into the batch do not."""
    return family.axes == ("joint",) and family.sequential and weak.shares_prefix(at)


def run_joined(models: list[Weak], at: Pass) -> list[Tensor]:
    """What `run_weak` gives for each of the models, from one pass.

    Raises:
        GuidanceError: an interception of one of them was never reached, or its rows came out equal to those they weaken.
    """
    count, batch = len(models), len(at.prediction)
    many = with_rows(at, lambda x: torch.cat([x] * count))
    module = uncompiled(at.denoiser)
    with (
        _Rows(at.family, count).perturbed(models, at) as (hits, changed),
        plain_around(changed, module),
        torch.no_grad(),
    ):
        prediction = at.family.prediction(module.forward(*many.args, **many.kwargs))
    pieces = prediction.split(batch)
    return [checked(weak, at, piece, hit) for weak, piece, hit in zip(models, pieces, hits, strict=True)]


class _Rows:
    """Shares the rows of a pass out to the forwards that different weak models gave a module."""

    def __init__(self, family: Family, count: int) -> None:
        self._family = family
        self._active = tuple(range(count))  # the models whose rows the module that runs now was given, in order

    @contextlib.contextmanager
    def perturbed(self, models: list[Weak], at: Pass) -> Iterator[tuple[list[Hits], list[nn.Module]]]:
        """Perturb the denoiser with all models, each on its rows; yields their hits and the modules concerned."""
        forwards: dict[nn.Module, dict[int, Callable[..., Any]]] = {}
        hits = []
        for number, weak in enumerate(models):
            # Entered and left, to learn the forwards that it gives to which modules: they are put in place further down.
            with changed_modules() as changed, weak.perturb(at) as hit:
                for module in changed:
                    forwards.setdefault(module, {})[number] = module.forward
            hits.append(hit)
        with stacked() as stack:
            for module, given in forwards.items():
                stack.enter_context(replaced_forward(module, self._sharing_out(given), {}, ""))
            yield hits, list(forwards)

    def _sharing_out(
        self, given: Mapping[int, Callable[..., Any]]
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def make(forward: Callable[..., Any]) -> Callable[..., Any]:
            def shared_out(*args: Any, **kwargs: Any) -> Any:
                active = self._active
                others = tuple(n for n in active if n not in given)
                groups = [((n,), given[n]) for n in active if n in given] + [(others, forward)] * bool(others)
                if len(groups) == 1:
                    return groups[0][1](*args, **kwargs)
                outputs: dict[int, Any] = {}
                for numbers, run in groups:
                    taken = self._taking(active, numbers, args, kwargs)
                    self._active = numbers
                    try:
                        output = run(*taken[0], **taken[1])
                    finally:
                        self._active = active
                    outputs |= {n: chunked(output, (k, len(numbers))) for k, n in enumerate(numbers)}
                return _joined([outputs[n] for n in active])

            return shared_out

        return make

    def _taking(
        self, active: tuple[int, ...], numbers: tuple[int, ...], args: tuple, kwargs: Mapping[str, Any]
    ) -> tuple[tuple, dict[str, Any]]:
        """The arguments with the rows of some of the models. What has rows is told by the length of the first tensor."""
        rows = next(len(x) for x in (*args, *kwargs.values()) if isinstance(x, Tensor))

        def take(x: Any) -> Any:
            if isinstance(x, Tensor) and x.ndim and len(x) == rows:
                pieces = x.chunk(len(active))
                return torch.cat([pieces[active.index(n)] for n in numbers])
            return type(x)(map(take, x)) if type(x) in (tuple, list) else x

        names = self._family.unbatched
        return tuple(map(take, args)), {k: v if k in names else take(v) for k, v in kwargs.items()}


def _joined(outputs: list[Any]) -> Any:
    first = outputs[0]
    if isinstance(first, Tensor):
        return torch.cat(outputs)
    if isinstance(first, tuple | list):
        return type(first)(_joined(list(column)) for column in zip(*outputs, strict=True))
    return first
