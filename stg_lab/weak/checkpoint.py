"""Autoguidance: another checkpoint of the same kind as the weak model (Karras et al. 2024, arXiv 2406.02507)."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from stg_lab.errors import GuidanceError
from stg_lab.given import shown
from stg_lab.loading import folder_of, load
from stg_lab.patch import Hits
from stg_lab.weak.base import Pass, Weak

if TYPE_CHECKING:
    from torch import nn

    from stg_lab.families import Family

#: Pipelines that were given as objects, numbered so that two of them are two weak models: "memory-1", "memory-2", ... Where they
#: were loaded from does not tell them apart, since what was loaded may have been changed (a LoRA, a fine-tune).
_in_memory: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
_numbers = itertools.count(1)

Version = tuple[tuple[str, int, int], ...]
KEPT = 4  # denoisers that stay loaded
_kept: dict[tuple[str, str, Any], tuple[Version, Any]] = {}
_loading = threading.Lock()
#: What each source was when a run last began with it. A run keeps the weights that it began with, whatever is saved meanwhile.
_versions: dict[str, Version] = {}


@dataclass(frozen=True, repr=False)
class Checkpoint(Weak):
    """A weak model that is another model: an earlier training step, a smaller one, or the same one without a fine-tune.

    It gets exactly the arguments of the main model's pass, so it must speak the same latents and the same text embeddings.
    A recording names it by its source. A pipeline in memory has a number of its own instead, whatever it was loaded from: its
    weights may not be those of any file, so no file stands in for it when a recording is made again.

    Args:
        source: an embedded name, a folder or a repository id as for `lab.load`, or a pipeline that is loaded already.
        loaded_from: of a pipeline in memory, where it came from; filled in, and only told.
        prompt: as in `lab.skip`.

    Raises:
        GuidanceError: the source is none of these.
    """

    kind: ClassVar[str] = "checkpoint"
    positional: ClassVar[tuple[str, ...]] = ("source",)
    example: ClassVar[str] = "lab.checkpoint('path/to/earlier')"
    example_text: ClassVar[str] = "checkpoint:path/to/earlier"
    steady: ClassVar[bool] = True

    source: str
    loaded_from: str = field(default="", kw_only=True)
    pipe: Any = field(default=None, compare=False, repr=False, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        given: Any = self.source
        if isinstance(given, str | os.PathLike) and os.fspath(given):
            object.__setattr__(self, "source", os.fspath(given))
        elif hasattr(given, "components"):
            object.__setattr__(self, "pipe", given)
            object.__setattr__(self, "source", _numbered(given))
            object.__setattr__(self, "loaded_from", str(given.config.get("_name_or_path") or ""))
        else:
            raise GuidanceError(
                f"checkpoint needs a name, a folder or a pipeline, got {shown(given)}. Type {self.example}."
            )

    @property
    def words(self) -> str:
        origin = f", loaded from {self.loaded_from}" if self.loaded_from else ""
        return f"another checkpoint: {self.source}{origin}{self._under_prompt()}"

    def module(self, at: Pass) -> nn.Module:
        other = self._denoiser(at.component, at.denoiser)
        return other if self.pipe is not None else other.to(at.prediction.device)

    def shares_prefix(self, at: Pass) -> bool:
        return False

    def _denoiser(self, component: str, main: nn.Module) -> Any:
        if self.pipe is not None:
            return getattr(self.pipe, component, None)
        if re.fullmatch(r"memory-\d+", self.source):
            origin = self.loaded_from
            unchanged = f" If it was as loaded from {origin}: lab.checkpoint({origin!r})." if origin else ""
            raise GuidanceError(
                f"{self} was a pipeline in memory, which no file can bring back. Give the pipeline again: lab.checkpoint(pipe)."
                f"{unchanged}"
            )
        if self.source not in _versions:
            _versions[self.source] = _version(self.source)
        return _loaded(self.source, component, main.dtype, _versions[self.source])

    def check(self, family: Family, component: str, denoiser: nn.Module) -> None:
        if self.pipe is None:
            _versions[self.source] = _version(self.source)
        other, mine = self._denoiser(component, denoiser), type(denoiser).__name__
        if type(other) is not type(denoiser):
            theirs = f"no {component}" if other is None else f"a {type(other).__name__} there"
            raise GuidanceError(
                f"{self.source} has {theirs}, but the main model's {component} is a {mine}. Autoguidance needs two models of "
                "one kind: give an earlier or a smaller checkpoint of the main model."
            )
        if other is denoiser:
            raise GuidanceError(
                f"{self.source} is the main model itself, so the guidance vector would be zero. Give another pipeline."
            )
        for name in ("in_channels", "out_channels", "patch_size", "text_dim"):
            here, there = _setting(denoiser, name), _setting(other, name)
            if here != there:
                raise GuidanceError(
                    f"{self.source} has {name}={there} and the main model {here}: it cannot take the same arguments. Give a "
                    "checkpoint for the same latents and text embeddings."
                )

    @contextlib.contextmanager
    def perturb(self, at: Pass) -> Iterator[Hits]:
        yield {}  # nothing is intercepted: the module is another one


def _numbered(pipe: Any) -> str:
    if pipe not in _in_memory:
        _in_memory[pipe] = f"memory-{next(_numbers)}"
    return _in_memory[pipe]


def _setting(denoiser: Any, name: str) -> Any:
    """A configuration from a file has lists where one made in memory has tuples."""
    value = denoiser.config.get(name)
    return tuple(value) if isinstance(value, list) else value


def _loaded(source: str, component: str, dtype: Any, version: Version) -> Any:
    """The denoiser alone, in the main model's dtype with what its class keeps in float32; the rest is let go. Of each source the
    newest version is kept, of the few sources that were used last."""
    key = source, component, dtype
    with _loading:
        held, module = _kept.pop(key, (None, None))
        if held != version:
            del module  # the old weights need not be there beside the new ones
            module = getattr(load(source, dtype=dtype), component, None)
        while len(_kept) >= KEPT:
            del _kept[next(iter(_kept))]
        _kept[key] = version, module
        return module


def _version(source: str) -> Version:
    """Names, sizes and times of a saved model's files, which are others when it has been trained on and saved again."""
    folder = folder_of(source)
    files = sorted(file for file in folder.rglob("*") if file.is_file()) if folder.is_dir() else []
    return tuple((str(file), (about := file.stat()).st_size, about.st_mtime_ns) for file in files)
