"""The states that all candidates share: which caption, and which seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stg_lab.errors import CallError
from stg_lab.given import Several, Whole, read, shown
from stg_lab.suites import prompts as read_prompts


@dataclass(frozen=True)
class State:
    """What a video is made from, besides its guidance.

    Attributes:
        call: arguments of the pipeline's call that say what to show: the prompt, or an image.
        seed: `lab.sample(pipe, seed=seed, **call)` makes it again.
    """

    call: Mapping[str, Any]
    seed: int

    @property
    def caption(self) -> str:
        return str(self.call.get("prompt", ""))


@dataclass(frozen=True)
class States:
    """Every prompt with every seed, those to choose by and those to tell by.

    Prompts come in turn, and each time round with the next seed: so the first states show every prompt, and no noise comes again
    before it must. Fresh states have other seeds, and begin with the last prompts: where there are more prompts than states,
    they show other ones, too.
    """

    prompts: tuple[Mapping[str, Any], ...]
    seeds: tuple[int, ...]
    fresh_seeds: tuple[int, ...]

    @property
    def count(self) -> tuple[int, int]:
        """How many there are to choose by, and to tell by."""
        return len(self.prompts) * len(self.seeds), len(self.prompts) * len(self.fresh_seeds)

    def __call__(self, place: int, fresh: bool = False) -> State:
        seeds = self.fresh_seeds if fresh else self.seeds
        turn, which = divmod(place, len(self.prompts))
        call = self.prompts[-1 - which if fresh else which]
        return State(call, seeds[(turn + which) % len(seeds)])


def states(prompts: Any, seeds: Any, fresh_seeds: Any = None) -> States:
    """Read what was given.

    Args:
        prompts: captions, a `Path` of a file of them, or for pipelines that start from a picture dicts with the arguments of the call.
        seeds: whole numbers.
        fresh_seeds: those to tell by; None for as many after the greatest of the others.

    Raises:
        CallError: none, something else, or seeds that are both to choose and to tell by.
    """
    if isinstance(prompts, Path):
        prompts = read_prompts(prompts)
    listed = [prompts] if isinstance(prompts, str | Mapping) else list(prompts or ())
    if not listed or not all(isinstance(one, Mapping) or (isinstance(one, str) and one) for one in listed):
        raise CallError(
            "prompts= is a list of captions, or of dicts such as {'image': picture} for pipelines that take no caption, got "
            f"{shown(prompts)}."
        )
    calls = tuple(dict(one) if isinstance(one, Mapping) else {"prompt": one} for one in listed)
    own = _whole(seeds, "seeds")
    fresh = tuple(range(max(own) + 1, max(own) + 1 + len(own))) if fresh_seeds is None else _whole(fresh_seeds, "fresh")
    if both := set(own) & set(fresh):
        raise CallError(
            f"seeds to tell by take no part in choosing, and {sorted(both)[0]} is among both. Give fresh= others."
        )
    return States(calls, own, fresh)


def _whole(given: Any, name: str) -> tuple[int, ...]:
    numbers = read(name, given, Several(Whole()), example=f"{name}=range(32)")
    found = (numbers,) if isinstance(numbers, int) else tuple(numbers)
    if len(set(found)) < len(found):
        raise CallError(f"{name}= is a list of different seeds, got {shown(given)}.")
    return found
