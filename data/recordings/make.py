"""Makes the recordings that ship: `python data/recordings/make.py [NAME ...]`. A few minutes on two cores.

They are float16, one sample each and few steps, so that all of them together stay below 32 MB.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import stg_lab as lab
from stg_lab.recommended import recommendation

HERE = Path(__file__).resolve().parent
CAPTION, MIDDLE = "a red seven moving left", [3, 4, 5]


def run(name: str, guidance: Any, *, steps: int, folder: Path, model: str = "digits-joint-plain", **call: Any) -> Path:
    """One run of an embedded model, of one caption at seed 0 unless told otherwise."""
    call = {"prompt": CAPTION, "seed": 0, "num_inference_steps": steps, **call}
    lab.sample(pipe(model), guidance=guidance, record=folder / f"{name}.zarr", record_dtype="float16", **call)
    return folder / f"{name}.zarr"


def pipe(model: str = "digits-joint-plain") -> Any:
    """An embedded model, without its own progress bar."""
    loaded = lab.load(model)
    loaded.set_progress_bar_config(disable=True)
    return loaded


def example() -> dict[str, Any]:
    """The video of digits-joint that was chosen because STG repairs it: caption and seed."""
    kept = recommendation(pipe("digits-joint"))
    assert kept is not None
    return {"prompt": kept["repair"]["example"]["caption"], "seed": kept["repair"]["example"]["seed"]}


def repaired(name: str, guidance: Any, folder: Path) -> Path:
    """A run of digits-joint on the video that STG repairs."""
    return run(name, guidance, steps=16, folder=folder, model="digits-joint", **example())


def recommended() -> Any:
    """STG with the recommended weak model."""
    return lab.STG(1, lab.describe(pipe("digits-joint")).recommended)


def repair(folder: Path) -> Path:
    """STG alone."""
    return repaired("repair", recommended(), folder)


def repair_unguided(folder: Path) -> Path:
    """The same call without guidance."""
    return repaired("repair_unguided", lab.CFG(1), folder)


def repair_both(folder: Path) -> Path:
    """The same call with CFG and STG."""
    return repaired("repair_both", lab.CFG(2) + recommended(), folder)


def weak_models(folder: Path) -> Path:
    """CFG alone, with many ways to make a weak model looked at on the way."""
    guidance = lab.CFG(4)
    for weak in (
        lab.skip([4]),
        lab.skip([4], part="attention"),
        lab.blur(MIDDLE),
        lab.shuffle([4], axis="temporal"),
        *([lab.checkpoint("digits-joint-early")] if "digits-joint-early" in lab.embedded() else []),
    ):
        guidance = guidance + lab.Probe(weak)
    return run("weak_models", guidance, steps=10, folder=folder)


def space_time(folder: Path) -> Path:
    """Spatial and temporal attention skip as two terms (the paper's eq. 20)."""
    spatial, temporal = (lab.skip(MIDDLE, part="attention", axis=axis) for axis in ("spatial", "temporal"))
    return run("space_time", lab.CFG(4) + lab.STG(1, spatial) + lab.STG(1, temporal), steps=10, folder=folder)


def layers(folder: Path) -> Path:
    """Every layer x part x axis at one state of one run, with all one-step predictions."""
    path = folder / "layers.zarr"
    call: dict[str, Any] = {"prompt": CAPTION, "num_inference_steps": 16, "guidance_scale": 4.0}
    lab.ablate(pipe(), step=6, seed=0, record=path, record_dtype="float16", progress=False, **call)
    return path


def layers_scores(folder: Path) -> Path:
    """The same at two states of runs of four captions, scores alone."""
    path = folder / "layers_scores.zarr"
    captions = [CAPTION, "a green three growing", "a blue zero bouncing", "a white five turning"]
    call: dict[str, Any] = {"prompt": captions, "num_inference_steps": 16, "guidance_scale": 4.0}
    lab.ablate(pipe(), step=[2, 6], seed=0, record=path, record_dtype="float16", keep_x0=False, progress=False, **call)
    return path


MAKERS = {
    maker.__name__: maker
    for maker in (
        repair,
        repair_unguided,
        repair_both,
        weak_models,
        space_time,
        layers,
        layers_scores,
    )
}


def main(names: list[str]) -> None:
    """Make the named recordings, or all."""
    for name in names or list(MAKERS):
        with tempfile.TemporaryDirectory() as folder:
            file = lab.pack(MAKERS[name](Path(folder)), HERE / f"{name}.zarr.zip", overwrite=True)
        print(f"{name}: {file.stat().st_size / 1e6:.2f} MB", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
