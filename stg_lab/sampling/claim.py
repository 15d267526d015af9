"""A pipeline and its scheduler have one state, so only one thread at a time may sample with it."""

from __future__ import annotations

import contextlib
import functools
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stg_lab.errors import CallError
from stg_lab.seams import ELSEWHERE
from stg_lab.undone import undone


@dataclass(frozen=True)
class _Claim:
    """Which thread has a pipeline, and for which contexts; they may end in any order."""

    thread: int
    contexts: set[object]


_claims: weakref.WeakKeyDictionary[Any, _Claim] = weakref.WeakKeyDictionary()


@contextlib.contextmanager
def claimed(pipe: Any) -> Iterator[None]:
    """Inside the `with` no other thread samples with a pipeline. A thread that has it may claim it again.

    Raises:
        CallError: another thread has it. Nothing waits: the other one may be a live run that somebody is looking at.
    """
    here, context = threading.get_ident(), object()
    with undone(functools.partial(_release, pipe, here, context)):
        claim = _claims.setdefault(pipe, _Claim(here, {context}))  # one operation: no thread comes in between
        if claim.thread != here:
            raise CallError(ELSEWHERE)
        claim.contexts.add(context)
        yield


def _release(pipe: Any, thread: int, context: object) -> None:
    claim = _claims.get(pipe)
    if claim is None or claim.thread != thread:
        return
    claim.contexts.discard(context)
    if not claim.contexts:
        _claims.pop(pipe, None)
