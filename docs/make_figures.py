"""Makes the gallery of figures: `python docs/make_figures.py` writes docs/figures.md and its pictures.

All but one figure come from the recordings that ship, without a model. Quality against diversity needs videos:
`python docs/make_figures.py measure` samples and measures them anew (some minutes on two cores).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import stg_lab as lab

HERE = Path(__file__).resolve().parent
FOLDER = HERE / "figures"
MEASURED = FOLDER / "quality_diversity.json"

CAPTIONS = [
    "a red seven moving left",
    "a green three growing",
    "a blue zero bouncing",
    "a white five turning",
    "a yellow two moving right",
    "a red nine standing still",
    "a green four moving up",
    "a blue one moving down",
]
EACH, STEPS = 2, 8  # videos of a caption, and their steps
STG = lab.skip([4])
SETTINGS: dict[str, Any] = {
    **{f"CFG {scale:g}": lab.CFG(scale) for scale in (1, 2, 4)},
    **{f"STG {scale:g}": lab.STG(scale, STG) for scale in (0.5, 1, 2)},
    "CFG 4 + STG": lab.CFG(4) + lab.STG(1, STG),
}
ABOUT = {"model": "digits-joint", "captions": CAPTIONS, "each": EACH, "steps": STEPS, "seed": 0, "stg": str(STG)}


def measure() -> None:
    """Sample every setting from the same seeds, and keep what quality and diversity come to; goes on where it was cut off."""
    from stg_lab.figures.points import points_of

    pipe = lab.load("digits-joint")
    pipe.set_progress_bar_config(disable=True)
    prompts = [caption for caption in CAPTIONS for _ in range(EACH)]
    kept = json.loads(MEASURED.read_text()) if MEASURED.exists() else {}
    rows = kept["rows"] if kept.get("about") == ABOUT else []
    for name, guidance in SETTINGS.items():
        if name in [row["setting"] for row in rows]:
            continue
        call: dict[str, Any] = {"prompt": prompts, "num_inference_steps": STEPS}
        run = lab.sample(pipe, guidance=guidance, seed=0, record=False, **call)
        [point] = points_of({(name, 0): run}, None, None, None)
        rows.append({"setting": name, "right": _plain(point.quality), "diversity": _plain(point.diversity)})
        if name == "CFG 1":  # the same videos as without STG
            rows.append({**rows[-1], "setting": "STG 0"})
        MEASURED.write_text(json.dumps({"about": ABOUT, "rows": rows}, indent=1) + "\n")


def _plain(interval: Any) -> dict[str, float]:
    return {name: round(float(getattr(interval, name)), 4) for name in ("value", "low", "high")}


#: File, title, the one call that makes it, and what it shows.
FIGURES = [
    (
        "weak_model",
        "Weak model",
        'lab.figures.weak_model(lab.open("repair_both"), baseline=lab.open("repair_unguided"), step=1)',
        "The paper's figures 18 and 19. Rows (a) to (e) are one-step predictions from one and the same state, (f) and (g) the "
        "finished videos without and with STG.",
    ),
    (
        "weak_models",
        "Many weak models",
        'lab.figures.weak_models(lab.open("weak_models"), step=3)',
        "What each weak model predicts from one state, and where its guidance vector points; one gain for all rows. The bar is the "
        "vector's length against the conditional prediction's.",
    ),
    (
        "scale_sweep",
        "Scale sweep",
        'lab.figures.scale_sweep(lab.open("repair_both"), scales=[0, 1, 2, 4, 8], step=6, frames=1)',
        "The paper's figure 3. From one recording: exact for that step from the recorded state, not videos sampled at these "
        'scales. `vary="CFG"` turns the other knob; without `frames=1` every scale gets a film strip.',
    ),
    (
        "scale_sweep_runs",
        "Scale sweep from runs",
        'lab.figures.scale_sweep([lab.open("repair_unguided"), lab.open("repair")])',
        "The same from runs that were each sampled at their scale: their final videos.",
    ),
    (
        "spatial_temporal",
        "Space and time",
        'lab.figures.spatial_temporal(lab.open("space_time"), step=3)',
        "The paper's figures 10 to 13: two weak models, one blind in space and one in time, and guidance away from each.",
    ),
    (
        "layer_ablation",
        "Layer ablation",
        'lab.figures.layer_ablation(lab.open_ablation("layers"))',
        "The paper's figure 9: what is left of the prediction when a layer is skipped.",
    ),
    (
        "compare_layers",
        "Layers compared on one seed",
        'lab.figures.compare_layers(lab.load("digits-joint"), seed=97, prompt="a red nine standing still", num_inference_steps=16)',
        "The same noise without each layer in turn, without CFG and with it: finished videos, which are sampled for the figure. One seed "
        "shows what can happen, not how often.",
    ),
    (
        "grid",
        "Grid of videos",
        'lab.figures.grid(lab.open_search("layers"), sort="right")',
        "What a search sampled: candidates by seed, baselines first, with the mean of a score. Takes runs, recordings and arrays, too; "
        '`by="scale"` has a column for each scale.',
    ),
    (
        "quality_diversity",
        "Quality against diversity",
        'lab.figures.quality_diversity("docs/figures/quality_diversity.json")',
        "The paper's figure 4, here with the share of videos in which the judge sees what the caption asks for against the mean "
        "distance of videos of one caption. 16 videos a setting, two of each of eight captions, 8 steps, the same seeds in every setting; "
        "bars are 95 % intervals over captions: too few videos to tell the curves apart. Takes rows, runs, or a finding of `make evidence`.",
    ),
]
MOVING = ("weak_model", "scale_sweep_runs")

PAGE = """# Figures

Every figure of `lab.figures`, with the one call that makes it. This page is written by `docs/make_figures.py` from the
recordings that ship, and but for one no model is needed. All calls take `width="page"` (6.9 inches, the default), `"column"` (3.3 inches) or a
number of inches; letters are at least 6 points on paper.

    import stg_lab as lab

    figure = lab.figures.weak_model(lab.open("repair_both"), width="column")
    lab.figures.save(figure, "out/weak_model")     # weak_model.pdf, fonts embedded, and weak_model.png: always the same bytes
    lab.figures.animate(figure, "out/weak_model")  # weak_model.mp4 and weak_model.gif: the same clips, moving

Letters and words of all figures that are made inside a `with`; labels have the room that they need, and no width or size drops a row:

    with lab.figures.styled(font="DejaVu Serif", size=8, labels={{"conditional": "bedingt"}}):
        figure = lab.figures.weak_model(lab.open("repair_both"))

{figures}
"""


def gallery() -> None:
    """Draw every figure at both widths, and write the page."""
    FOLDER.mkdir(exist_ok=True)
    parts = []
    for name, title, call, words in FIGURES:
        if not hasattr(lab.figures, call.split("(")[0].removeprefix("lab.figures.")):
            continue
        for width in ("page", "column"):
            figure = eval(f"{call[:-1]}, width={width!r})", {"lab": lab})  # our own calls
            lab.figures.save(figure, FOLDER / f"{name}_{width}", formats=["png"], dpi=200)
        parts += [f"## {title}", f"```python\n{call}\n```", words]
        parts.append(f"![{title}, page width](figures/{name}_page.png)")
        parts.append(
            f'<details><summary>In a column</summary>\n\n<img src="figures/{name}_column.png" width="528" '
            f'alt="{title}, column width">\n\n</details>'
        )
        if name in MOVING:
            lab.figures.animate(figure, FOLDER / f"{name}.gif")
            parts += ["Moving, by `lab.figures.animate(figure, ...)`:", f"![{title}, moving](figures/{name}.gif)"]
    (HERE / "figures.md").write_text(PAGE.format(figures="\n\n".join(parts)))


if __name__ == "__main__":
    if sys.argv[1:] == ["measure"]:
        measure()
    else:
        gallery()
