"""A simple judge of clips: which digit, which colour, which motion does a video show?

Plain scikit-learn on normalised crops and hand-made geometry, fitted on rendered clips of scans that no diffusion model was
trained on ("judge" split) and checked on scans that neither saw ("test" split).
"""

from __future__ import annotations

import functools
import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from stg_lab.digits import world
from stg_lab.digits.captions import COLOURS, MOTIONS, Label

CROP = 16  # pixels of a normalised digit
WOBBLE = 0.15  # noise on the motion features while fitting: 0.6 pixels on positions


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
        video: `(batch, frame, 32, 32, 3)` in [0, 1].
        labels: what was asked for, one a clip.
    """
    readers, own = _readers()
    seen = _read(readers, video)
    asked = {
        "digit": np.array([label.digit for label in labels]),
        "colour": np.array([COLOURS.index(label.colour) for label in labels]),
        "motion": np.array([MOTIONS.index(label.motion) for label in labels]),
    }
    right = {name: seen[name] == asked[name] for name in asked}
    right["all three"] = right["digit"] & right["colour"] & right["motion"]
    return {name: Score(int(ok.sum()), len(labels), own[name]) for name, ok in right.items()}


def features(video: np.ndarray) -> dict[str, np.ndarray]:
    """What the judge looks at, per clip: crops of the digit, colour of its ink, and the path of its outline."""
    ink = _ink(video)  # [batch, frame, h, w] in [0, 1]
    batch, frames, height, width = ink.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    mass = ink.sum((2, 3)) + 1e-3
    cx, cy = (ink * x).sum((2, 3)) / mass, (ink * y).sum((2, 3)) / mass
    dx, dy = x - cx[..., None, None], y - cy[..., None, None]
    xx, yy, xy = ((ink * m).sum((2, 3)) / mass for m in (dx * dx, dy * dy, dx * dy))
    middle = frames // 2
    chosen = sorted({0, middle, frames - 1})
    crops = np.stack([_crop(ink[i, f], float(cx[i, f]), float(cy[i, f])) for i in range(batch) for f in chosen])
    colour = (video * ink[..., None]).sum((1, 2, 3)) / (ink.sum((1, 2, 3)) + 1e-3)[:, None]
    # Second moments instead of an angle: a round digit has no angle, and its moments stay calm when its outline wobbles.
    spread = (xx + yy).mean(1, keepdims=True) + 1e-3
    rows = [cx / 4, cy / 4, np.sqrt(mass) / 2, 3 * (xx - yy) / spread, 6 * xy / spread]
    path = np.concatenate([row - row.mean(1, keepdims=True) for row in rows], axis=1)
    return {"digit": crops.reshape(batch, -1), "colour": colour, "motion": path}


def _ink(video: np.ndarray) -> np.ndarray:
    """Where the digit is: distance from the background, which is read off each clip's rim."""
    bright = video.max(-1)
    rim = np.concatenate([bright[:, :, 0], bright[:, :, -1], bright[:, :, :, 0], bright[:, :, :, -1]], axis=2)
    ground = np.median(rim, axis=(1, 2))[:, None, None, None]
    return np.clip((bright - ground - 0.15) / 0.4, 0, 1)


def _crop(ink: np.ndarray, cx: float, cy: float) -> np.ndarray:
    """One frame's digit, moved to the middle and scaled to a fixed height."""
    from scipy.ndimage import map_coordinates

    rows = np.flatnonzero(ink.max(1) > 0.5)
    height = max(6.0, float(rows[-1] - rows[0] + 1)) if len(rows) else 20.0
    axis = (np.arange(CROP) + 0.5 - CROP / 2) * (height * 1.15 / CROP)
    return map_coordinates(ink, np.meshgrid(cy + axis, cx + axis, indexing="ij"), order=1, mode="constant").astype(
        np.float32
    )


@functools.cache
def _readers() -> tuple[dict[str, Any], dict[str, float]]:
    """Fitted classifiers, and their accuracy on real clips of scans that nothing was fitted to."""
    from sklearn.svm import SVC

    fit, test = world.draw(5000, seed=1, split="judge"), world.draw(1000, seed=2, split="test")
    looks = features(_rendered(fit))
    # A sampled digit wobbles more than a rendered one; without this noise the judge would take wobble for motion.
    noise = np.random.default_rng(0).normal(0, WOBBLE, looks["motion"].shape).astype(np.float32)
    readers = {
        "digit": SVC(C=10, gamma="scale").fit(looks["digit"], fit.digit.numpy()),
        "colour": SVC(C=10).fit(looks["colour"], fit.colour.numpy()),
        "motion": SVC(C=10).fit(looks["motion"] + noise, fit.motion.numpy()),
    }
    seen = _read(readers, _rendered(test))
    right = {name: seen[name] == getattr(test, name).numpy() for name in readers}
    right["all three"] = right["digit"] & right["colour"] & right["motion"]
    return readers, {name: float(ok.mean()) for name, ok in right.items()}


def _rendered(clips: world.Clips, batch: int = 250) -> np.ndarray:
    return np.concatenate([world.render(clips[i : i + batch]).numpy() for i in range(0, len(clips), batch)])


def _read(readers: dict[str, Any], video: np.ndarray) -> dict[str, np.ndarray]:
    looks = features(np.asarray(video, np.float32))
    return {name: reader.predict(looks[name]) for name, reader in readers.items()}
