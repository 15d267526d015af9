"""`stg-lab demo`: the whole lab once through, on the embedded model."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stg_lab.errors import CallError, RecordingExistsError
from stg_lab.guidance import CFG, STG
from stg_lab.loading import embedded, load, pipeline_name
from stg_lab.sampling import plan, sample
from stg_lab.sheets import contact_sheet
from stg_lab.videos import mp4, write_gif
from stg_lab.weak import parse

if TYPE_CHECKING:
    from stg_lab.sampling import Run


def run_demo(
    *,
    out: Path,
    model: str,
    prompts: list[str],
    steps: int,
    cfg: float,
    stg: float,
    weak: str,
    seed: int,
    overwrite: bool = False,
) -> dict[Path, str]:
    """Sample with CFG and with CFG + STG from the same seeds, record both, and write everything one wants to look at.

    Returns:
        The written files and folders, each with a few words on what it is.

    Raises:
        LabError: one of the arguments is wrong; nothing has been computed then.
    """
    guidance = CFG(cfg) + STG(stg, parse(weak))  # a wrong weak model is told before the model is loaded
    wanted = {"CFG": (CFG(cfg), out / "baseline.zarr"), "CFG + STG": (guidance, out / "run.zarr")}
    if not overwrite and any(path.exists() for _, path in wanted.values()):
        raise RecordingExistsError(f"{out} already holds a demo. Add --overwrite, or choose another --out.")
    _check_text_to_video(model, pipeline_name(model))
    pipe = load(model)
    _check_text_to_video(model, type(pipe).__name__)
    common: dict[str, Any] = {
        "prompt": prompts, "seed": seed, "num_inference_steps": steps, "overwrite": overwrite,
    }  # fmt: skip
    for total, path in wanted.values():  # what is wrong with the second run is told before the first is made
        plan(pipe, total, record=path, **common)
    runs = {}
    for name, (total, path) in wanted.items():
        pipe.set_progress_bar_config(desc=f"{name:<9}", leave=True)
        runs[name] = sample(pipe, guidance=total, record=path, **common)
    print("writing videos, figure and report ...")
    return _write(out, runs["CFG + STG"], runs["CFG"], f"CFG({cfg:g})")


def _check_text_to_video(model: str, pipeline: str) -> None:
    """Refuse a pipeline that starts from a picture.

    Args:
        pipeline: name of its class; "" where it is not known yet.
    """
    import diffusers

    kind = getattr(diffusers, pipeline, None) if pipeline else None
    if kind is None:
        return
    takes = inspect.signature(kind.__call__).parameters
    if "prompt" in takes and ("image" not in takes or takes["image"].default is not inspect.Parameter.empty):
        return
    others = [name for name in embedded() if "i2v" not in name and not name.endswith(("-early", "-small"))]
    raise CallError(
        f"the demo is text to video, and {model} is a {pipeline}, which starts from a picture. Choose --model "
        f"{' or '.join(others) or 'of a text-to-video pipeline'}; for this one type lab.sample(pipe, image=..., guidance=...) "
        "in Python."
    )


def _write(out: Path, run: Run, baseline: Run, alone: str) -> dict[Path, str]:
    from stg_lab import figures, plots
    from stg_lab.report import write_report

    videos = {alone: mp4(baseline.video), str(run.guidance): mp4(run.video)}
    (out / "cfg.mp4").write_bytes(mp4(baseline.video, loops=4))
    (out / "stg.mp4").write_bytes(mp4(run.video, loops=4))
    write_gif(np.concatenate([baseline.video, run.video]), out / "both.gif")
    contact_sheet(
        _interleave(baseline.video, run.video),
        [f"{alone}: {c}" if i % 2 == 0 else f"with STG: {c}" for c in run.captions for i in range(2)],
        out / "sheet.png",
        columns=2,
    )
    figure = figures.weak_model(run, baseline=baseline)
    pdf, png = figures.save(figure, out / "weak_model")
    report = write_report(
        out / "report.html",
        run.recording,
        baseline=baseline.recording,
        figure_png=png.read_bytes(),
        plots={
            "How long the guidance vectors are": plots.norms(run.recording),
            "Relative to the conditional prediction": plots.norms(run.recording, relative=True),
        },
        videos=videos,
    )
    return {
        report: "everything on one interactive page, works offline",
        out / "cfg.mp4": f"the videos, {alone} alone",
        out / "stg.mp4": f"the videos, {run.guidance}",
        out / "both.gif": "both, CFG first",
        out / "sheet.png": "both, frame by frame",
        pdf: "weak-model figure as in the paper (fig. 18), vector",
        png: "the same as a picture",
        run.recording.path: "every prediction of every step: lab.open(...)",
        baseline.recording.path: "the CFG run, recorded likewise",
    }


def _interleave(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.stack([a, b], axis=1).reshape(-1, *a.shape[1:])
