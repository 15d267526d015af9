"""The empty caption in place of a call's own, encoded once a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stg_lab.weak.base import Pass


def without_caption(at: Pass) -> tuple[tuple, dict[str, Any]]:
    """The arguments of the pipeline's call with the empty caption.

    What stands for it is the same at every step, and a text encoder may have to be fetched back from main memory for it. So what
    the family put in is kept in `at.memory`, and put in again where the arguments that it replaces are of the same kind.
    """
    known = at.memory.get((without_caption, at.component))
    if known is not None and all(_kind(_given(at, place)) == _kind(value) for place, value in known.items()):
        return _changed(at, known)
    args, kwargs = at.family.without_caption(at.pipe, at.args, at.kwargs)
    whole: list[tuple[int | str, Any]] = [*enumerate(args), *kwargs.items()]
    new = {place: value for place, value in whole if value is not _given(at, place)}
    at.memory[without_caption, at.component] = new
    return args, kwargs


def _given(at: Pass, place: int | str) -> Any:
    """An argument of the pipeline's call, by number or name."""
    if isinstance(place, int):
        return at.args[place] if place < len(at.args) else None
    return at.kwargs.get(place)


def _changed(at: Pass, new: dict[int | str, Any]) -> tuple[tuple, dict[str, Any]]:
    args = tuple(new.get(number, value) for number, value in enumerate(at.args))
    return args, {**at.kwargs, **{name: value for name, value in new.items() if isinstance(name, str)}}


def _kind(value: Any) -> tuple[Any, ...]:
    return type(value), *(getattr(value, name, None) for name in ("shape", "dtype", "device"))
