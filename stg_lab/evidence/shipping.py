"""What ships beside the findings: numbers of every video, from which a fresh clone reaches verdicts again without sampling."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from stg_lab.evidence.ahead import AHEAD
from stg_lab.evidence.cells import Cell, keep_arrays, kept_arrays, made_by
from stg_lab.evidence.scores import judge_fingerprint
from stg_lab.evidence.subjects import at_hand

#: Kinds of numbers, with how their files end.
KINDS = {"scores": ".npz", "vectors": "-vectors.npz", "ahead": "-ahead.npz"}


def ship(root: Path, folders: Iterable[str], count: int, shipped: Path) -> None:
    """Keep the numbers of run folders for shipping, one file a setting and kind, unless what is there is of more videos.

    Args:
        root: folder of the runs.
        folders: run folders in it, `model/cell`.
        count: videos of a cell.
        shipped: folder of what ships.
    """
    measured = {
        "scores": f"scores-{count}-{judge_fingerprint()}.npz",
        "vectors": f"vectors-{count}.npz",
        "ahead": AHEAD,
    }
    for folder, (kind, name) in itertools.product(folders, measured.items()):
        source, file = root / folder / name, _file(shipped / folder, kind)
        if not source.exists():
            continue  # of the other kind, or known already
        about = _about(json.loads((root / folder / "cell.json").read_text())["weights"])
        if _videos(_read(file, about)) < count:
            file.parent.mkdir(parents=True, exist_ok=True)
            keep_arrays(file, kept_arrays(source) | {key: np.array(value) for key, value in about.items()})


def known(cell: Cell, shipped: Path, count: int, kind: str = "scores") -> dict[str, np.ndarray] | None:
    """Numbers of a cell's first videos that ship, if they are of as many, of the same weights, told by the same judge.

    Weights that do not ship cannot be compared; the numbers stand for themselves then.
    """
    about = _about(made_by(cell)) if at_hand(cell.model) else {"judge": judge_fingerprint()}
    values = _read(_file(cell.folder(shipped), kind), about)
    if _videos(values) < count:
        return None
    return {name: v[:count] for name, v in values.items()}  # diversity is within captions, and these stay whole


def _file(folder: Path, kind: str) -> Path:
    return folder.with_name(folder.name + KINDS[kind])


def _about(weights: str) -> dict[str, str]:
    return {"weights": weights, "judge": judge_fingerprint()}


def _videos(values: Mapping[str, np.ndarray]) -> int:
    return min(map(len, values.values()), default=0)


def _read(file: Path, about: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Numbers in a file; none where it is not there, or of other weights or another judge."""
    values = kept_arrays(file) if file.exists() else {}
    found = {name: str(values.pop(name, "")) for name in ("weights", "judge")}
    return values if {name: found[name] for name in about} == about else {}
