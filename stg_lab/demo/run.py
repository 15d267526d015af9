"""The demo itself: sample the columns, record what the explorers show, and write everything one wants to look at."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stg_lab import figures
from stg_lab.demo import page, pictures
from stg_lab.demo.columns import Sampled, sample_columns
from stg_lab.demo.repair import Repair
from stg_lab.demo.wanted import ALONE, BOTH, CAPTIONS, WITH_CFG, WITH_STG, Wanted, in_digits_world
from stg_lab.digits import world
from stg_lab.errors import CallError
from stg_lab.loading import embedded, load, pipeline_name
from stg_lab.recommended import describe, recommendation
from stg_lab.recording import Recording
from stg_lab.report import report
from stg_lab.report.sources import first
from stg_lab.sampling import Run

#: Of these the explorers show every step. Of STG alone that is the chosen video where there is one, else the column.
PLACES = {WITH_STG: "stg.zarr", WITH_CFG: "baseline.zarr", BOTH: "run.zarr"}

EXPLORED = 1  # of the videos with CFG + STG: with more the page has no room for every explorer


@dataclass(frozen=True)
class Demo:
    """Everything that was sampled.

    Attributes:
        captions: one a row.
        drawn: the columns of the captions.
        chosen: those of the video that was chosen, and what was counted; None where the model has none.
    """

    captions: list[str]
    drawn: dict[str, Sampled]
    chosen: tuple[Repair, dict[str, Sampled]] | None


def run_demo(wanted: Wanted) -> dict[Path, str]:
    """Sample with and without STG and CFG from the same seeds, and write everything one wants to look at.

    Returns:
        The written files and folders, each with a few words on what it is.

    Raises:
        LabError: one of the arguments is wrong; nothing has been sampled then.
    """
    _check_text_to_video(wanted.model, pipeline_name(wanted.model))
    pipe = load(wanted.model)
    _check_text_to_video(wanted.model, type(pipe).__name__)
    demo = _sampled(pipe, wanted)
    print("writing videos, figure and report ...")
    return _write(wanted, demo)


def _sampled(pipe: Any, wanted: Wanted) -> Demo:
    recommended, judged = describe(pipe).recommended, in_digits_world(wanted.model)
    weak = wanted.given or recommended
    if weak is None:
        raise CallError(
            f"for {wanted.model} no weak model is recommended. Say which blocks to skip, for example --weak skip:block:4."
        )
    captions = list(wanted.prompts) or world.draw(CAPTIONS, seed=wanted.seed, split="test").captions
    counted = weak == recommended and wanted.as_counted and judged
    repair = Repair.kept(recommendation(pipe)) if counted else None
    call: dict[str, Any] = {"num_inference_steps": wanted.steps, "overwrite": wanted.overwrite, "judged": judged}
    guidances, places = wanted.guidances(weak), {name: wanted.out / place for name, place in PLACES.items()}
    alone = {WITH_STG: places.pop(WITH_STG)} if repair is not None else {}
    drawn = sample_columns(pipe, guidances, captions, places=places, seed=wanted.seed, **call)
    if repair is None:
        return Demo(captions, drawn, None)
    print(f"one more, chosen because it shows the repair: {repair.caption}, seed {repair.seed}")
    chosen = sample_columns(pipe, guidances, [repair.caption], places=alone, seed=repair.seed, **call)
    return Demo(captions, drawn, (repair, chosen))


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


def _write(wanted: Wanted, demo: Demo) -> dict[Path, str]:
    """Page, film, sheet and figure."""
    out = wanted.out
    grid = page.drawn_grid(wanted, demo.captions, demo.drawn)
    grids = [grid] if demo.chosen is None else [grid, page.chosen_grid(*demo.chosen)]
    columns, whose = (demo.drawn, "the videos") if demo.chosen is None else (demo.chosen[1], "the chosen video")
    alone, both = f"STG, {whose}", "CFG + STG, the first video"
    runs: dict[str, Run | Recording] = {alone: columns[WITH_STG].run}
    baselines: dict[str, Run | Recording] = {alone: columns[ALONE].run}
    for shown, name in ((runs, BOTH), (baselines, WITH_CFG)):
        shown[both] = first(demo.drawn[name].run.recording, EXPLORED)
    pdf, png = figures.save(figures.weak_model(runs[alone], baseline=baselines[alone]), out / "weak_model")
    written = report(
        runs, out / "report.html", title=f"Skip guidance at work: {wanted.model}", baseline=baselines,
        figure_png=png.read_bytes(), grids=grids,
    )  # fmt: skip
    return {
        written: "everything on one interactive page, works offline",
        pictures.write_film(grid, out / "grid.mp4"): "all videos side by side",
        pictures.write_sheet(grid, out / "sheet.png"): "the same, frame by frame",
        pdf: "weak-model figure as in the paper (fig. 18), vector",
        png: "the same as a picture",
        out / PLACES[WITH_STG]: f"every prediction of every step of {whose} with STG: lab.open(...)",
        out / PLACES[BOTH]: "likewise, all of CFG + STG",
        out / PLACES[WITH_CFG]: "likewise, its baseline, CFG alone",
    }
