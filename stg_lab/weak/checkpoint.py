"""Autoguidance: another checkpoint of the same kind as the weak model (Karras et al. 2024, arXiv 2406.02507)."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from stg_lab.errors import GuidanceError
from stg_lab.loading import load
from stg_lab.weak.base import Hits, Pass, Weak

if TYPE_CHECKING:
    from torch import nn

    from stg_lab.families import Family

IN_MEMORY = "memory"  # source of a pipeline that was never saved


@dataclass(frozen=True, repr=False)
class Checkpoint(Weak):
    """A weak model that is another model: an earlier training step, a smaller one, or the same one without a fine-tune.

    It gets exactly the arguments of the main model's pass, so it must speak the same latents and the same text embeddings.

    Args:
        source: an embedded name, a folder or a repository id as for `lab.load`, or a pipeline that is loaded already.
        prompt: as in `lab.skip`.
    """

    kind: ClassVar[str] = "checkpoint"
    positional: ClassVar[tuple[str, ...]] = ("source",)
    example: ClassVar[str] = "lab.checkpoint('path/to/earlier')"

    source: str
    pipe: Any = field(default=None, compare=False, repr=False, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.source, str):
            pipe = self.source
            if not hasattr(pipe, "components"):
                raise GuidanceError(
                    f"checkpoint needs a name, a folder or a pipeline, got {pipe!r}. Type {self.example}."
                )
            object.__setattr__(self, "pipe", pipe)
            object.__setattr__(self, "source", str(pipe.config.get("_name_or_path") or IN_MEMORY))

    def module(self, at: Pass) -> nn.Module:
        other = self._denoiser(at.component)
        same = next(at.denoiser.parameters())
        return other if self.pipe is not None else other.to(same.device, same.dtype)

    def _denoiser(self, component: str) -> Any:
        if self.pipe is None and self.source == IN_MEMORY:
            raise GuidanceError(
                "this weak model was a pipeline in memory, which no file can bring back. Give lab.checkpoint(pipe) again."
            )
        return getattr(_loaded(self.source) if self.pipe is None else self.pipe, component, None)

    def check(self, family: Family, component: str, denoiser: nn.Module) -> None:
        other = self._denoiser(component)
        if other is None or type(other) is not type(denoiser):
            raise GuidanceError(
                f"{self.source} has {'no ' + component if other is None else 'a ' + type(other).__name__ + ' there'}, but the "
                f"main model's {component} is a {type(denoiser).__name__}. Autoguidance needs two models of one kind."
            )
        if other is denoiser:
            raise GuidanceError(f"{self.source} is the main model itself, so the guidance vector would be zero.")
        for name in ("in_channels", "out_channels", "patch_size", "text_dim"):
            mine, theirs = denoiser.config.get(name), other.config.get(name)
            if mine != theirs:
                raise GuidanceError(
                    f"{self.source} has {name}={theirs} and the main model {mine}: it cannot take the same arguments."
                )

    @contextlib.contextmanager
    def perturb(self, at: Pass) -> Iterator[Hits]:
        yield {}  # nothing is intercepted: the module is another one


@functools.lru_cache(maxsize=4)
def _loaded(source: str) -> Any:
    return load(source)
