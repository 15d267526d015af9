"""The unit of work: one state under one guidance, made, scored and kept under a name that is a hash of all that decides it."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import platform
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from stg_lab.errors import CallError, RecordingError
from stg_lab.files import write, written
from stg_lab.guidance import Guidance
from stg_lab.loading import load
from stg_lab.sampling import sample
from stg_lab.sampling.provenance import fingerprint as value_fingerprint
from stg_lab.sampling.provenance import model_name, plain, versions
from stg_lab.search.scores import Score
from stg_lab.search.states import State
from stg_lab.sweeps import Workers
from stg_lab.weak import parse

CELLS = "cells"
SAMPLED = 64  # numbers of each tensor that a fingerprint looks at
DECIDING = ("stg-lab", "torch", "diffusers", "transformers", "numpy")  # whose versions may change a video


@dataclass(frozen=True)
class Model:
    """What a worker has to load, and how it knows that it loaded the same.

    Attributes:
        name: for `lab.load`; "" for a pipeline that only this process has.
        dtype: of its weights.
        fingerprint: of its classes, settings and weights.
    """

    name: str
    dtype: str
    fingerprint: str

    @classmethod
    def of(cls, pipe: Any) -> Model:
        name = model_name(pipe)
        return cls(name, str(pipe.dtype).removeprefix("torch."), fingerprint(pipe))

    def loaded(self) -> Any:
        """The pipeline in this process, loaded once.

        Raises:
            CallError: what loads under its name is another one than was given.
        """
        return HELD.get(self.fingerprint) or _loaded(self)


#: Pipelines that this process holds already, by fingerprint, while a search runs on them.
HELD: dict[str, Any] = {}


@functools.lru_cache(maxsize=1)
def _loaded(model: Model) -> Any:
    pipe = load(model.name, dtype=getattr(torch, model.dtype)).to(device())
    pipe.set_progress_bar_config(disable=True)
    if fingerprint(pipe) != model.fingerprint:
        raise CallError(
            f"lab.load({model.name!r}) gives another pipeline than the one that was given: its weights, types or scheduler were "
            "changed since it was loaded, which other processes do not know of. Save it, pipe.save_pretrained('FOLDER'), and give "
            "the folder; or leave client= out."
        )
    return pipe


@contextlib.contextmanager
def working(model: Model, pipe: Any, workers: Workers) -> Iterator[None]:
    """This process works with the pipeline that it has, and without a bar for every video; workers end with it."""
    HELD[model.fingerprint] = pipe
    before = getattr(pipe, "_progress_bar_config", None)
    pipe.set_progress_bar_config(disable=True)
    try:
        yield
    finally:
        HELD.pop(model.fingerprint, None)
        workers.close()
        if before is None:
            del pipe._progress_bar_config
        else:
            pipe.set_progress_bar_config(**before)


def fingerprint(pipe: Any) -> str:
    """Changes with a pipeline's classes, settings and weights. Of each tensor some numbers are looked at, spread over all of it."""
    digest = hashlib.sha256(type(pipe).__name__.encode())
    for name, part in sorted(pipe.components.items()):
        digest.update(f"{name} {type(part).__name__} {json.dumps(_config(part), sort_keys=True)}".encode())
        for key, tensor in sorted(part.state_dict().items()) if isinstance(part, nn.Module) else ():
            flat = tensor.detach().reshape(-1)
            some = flat[:: max(flat.numel() // SAMPLED, 1)].float().cpu()
            digest.update(f"{key} {tuple(tensor.shape)} {tensor.dtype}".encode() + some.numpy().tobytes())
    return digest.hexdigest()[:16]


def _config(part: Any) -> dict[str, Any]:
    config = getattr(part, "config", None)
    values = getattr(config, "to_dict", lambda: config)()
    return {k: v for k, v in plain(values).items() if k[:1] != "_"} if isinstance(values, Mapping) else {}


def device() -> str:
    """Where a worker computes: on the GPU that it sees, if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def machine(pipe: Any) -> str:
    """The kind of machine that computes: results of two kinds differ in their last digits, and are not compared."""
    where = getattr(pipe, "_execution_device", pipe.device)
    return torch.cuda.get_device_name(where) if where.type == "cuda" else f"{where.type} {platform.machine()}"


@functools.cache
def deciding_versions() -> dict[str, str]:
    """Versions that a video may depend on."""
    found = versions()
    return {name: found[name] for name in DECIDING}


@dataclass(frozen=True)
class Task:
    """One state under one guidance.

    Attributes:
        folder: of the search.
        model: what makes it.
        guidance: as plain values.
        call: arguments of the pipeline's call, but for those of the state.
        state: caption and seed.
        scores: those that a worker measures; a user's own are measured where the user is.
    """

    folder: str
    model: Model
    guidance: Mapping[str, Any]
    call: Mapping[str, Any]
    state: State
    scores: tuple[Score, ...]

    @functools.cached_property
    def id(self) -> str:
        """A hash of all that decides the video."""
        settings = {
            "model": self.model.fingerprint,
            "guidance": dict(self.guidance),
            "call": {name: value_fingerprint(value) for name, value in {**self.call, **self.state.call}.items()},
            "seed": self.state.seed,
            "versions": deciding_versions(),
        }
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:24]

    @property
    def place(self) -> Path:
        """Its file, but for the ending: .json once it is done, .npz its video, .failed why it failed."""
        return Path(self.folder) / CELLS / self.id


def make(task: Task) -> dict[str, Any]:
    """Make a task's video, score and keep it; what is there already is read.

    Returns:
        What is kept of it: `values` by score, `seconds`, `machine`.
    """
    if (there := kept(task.place)) is not None:
        return there
    try:
        pipe = task.model.loaded()
        started = time.perf_counter()
        run = sample(
            pipe,
            guidance=Guidance.from_dict(task.guidance, parse),
            seed=task.state.seed,
            record=False,
            **{**task.call, **task.state.call},
        )
        video = (run.video.clip(0, 1) * 255).round().astype(np.uint8)
        if len(video) != 1:
            raise CallError(f"a state is one video, and this call makes {len(video)}. Leave num_videos_per_prompt out.")
        shown = video[0].astype(np.float32) / 255
        values = {score.name: score.of(shown, task.state.caption) for score in task.scores}
    except Exception as error:
        if type(error).__name__ != "OutOfMemoryError":  # that is tried again
            write(task.place.with_suffix(".failed"), "".join(traceback.format_exception(error)).encode())
        raise
    found = {
        "values": values, "seconds": time.perf_counter() - started, "machine": machine(pipe),
        "guidance": dict(task.guidance), "caption": task.state.caption, "seed": task.state.seed,
    }  # fmt: skip
    keep_video(task.place.with_suffix(".npz"), video[0])
    write(
        task.place.with_suffix(".json"), json.dumps(found, indent=1).encode()
    )  # last: its being there says that all is
    return found


def kept(place: Path) -> dict[str, Any] | None:
    """What is kept of a task; None where it is not done.

    Raises:
        RecordingError: the file is damaged.
    """
    file = place.with_suffix(".json")
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise RecordingError(f"{file} cannot be read ({error}). Delete it: the video is made again.") from None


def video_of(place: Path) -> np.ndarray:
    """The video of a task that is done, float32 `(frame, height, width, 3)` in [0, 1]."""
    with np.load(place.with_suffix(".npz")) as file:
        return file["video"].astype(np.float32) / 255


def keep_video(file: Path, video: np.ndarray) -> None:
    """Keep a video, eight bits."""
    with written(file) as partial, partial.open("wb") as stream:
        np.savez_compressed(stream, video=video)
