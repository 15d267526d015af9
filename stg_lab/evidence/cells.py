"""Cells of an experiment: many videos at one setting, made batch by batch, so that whatever was cut off goes on."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stg_lab.errors import RecordingError
from stg_lab.evidence.subjects import PER_CAPTION, STEPS, loaded, subject
from stg_lab.guidance import Guidance
from stg_lab.sampling import sample
from stg_lab.sweeps import ALONE, Workers
from stg_lab.weak.checkpoint import Checkpoint

BATCH = 16  # videos of one pipeline call, and of one file


@dataclass(frozen=True)
class Cell:
    """One setting of which many videos are made. Video i is seeded i and shows caption i // 4, in every cell alike.

    Attributes:
        model: name of a subject.
        guidance: how it is guided.
        steps: sampling steps.
        choosing: whether a choice is made by its videos. They have captions (one each) and seeds of their own, which no test
            looks at.
    """

    model: str
    guidance: Guidance
    steps: int = STEPS
    choosing: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides the videos, as plain values."""
        return {
            "model": self.model,
            "guidance": self.guidance.to_dict(),
            "text": str(self.guidance),
            "steps": self.steps,
            **({"choosing": True} if self.choosing else {}),
        }

    @property
    def name(self) -> str:
        """Name of its folder: readable, and another for every other setting."""
        text = json.dumps({k: v for k, v in self.settings.items() if k != "text"}, sort_keys=True)
        words = re.sub(r"[^A-Za-z0-9.]+", "-", str(self.guidance)).strip("-")
        return f"{words[:60]}-{self.steps}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    def folder(self, root: Path) -> Path:
        """Where its videos lie."""
        return root / self.model / (f"choice-{self.name}" if self.choosing else self.name)


def make(cell: Cell, root: Path, count: int, workers: Workers = ALONE) -> Iterator[int]:
    """Make the videos of a cell that are missing; gives how many videos there are after each batch.

    Args:
        root: folder of the runs.
        count: how many videos there shall be; a multiple of 4, so that every caption has all of its own.
        workers: who makes the batches.
    """
    if count % PER_CAPTION:
        raise ValueError(f"a cell has {PER_CAPTION} videos of each caption: choose a multiple of that, not {count}.")
    folder = begun(cell, root)
    batches = {first: min(BATCH, count - first) for first in range(0, count, BATCH)}
    missing = [(cell, folder, first, some) for first, some in batches.items() if not _there(folder, first, some)]
    done = count - sum(some for *_, some in missing)
    yield done
    for some in workers.do(_make_batch, missing):
        done += some
        yield done


def _there(folder: Path, first: int, some: int) -> bool:
    file = _file(folder, first)
    return file.exists() and len(kept_arrays(file)["video"]) >= some


def _make_batch(cell: Cell, folder: Path, first: int, some: int) -> int:
    keep_arrays(_file(folder, first), {"video": _sampled(cell, first, some)})
    return some


def videos(cell: Cell, root: Path, count: int) -> np.ndarray:
    """The first videos of a cell, float32 `(video, frame, height, width, 3)` in [0, 1].

    Raises:
        RecordingError: there are fewer.
    """
    parts = [_file(cell.folder(root), first) for first in range(0, count, BATCH)]
    if not all(part.exists() for part in parts):
        raise RecordingError(f"{cell.folder(root)} has fewer than {count} videos. Run `make evidence` to make them.")
    video = np.concatenate([kept_arrays(part)["video"] for part in parts])[:count]
    return video.astype(np.float32) / 255


def keep_arrays(file: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays by name, whole or not at all."""
    partial = file.with_name(f"{file.stem}-{os.getpid()}.partial.npz")  # two processes may make the same cell
    np.savez_compressed(partial, **arrays)  # type: ignore[arg-type]
    os.replace(partial, file)


def kept_arrays(file: Path) -> dict[str, np.ndarray]:
    """What `keep_arrays` wrote."""
    with np.load(file) as kept:
        return {name: kept[name] for name in kept.files}


def once(file: Path, measure: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """What was measured, from a file where it is there, else measured now and kept in it."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        keep_arrays(file, measure())
    return kept_arrays(file)


def _sampled(cell: Cell, first: int, count: int) -> np.ndarray:
    who = subject(cell.model)
    run = sample(
        who.pipe,
        guidance=cell.guidance,
        record=False,
        num_inference_steps=cell.steps,
        **who.call(first, count, cell.choosing),
    )
    return (run.video.clip(0, 1) * 255).round().astype(np.uint8)


def _file(folder: Path, first: int) -> Path:
    return folder / f"videos-{first:05d}.npz"


def begun(cell: Cell, root: Path) -> Path:
    """The folder of a cell, with its settings in it.

    Raises:
        RecordingError: it holds videos of other weights, which must not be mixed with these.
    """
    folder, settings = cell.folder(root), {**cell.settings, "weights": made_by(cell)}
    file = folder / "cell.json"
    if file.exists() and json.loads(file.read_text())["weights"] != settings["weights"]:
        raise RecordingError(
            f"{folder} holds videos of other weights of {cell.model}. Delete it, or choose another --runs folder."
        )
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(settings, indent=1) + "\n")
    return folder


def made_by(cell: Cell) -> str:
    """A fingerprint of all weights that a cell's numbers come from: the model's, and those of checkpoints beside it."""
    beside = [weak.source for weak in cell.guidance.weak.values() if isinstance(weak, Checkpoint)]
    if not beside:
        return weights(cell.model)
    return hashlib.sha256(" ".join(map(weights, (cell.model, *beside))).encode()).hexdigest()[:16]


@functools.cache
def weights(model: str) -> str:
    """A fingerprint of an embedded model's weights."""
    digest, pipe = hashlib.sha256(), loaded(model)
    for name in sorted(pipe.components):
        module = pipe.components[name]
        if hasattr(module, "state_dict"):
            for key, value in sorted(module.state_dict().items()):
                digest.update(key.encode())
                digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
