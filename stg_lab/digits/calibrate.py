"""How far the judge's probabilities can be believed: one temperature a question, fitted and checked on clips of other scans.

A network trained with label smoothing is too modest where clips are clear, and one that has seen few scans too sure where they
are not. Dividing its logits by one number a question mends most of that and changes no answer (Guo et al. 2017, section 4.2).
The scans that the judge was not trained on are parted: temperatures are fitted on clips of one half, and what is shown is
measured on the other. Clips are bent and spoilt as in the judge's training, but up to three times over: few clips that are
spoilt once are misread, and sampled videos have worse faults.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor

from stg_lab.digits import world
from stg_lab.digits.judge import ANSWERS, CONFIG, Judge, judge_folder, load_judge, logits_of
from stg_lab.digits.train_judge import bend, spoil, write_card

CLIPS = 4000
MOST_SURE = 0.25  # lowest temperature: where every clip is read right, likelihood alone would go on to zero
EDGES = (0.0, 0.3, 0.5, 0.7, 0.85, 0.95, 0.99, 1.0)  # of groups of probabilities
FEWEST = 20  # clips of a group that is drawn
ALL = "all three"


def spoilt_clips(count: int, seed: int, part: int) -> tuple[Float[ndarray, "clip 9 32 32 3"], world.Clips]:
    """Clips of one half (`part`, 0 or 1) of the unseen scans: a quarter clean, the others spoilt once, twice and three times."""
    clips = world.draw(3 * count, seed=seed, split="test")
    clips = clips[(clips.scan % 2 == part).nonzero().flatten()[:count]]
    generator = torch.Generator().manual_seed(seed)
    videos = []
    for i in range(0, len(clips), 250):
        some = clips[i : i + 250]
        video = world.render(some, shapes=bend(world.scans(some), generator))
        for times in range(1, 4):  # the first quarter stays clean, the last one is spoilt three times
            first = times * len(some) // 4
            video[first:] = spoil(video[first:], generator)
        videos.append(video)
    return torch.cat(videos).numpy(), clips


def temperature(logits: Float[Tensor, "clip answer"], truth: Tensor) -> float:
    """What to divide logits by so that the log-likelihood of the truth is greatest."""
    from scipy.optimize import minimize_scalar

    def loss(log_t: float) -> float:
        return F.cross_entropy(logits.double() / math.exp(log_t), truth).item()

    return math.exp(minimize_scalar(loss, bounds=(math.log(MOST_SURE), 3.0), method="bounded").x)


def reliability(p: Float[ndarray, " clip"], right: Bool[ndarray, " clip"]) -> list[dict[str, float]]:
    """Clips in groups of like probability (`EDGES`), from low to high: the mean of it, and the share that is right."""
    group = np.digitize(p, EDGES[1:-1])
    return [
        {"probability": round(float(p[g].mean()), 4), "right": round(float(right[g].mean()), 4), "clips": int(g.sum())}
        for g in (group == number for number in range(len(EDGES) - 1))
        if g.any()
    ]


def calibration_error(rows: list[dict[str, float]]) -> float:
    """Mean gap between probability and share right over the groups (expected calibration error, Guo et al. 2017, eq. 3)."""
    return float(np.average([abs(r["probability"] - r["right"]) for r in rows], weights=[r["clips"] for r in rows]))


def calibrate(net: Judge, count: int = CLIPS) -> dict[str, Any]:
    """Temperatures by question, and how good they are on clips of scans that they were not fitted on.

    What is checked is the probability of the judge's own answer, as in reliability diagrams, and for "all three" the product
    over the questions of the answers, against the share of clips in which all are right.
    """
    video, clips = spoilt_clips(count, seed=11, part=0)
    found = logits_of(video, net)
    temperatures = {name: round(temperature(found[name], getattr(clips, name)), 4) for name in ANSWERS}
    video, clips = spoilt_clips(count, seed=12, part=1)
    found = logits_of(video, net)
    checked: dict[str, Any] = {}
    for kind, of in (("before", dict.fromkeys(ANSWERS, 1.0)), ("after", temperatures)):
        p, right = {}, {}
        for name in ANSWERS:
            best = (found[name] / of[name]).softmax(-1).max(-1)
            p[name], right[name] = best.values.numpy(), (best.indices == getattr(clips, name)).numpy()
        p[ALL], right[ALL] = np.prod([p[n] for n in ANSWERS], axis=0), np.all([right[n] for n in ANSWERS], axis=0)
        rows = {name: reliability(p[name], right[name]) for name in p}
        checked[kind] = {name: {"error": round(calibration_error(r), 4), "groups": r} for name, r in rows.items()}
    return {"temperature": temperatures, "clips": len(clips), **checked}


def write(folder: Path, net: Judge) -> dict[str, Any]:
    """Calibrate a judge; into config.json and the card in its folder, and as a picture beside them."""
    facts = json.loads((folder / CONFIG).read_text())
    facts["calibration"] = calibrate(net)
    (folder / CONFIG).write_text(json.dumps(facts, indent=1) + "\n")
    draw(facts["calibration"], folder / "calibration.png")
    write_card(folder)
    return facts


def draw(found: dict[str, Any], image: Path) -> None:
    """Reliability diagrams, before and after; of groups with so many clips that a share means something."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = [name for name in found["after"] if name != "colour"]  # right nearly everywhere
    figure = Figure(figsize=(2.6 * len(names) + 0.4, 2.9), layout="constrained")
    FigureCanvasAgg(figure)
    for ax, name in zip(figure.subplots(1, len(names), sharey=True), names, strict=True):
        ax.plot([0, 1], [0, 1], color="0.75", lw=0.9)
        for kind, colour in (("before", "#999999"), ("after", "#0072B2")):
            rows = [row for row in found[kind][name]["groups"] if row["clips"] >= FEWEST]
            label = f"{kind}: error {found[kind][name]['error']:.1%}"
            ax.plot(
                [r["probability"] for r in rows],
                [r["right"] for r in rows],
                "o-",
                color=colour,
                ms=4,
                lw=1.2,
                label=label,
            )
        ax.set(title=name, xlabel="probability", xlim=(0, 1.02), ylim=(0, 1.02))
        ax.legend(frameon=False, fontsize=8, loc="lower right")
        ax.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("share right")
    figure.savefig(image, dpi=130, metadata={"Software": None})


if __name__ == "__main__":
    print(json.dumps(write(judge_folder(), load_judge())["calibration"]["temperature"], indent=1))
