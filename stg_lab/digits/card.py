"""Exporting a trained model: a diffusers folder with a model card that says what it is."""

from __future__ import annotations

import csv
import json
import platform
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from stg_lab.digits import world
from stg_lab.digits.judge import Score, judge_video
from stg_lab.digits.objective import Card
from stg_lab.sheets import contact_sheet

if TYPE_CHECKING:
    from stg_lab.digits.train import Trainer

SAMPLES = 32  # on the card's contact sheet, unpicked
JUDGED = 200  # for the card's accuracies
STEPS, SCALE = 24, 4.0
WEAKER = {"early": "from early in its training", "small": "with fewer and narrower blocks"}  # ends of names
HALF_ABOVE = 2_000_000  # parameters: beyond about 8 MB in float32, the denoiser is stored in float16


def export(trainer: Trainer, folder: Path, *, begun_with: Path | None = None) -> None:
    """Write the averaged weights as a stock diffusers pipeline, with samples, loss curve, accuracies and a card.

    Args:
        trainer: at the end of its recipe (or wherever it was stopped; the card says so).
        folder: for example data/models/digits-joint; replaced as a whole once everything is written.
        begun_with: folder of the exported model whose weights the training began with, which the card tells of, too.
    """
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    pipe = trainer.averaged_pipeline()
    denoiser = next(iter(trainer.objective.parts(pipe).values()))
    if sum(p.numel() for p in denoiser.parameters()) > HALF_ABOVE:
        denoiser.half()  # diffusers loads it back as float32; what is judged below is what ships
    pipe.save_pretrained(partial)
    denoiser.float()
    before = None if begun_with is None else json.loads((begun_with / "training.json").read_text())
    (partial / "loss.csv").write_text(_loss_curve(trainer.out / "loss.csv", begun_with))
    held_out = trainer.validate()
    clips = world.draw(JUDGED, seed=0, split="test")
    labels, video = clips.labels, sample(trainer, pipe, clips)
    contact_sheet(video[:SAMPLES], [label.caption for label in labels[:SAMPLES]], partial / "samples.webp", columns=2)
    card = trainer.objective.card()
    _loss_figure(partial / "loss.csv", partial / "loss.png", card.loss)
    facts = {
        "updates": trainer.update,
        "of": trainer.recipe.updates,
        "hours": round(trainer.seconds / 3600, 2),
        "machine": _machine(trainer.device),
        "held_out_loss": round(held_out, 5),
        "judge": {name: score.as_dict() for name, score in judge_video(video, labels).items()},
        "judged": {"samples": JUDGED, "steps": STEPS, "guidance_scale": SCALE, "seeds": f"0 to {JUDGED - 1}"},
        "recipe": trainer.recipe.as_dict(),
        "begun_with": before and {k: v for k, v in before.items() if not k.startswith("judge")},
        "torch": torch.__version__,
    }
    (partial / "training.json").write_text(json.dumps(facts, indent=1) + "\n")
    (partial / "README.md").write_text(_card(folder.name, type(pipe).__name__, card, facts))
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial.rename(folder)


def _rounds(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """All rounds of a training, the first one first."""
    before = facts.get("begun_with")
    return [*(_rounds(before) if before else []), facts]


def _loss_curve(path: Path, begun_with: Path | None) -> str:
    """The loss curve, after that of the weights that the training began with."""
    header, *rows = path.read_text().splitlines()
    if begun_with is None:
        return "\n".join([header, *rows]) + "\n"
    earlier = (begun_with / "loss.csv").read_text().splitlines()[1:]
    updates, _, _, seconds = earlier[-1].split(",")
    for number, row in enumerate(rows):
        update, frames, loss, time = row.split(",")
        rows[number] = f"{int(update) + int(updates)},{frames},{loss},{float(time) + float(seconds):.1f}"
    return "\n".join([header, *earlier, *rows]) + "\n"


def sample(trainer: Trainer, pipe: Any, clips: world.Clips, batch: int = 25) -> np.ndarray:
    """One video a clip's label, `(clip, frame, height, width, 3)`; sample i is seeded i."""
    videos = []
    for first in range(0, len(clips), batch):
        some = clips[first : first + batch]
        seeds = range(first, first + len(some))
        videos.append(
            trainer.objective.sample(pipe, some, seeds=seeds, num_inference_steps=STEPS, guidance_scale=SCALE)
        )
    return np.concatenate(videos)


def _machine(device: torch.device) -> str:
    if device.type == "cuda":
        return f"one {torch.cuda.get_device_name(device)}"
    threads = torch.get_num_threads()
    return f"{threads} CPU thread{'s' * (threads > 1)} ({platform.machine()})"


def _loss_figure(csv_path: Path, png: Path, label: str) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    rows = list(csv.DictReader(csv_path.open()))
    figure, ax = plt.subplots(figsize=(6.4, 2.8), layout="constrained")
    for frames, colour in ((1, "#E69F00"), (world.FRAMES, "#0072B2")):
        part = [(int(r["update"]), float(r["loss"])) for r in rows if int(r["frames"]) == frames]
        if part:
            ax.plot(
                *zip(*part, strict=True), color=colour, lw=0.8, label=f"clips of {frames} frame{'s' * (frames > 1)}"
            )
    ax.set(xlabel="update", ylabel=label, yscale="log")
    ax.legend(frameon=False)
    figure.savefig(png, dpi=130)
    plt.close(figure)


def _card(name: str, pipeline: str, card: Card, facts: dict[str, Any]) -> str:
    recipe, judged = facts["recipe"], facts["judged"]
    rounds = _rounds(facts)
    stages = "; then ".join(
        f"{s['updates']:,} updates on {s['batch']} clips of {s['frames']} frame{'s' * (s['frames'] > 1)}"
        for one in rounds
        for s in one["recipe"]["stages"]
    )
    hours = round(sum(one["hours"] for one in rounds), 2)
    rows = "\n".join(f"| {what} | {Score(**score)} |" for what, score in facts["judge"].items())
    state = (
        ""
        if facts["updates"] == facts["of"]
        else f" (stopped early, at update {facts['updates']:,} of {facts['of']:,})"
    )
    taught = (
        f"\n{'The model' if len(rounds) == 1 else 'The last round'} was taught by `{Path(recipe['teacher']).name}`: the noise to predict "
        "follows from the clip\nthat this model expects, which takes the luck of single clips out of training "
        "(`stg_lab.digits.teacher`)."
        if recipe["teacher"]
        else ""
    )
    stronger, _, kind = name.rpartition("-")
    purpose = (
        f"\nIt is a weaker version of `{stronger}`, {WEAKER[kind]}, as the weak model of Autoguidance: `lab.checkpoint`."
        if kind in WEAKER
        else ""
    )
    again = "; `make train` runs it" if len(rounds) == 1 else ", those of earlier rounds in it under `begun_with`"
    probability = recipe.get("stochastic_depth", 0)
    depth = (
        "\nWhile it trained on, each block was left out for each clip with probability "
        f"{probability:g} (stochastic depth, Huang et al. 2016,\n`stg_lab.digits.depth`), so that it predicts clean pictures without one: "
        "what STG's weak model leaves out, the model has met."
        if probability
        else ""
    )
    return f"""---
license: mit
library_name: diffusers
pipeline_tag: {card.task}
---

# {name}

A stock `{pipeline}` {card.description}
It is small on purpose. It makes real mistakes, which is what guidance is for.{purpose}

```python
import stg_lab as lab
{card.imports}
pipe = lab.load("{name}")
{card.example}
```

{card.condition}

**Parts.** {card.parts}

**Data.** Clips rendered on the fly from 1,197 of the 1,797 scans of handwritten digits in scikit-learn (Alpaydin and Kaynak
1998); the other 600 are never trained on.

**Training**{state}. {stages}. {hours:g} hour{"s" * (hours != 1)} on {facts["machine"]}; Muon and AdamW, weights averaged
(EMA {recipe["ema"]}), caption dropout {recipe["caption_dropout"]}. The full recipe is in `training.json`{again}.{taught}{depth}
Loss on clips of held-out scans: {facts["held_out_loss"]:.4f}.

![loss](loss.png)

**How good is it?** {judged["samples"]} samples, unpicked (seeds {judged["seeds"]}, CFG {judged["guidance_scale"]:g}, {judged["steps"]} steps),
read by a judge that never saw a training scan; 95 % intervals (Wilson). The judge's own accuracy on real clips of unseen
scans is given beside: it bounds what can be measured.

| asked for | share of samples where the judge sees it |
|---|---|
{rows}

![unpicked samples](samples.webp)
"""
