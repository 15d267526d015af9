"""Eyes on a pipeline: which denoiser calls it makes, how many passes run, and what is left on it afterwards."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

import stg_lab as lab

HOOKS = [name for name in vars(nn.Module()) if name.endswith("_hooks")]


@dataclass
class Calls:
    """Arguments of every call that the pipeline itself makes of its denoisers, in order."""

    made: list[tuple[nn.Module, tuple, dict[str, Any]]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.made)


def denoisers(pipe: Any) -> list[nn.Module]:
    found = [getattr(pipe, name, None) for name in ("transformer", "transformer_2", "unet")]
    return [module for module in found if module is not None]


@contextlib.contextmanager
def captured(pipe: Any) -> Iterator[Calls]:
    """Capture the pipeline's own denoiser calls; weak passes are not among them."""
    calls = Calls()

    def kept(value: Any) -> Any:
        return value.clone() if isinstance(value, Tensor) else value  # Kandinsky 5 writes into its latents

    def keep(module: nn.Module, args: tuple, kwargs: dict) -> None:
        calls.made.append((module, tuple(map(kept, args)), {name: kept(value) for name, value in kwargs.items()}))

    handles = [module.register_forward_pre_hook(keep, with_kwargs=True) for module in denoisers(pipe)]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def passes(pipe: Any) -> Iterator[list[int]]:
    """Count every pass through a denoiser, by whomever: each one embeds its patches once. The list grows by one a pass."""
    count: list[int] = []

    def note(*_: Any) -> None:
        count.append(len(count))

    handles = [module.patch_embedding.register_forward_pre_hook(note) for module in denoisers(pipe)]
    try:
        yield count
    finally:
        for handle in handles:
            handle.remove()


def processors(pipe: Any) -> dict[str, int]:
    """Identity of every attention processor."""
    return {
        f"{i}.{path}": id(module.processor)
        for i, denoiser in enumerate(denoisers(pipe))
        for path, module in denoiser.named_modules()
        if hasattr(module, "processor")
    }


def _ours(hook: Any) -> bool:
    """Not of transformers, whose image encoders keep hooks of their own from their first call on."""
    return not getattr(hook, "__module__", "").startswith("transformers.")


def left_behind(pipe: Any) -> list[str]:
    """Everything on the pipeline that a stock one does not have."""
    found = []
    for name, component in pipe.components.items():
        if isinstance(component, nn.Module):
            for path, module in component.named_modules():
                found += [f"{name}.{path}.{kind}" for kind in HOOKS if any(map(_ours, getattr(module, kind).values()))]
                words = ("forward", "__call__", "_compiled_call_impl")
                found += [f"{name}.{path}.{word}" for word in words if word in vars(module)]
    found += [f"scheduler.{key}" for key, value in vars(pipe.scheduler).items() if callable(value)]
    own = {*pipe.components, "_blocks"}  # those of a modular pipeline
    found += [f"pipe.{key}" for key, value in vars(pipe).items() if callable(value) and key not in own]
    return found


def branch(recording: Any, name: str, step: int) -> Tensor:
    """A recorded prediction as a tensor."""
    return torch.from_numpy(recording.prediction(name).isel(step=step).values)


def stopping(step: int, error: type[BaseException] = KeyboardInterrupt) -> Callable[..., dict]:
    """A `callback_on_step_end` that ends the call after a step, as whoever interrupts it does."""

    def stop(pipe: Any, at: int, timestep: Any, given: dict) -> dict:
        if at == step:
            raise error
        return {}

    return stop


def recorded(rig, *weak, steps, **changes):
    """A run that records weak models without their acting: its recording, and its conditional calls by step."""
    guidance = sum((lab.Probe(w) for w in weak), start=lab.Guidance()) + lab.CFG(4)
    with captured(rig.pipe) as calls:
        recording = rig.sample(guidance, **{"num_inference_steps": steps, **changes}).recording
    return recording, calls.made[::2]


def predict(module, args, kwargs):
    with torch.no_grad():
        return module(*args, **kwargs)[0].float()
