"""The judge of clips: which digit, which colour, which motion does a video show?

A small 3-D convolutional network, trained by `stg_lab.digits.train_judge` on rendered clips of scans that no diffusion model
was trained on (the world's "judge" split) and checked on scans that neither saw (its "test" split). What it answers from, 128
numbers a clip, is the feature space of the set metrics in `stg_lab.metrics`.
"""

from __future__ import annotations

import functools
import json
import math
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from stg_lab.digits.captions import COLOURS, MOTIONS, Label
from stg_lab.shipped import data_folder

SIDE = 32  # pixels: every clip is resized to this height and width
MOMENTS = 9  # every clip is read at this many evenly spaced frames
FEWEST_FRAMES = 5
FEATURES = 128
ANSWERS = {"digit": 10, "colour": len(COLOURS), "motion": len(MOTIONS)}
WEIGHTS, CONFIG = "model.safetensors", "config.json"


class Judge(nn.Module):
    """Five 3-D convolutions, the mean and maximum over space and time, one layer of features, three answers."""

    def __init__(self, widths: tuple[int, ...] = (24, 40, 64, 88, 80)) -> None:
        super().__init__()
        strides = ((1, 2, 2), (1, 2, 2), (1, 1, 1), (2, 2, 2), (1, 1, 1))
        layers: list[nn.Module] = []
        for i, (width, stride) in enumerate(zip(widths, strides, strict=True)):
            before = widths[i - 1] if i else 3
            layers += [nn.Conv3d(before, width, 3, stride, 1, bias=False), nn.BatchNorm3d(width), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.features = nn.Linear(2 * widths[-1], FEATURES)
        self.heads = nn.ModuleDict({name: nn.Linear(FEATURES, n) for name, n in ANSWERS.items()})

    def embed(self, video: Float[Tensor, "batch 9 32 32 3"]) -> Float[Tensor, "batch 128"]:
        """The penultimate features of clips of the size that `fitted` gives."""
        x = self.body(video.permute(0, 4, 1, 2, 3) * 2 - 1)
        pooled = torch.cat([x.mean((2, 3, 4)), x.amax((2, 3, 4))], dim=1)
        return self.features(pooled)

    def textures(self, video: Float[Tensor, "batch 9 32 32 3"]) -> Float[Tensor, "batch 128"]:
        """How strongly, and how unevenly, the first two layers respond: mean and standard deviation of each channel."""
        x, found = video.permute(0, 4, 1, 2, 3) * 2 - 1, []
        for layer in list(self.body.children())[:6]:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                found += [x.mean((2, 3, 4)), x.std((2, 3, 4))]
        return torch.cat(found, dim=1)

    def forward(self, video: Float[Tensor, "batch 9 32 32 3"]) -> dict[str, Tensor]:
        """Logits by question, each `(batch, answers)`."""
        h = F.relu(self.embed(video))
        return {name: head(h) for name, head in self.heads.items()}


@dataclass(frozen=True)
class Score:
    """How often the judge sees what was asked for, and how often it reads real clips right."""

    right: int
    of: int
    judge_accuracy: float

    def interval(self) -> tuple[float, float]:
        """95 % Wilson score interval (Wilson 1927) of the share."""
        z, n, p = 1.96, self.of, self.right / self.of
        centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        low, high = self.interval()
        return (
            f"{self.right / self.of:.0%} ({low:.0%} to {high:.0%}); the judge on real clips: {self.judge_accuracy:.0%}"
        )


def judge_video(video: np.ndarray, labels: list[Label]) -> dict[str, Score]:
    """How many clips show the asked digit, colour, motion, and all three.

    Args:
        video: `(batch, frame, height, width, 3)` in [0, 1], from 5 frames up, of any size.
        labels: what was asked for, one a clip.

    Raises:
        ValueError: a video of another shape or range, or not one label a clip.
    """
    own = judge_facts()["accuracy"]
    return {name: Score(int(ok.sum()), len(ok), own[name]["share"]) for name, ok in right(video, labels).items()}


def right(video: np.ndarray, labels: list[Label]) -> dict[str, np.ndarray]:
    """Whether each clip shows the asked digit, colour, motion, and all three, `(batch,)` of bool each; as `judge_video`."""
    seen, asked = read(video), asked_answers(video, labels)
    each = {name: seen[name] == asked[name] for name in ANSWERS}
    return {**each, "all three": np.all(list(each.values()), axis=0)}


def probabilities(video: np.ndarray, labels: list[Label]) -> dict[str, np.ndarray]:
    """The judge's calibrated probability that each clip shows the asked digit, colour, motion, and all three, `(batch,)` each.

    Logits are divided by the judge's temperatures (`stg_lab.digits.calibrate`). "all three" is the product, as if the
    three readings of one clip erred by themselves; how well that fits is on the judge's card. Arguments as for `judge_video`.
    """
    found, asked = logits_of(video), asked_answers(video, labels)
    temperature = judge_facts()["calibration"]["temperature"]
    rows = np.arange(len(video))
    each = {name: (found[name].double() / temperature[name]).softmax(-1).numpy()[rows, asked[name]] for name in ANSWERS}
    return {**each, "all three": np.prod(list(each.values()), axis=0)}


def asked_answers(video: np.ndarray, labels: list[Label]) -> dict[str, np.ndarray]:
    """What was asked for, as the judge numbers its answers.

    Raises:
        ValueError: not one label a clip.
    """
    if len(labels) != len(video):
        raise ValueError(f"{len(video)} clips need as many labels, got {len(labels)}.")
    return {
        "digit": np.array([label.digit for label in labels]),
        "colour": np.array([COLOURS.index(label.colour) for label in labels]),
        "motion": np.array([MOTIONS.index(label.motion) for label in labels]),
    }


def read(video: np.ndarray, net: Judge | None = None) -> dict[str, np.ndarray]:
    """What each clip shows: `digit` 0..9, `colour` an index into `COLOURS`, `motion` one into `MOTIONS`, `(batch,)` each.

    Args:
        video: as for `judge_video`.
        net: another judge than the one that ships.
    """
    return {name: found.argmax(1).numpy() for name, found in logits_of(video, net).items()}


def logits_of(video: np.ndarray, net: Judge | None = None) -> dict[str, Tensor]:
    """The judge's logits by question, each `(batch, answers)`; arguments as for `read`."""
    net = net or load_judge()
    parts = [net(part) for part in _parts(video)]
    return {name: torch.cat([part[name] for part in parts]) for name in ANSWERS}


def embed(video: np.ndarray, net: Judge | None = None) -> np.ndarray:
    """The features of each clip, float64 `(batch, 128)`: where the set metrics measure; arguments as for `read`."""
    net = net or load_judge()
    return torch.cat([net.embed(part) for part in _parts(video)]).double().numpy()


def textures(video: np.ndarray, net: Judge | None = None) -> np.ndarray:
    """What the first layers of the judge see of each clip, float64 `(batch, 128)`; arguments as for `read`.

    The features behind the answers are trained to be the same for a clean clip and a spoilt one. These are not: strokes,
    edges, blur and broken shapes show in them.
    """
    net = net or load_judge()
    return torch.cat([net.textures(part) for part in _parts(video)]).double().numpy()


def _parts(video: np.ndarray, size: int = 128) -> Iterator[Tensor]:
    """A video in batches, each brought to the judge's size; no gradients are kept while it is read."""
    check(video)
    with torch.inference_mode():
        for first in range(0, len(video), size):
            yield fitted(torch.as_tensor(np.asarray(video[first : first + size], np.float32)))


def check(video: np.ndarray) -> None:
    """Refuse what is no batch of clips that the judge can read.

    Raises:
        ValueError: the shape is not `(batch, frame, height, width, 3)` with 5 frames or more, or values leave [0, 1].
    """
    shape = tuple(np.shape(video))
    if len(shape) != 5 or shape[-1] != 3 or 0 in shape:
        raise ValueError(f"the judge reads videos of shape (batch, frame, height, width, 3), got {shape}.")
    if shape[1] < FEWEST_FRAMES:
        raise ValueError(f"the judge needs {FEWEST_FRAMES} frames or more to see a motion, got {shape[1]}.")
    low, high = float(np.min(video)), float(np.max(video))
    if not (low >= -1e-3 and high <= 1 + 1e-3):
        raise ValueError(f"the judge reads values in [0, 1], got {low:g} to {high:g}; divide bytes by 255.")


def moments(frames: int) -> Int[Tensor, " nine"]:
    """Which frames of a clip the judge looks at: nine, evenly spread; short clips show some frames twice."""
    return torch.linspace(0, frames - 1, MOMENTS).round().long()


def fitted(video: Float[Tensor, "batch frame height width 3"]) -> Float[Tensor, "batch 9 32 32 3"]:
    """Clips at nine moments and 32 x 32 pixels (anti-aliased bilinear)."""
    video = video[:, moments(video.shape[1])]
    if video.shape[2:4] == (SIDE, SIDE):
        return video
    flat = video.flatten(0, 1).permute(0, 3, 1, 2)
    flat = F.interpolate(flat, (SIDE, SIDE), mode="bilinear", antialias=True)
    return flat.permute(0, 2, 3, 1).unflatten(0, video.shape[:2])


def judge_folder() -> Path:
    """Where the judge lies: `STG_LAB_JUDGE` if set, else the checkout's data/judge or the installed copy."""
    chosen = os.environ.get("STG_LAB_JUDGE")
    return Path(chosen) if chosen else data_folder("judge")


@functools.cache
def judge_facts() -> dict[str, Any]:
    """The judge's own accuracy on unseen scans, and how it was trained."""
    return json.loads((judge_folder() / CONFIG).read_text(encoding="utf-8"))


@functools.cache
def load_judge() -> Judge:
    """The judge that ships, in eval mode."""
    from safetensors.torch import load_file

    net = Judge()
    net.load_state_dict(load_file(judge_folder() / WEIGHTS))
    return net.eval().requires_grad_(False)
