"""The digits world: real handwritten digits, coloured, moving over a dark background.

The digits are the 1,797 scans of 8 x 8 pixels that ship inside scikit-learn (Alpaydin and Kaynak, 1998, "Optical
recognition of handwritten digits", UCI), so nothing is downloaded. A clip is a label (digit, colour, motion) plus
continuous parameters (which scan, speed, size, start, slant, background), all drawn from one seed.

Layout: a video is float32 `(batch, frame, height, width, 3)` in [0, 1], the layout of `run.video` everywhere.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, fields

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from stg_lab.digits.captions import COLOURS, MOTIONS, Label

SIZE = 32  # pixels, height and width
FRAMES = 9

#: sRGB of each colour, in the order of `COLOURS`.
PALETTE = torch.tensor(
    [[0.94, 0.22, 0.20], [0.24, 0.80, 0.34], [0.28, 0.48, 0.98], [0.98, 0.84, 0.22], [0.96, 0.96, 0.96]]
)

#: Scans per split. Clips of different splits never share a scan: diffusion models learn from "train" only, judges of
#: samples from "judge" only, and "test" is seen by neither.
SPLITS = {"train": 1197, "judge": 400, "test": 200}

_CELL = (
    5  # atlas pixels per scan pixel: fine enough that bilinear sampling at about 2.5 screen pixels per cell is smooth
)
_MARGIN = 1  # empty scan pixels around each scan, so that sampling at the rim fades out
PADDED = (8 + 2 * _MARGIN) / 8  # height of a scan's mask with its rim, in heights of the scan


@functools.cache
def _scans() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    return digits.images.astype(np.float32) / 16.0, digits.target


@functools.cache
def split_indices(split: str) -> np.ndarray:
    """Which scans (indices into scikit-learn's digits) belong to a split; stratified by class, fixed for ever.

    Raises:
        ValueError: unknown split.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is unknown. Choose one of: {', '.join(SPLITS)}.")
    from sklearn.model_selection import train_test_split

    _, target = _scans()
    everything = np.arange(len(target))
    train, rest = train_test_split(everything, train_size=SPLITS["train"], stratify=target, random_state=0)
    judge, test = train_test_split(rest, train_size=SPLITS["judge"], stratify=target[rest], random_state=0)
    return {"train": np.sort(train), "judge": np.sort(judge), "test": np.sort(test)}[split]


@functools.cache
def _atlas(split: str) -> tuple[Tensor, Tensor]:
    """Smooth masks of a split's scans, (scan, 1, side, side) in [0, 1], and their classes (scan,)."""
    from scipy.ndimage import zoom

    images, target = _scans()
    chosen = split_indices(split)
    padded = np.pad(images[chosen], ((0, 0), (_MARGIN, _MARGIN), (_MARGIN, _MARGIN)))
    large = zoom(padded, (1, _CELL, _CELL), order=3, mode="grid-constant", grid_mode=True)
    ink = np.clip((large - 0.25) / 0.35, 0, 1)  # a soft threshold: crisp strokes instead of 8 x 8 blur
    ink = ink * ink * (3 - 2 * ink)
    return torch.from_numpy(ink.astype(np.float32))[:, None], torch.from_numpy(target[chosen].astype(np.int64))


@dataclass(frozen=True)
class Clips:
    """Everything that decides a batch of clips. Every field has the batch as its first dimension.

    Lengths are in pixels, angles in radians, `speed` is a factor on each motion's usual extent.
    """

    split: str
    scan: Int[Tensor, " batch"]  # row in the split's atlas
    digit: Int[Tensor, " batch"]
    colour: Int[Tensor, " batch"]  # index into COLOURS
    motion: Int[Tensor, " batch"]  # index into MOTIONS
    speed: Float[Tensor, " batch"]
    size: Float[Tensor, " batch"]  # height of the scan's 8 cells
    start: Float[Tensor, "batch 2"]  # offset (x, y) of the path's middle from the frame's centre
    slant: Float[Tensor, " batch"]  # horizontal shear, dx/dy
    sense: Float[Tensor, " batch"]  # +1 or -1: which way it turns
    phase: Float[Tensor, " batch"]  # where in its period it bounces, 0..1
    background: Float[Tensor, "batch 2 3"]  # sRGB at the two ends of the gradient
    gradient: Float[Tensor, " batch"]  # direction of the background's gradient

    def __len__(self) -> int:
        return len(self.scan)

    def __getitem__(self, index: slice | Int[Tensor, " chosen"]) -> Clips:
        return Clips(self.split, *(getattr(self, f.name)[index] for f in fields(self)[1:]))

    @property
    def labels(self) -> list[Label]:
        """The label of each clip."""
        rows = zip(self.digit.tolist(), self.colour.tolist(), self.motion.tolist(), strict=True)
        return [Label(d, COLOURS[c], MOTIONS[m]) for d, c, m in rows]

    @property
    def captions(self) -> list[str]:
        """The caption of each clip."""
        return [label.caption for label in self.labels]


def draw(batch: int, *, seed: int, split: str = "train", labels: list[Label] | None = None) -> Clips:
    """Draw the parameters of `batch` clips from one seed.

    Args:
        batch: how many clips.
        seed: decides everything; the same seed gives the same clips on every machine.
        split: whose scans may appear, one of `SPLITS`.
        labels: what each clip must show; without it labels are uniform.

    Raises:
        ValueError: unknown split, or as many labels as `batch` were not given.
    """
    if labels is not None and len(labels) != batch:
        raise ValueError(f"draw({batch}) needs {batch} labels, got {len(labels)}.")
    _, classes = _atlas(split)
    g = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(batch, *shape, generator=g)

    # Numbers are drawn in a fixed order whether or not labels are given, so that labels change nothing else.
    digit = torch.randint(0, 10, (batch,), generator=g)
    colour = torch.randint(0, len(COLOURS), (batch,), generator=g)
    motion = torch.randint(0, len(MOTIONS), (batch,), generator=g)
    if labels is not None:
        digit = torch.tensor([label.digit for label in labels])
        colour = torch.tensor([COLOURS.index(label.colour) for label in labels])
        motion = torch.tensor([MOTIONS.index(label.motion) for label in labels])
    pick = torch.rand(batch, generator=g)
    by_class = [torch.nonzero(classes == d).flatten() for d in range(10)]
    scan = torch.stack([by_class[d][int(p * len(by_class[d]))] for d, p in zip(digit.tolist(), pick, strict=True)])
    shade = uniform(0.03, 0.22, 2, 1) + uniform(-0.025, 0.025, 2, 3)
    return Clips(
        split=split, scan=scan, digit=digit, colour=colour, motion=motion,
        speed=uniform(0.7, 1.3), size=uniform(18.0, 22.0), start=uniform(-1.5, 1.5, 2), slant=uniform(-0.2, 0.2),
        sense=torch.where(torch.rand(batch, generator=g) < 0.5, -1.0, 1.0), phase=uniform(0.0, 1.0),
        background=shade.clamp(0, 1), gradient=uniform(0.0, 2 * torch.pi),
    )  # fmt: skip


@dataclass(frozen=True)
class Pose:
    """Where each digit is at each time: all `(batch, time)`; pixels from the centre, a factor, radians."""

    x: Float[Tensor, "batch time"]
    y: Float[Tensor, "batch time"]
    scale: Float[Tensor, "batch time"]
    angle: Float[Tensor, "batch time"]


def pose(clips: Clips, times: Float[Tensor, "batch time"]) -> Pose:
    """The known geometry of the clips; `times` run from 0 (first frame) to 1 (last frame)."""
    along = (times - 0.5) * clips.speed[:, None]  # -0.65 .. 0.65

    def only(name: str) -> Tensor:
        return (clips.motion == MOTIONS.index(name)).float()[:, None]

    travel = 10.0 * along
    period = times * 1.25 * clips.speed[:, None] + clips.phase[:, None]
    hop = 4.0 - 8.0 * (1 - (2 * (period % 1.0) - 1) ** 2)  # parabolas, 8 pixels high
    x = clips.start[:, :1] + travel * (only("right") - only("left"))
    y = clips.start[:, 1:] + travel * (only("down") - only("up")) + hop * only("bouncing")
    scale = 1 + 0.55 * along * only("growing") - 0.08 * only("growing")
    angle = (0.45 * torch.pi) * along * clips.sense[:, None] * only("turning")
    return Pose(x, y, scale, angle)


def masks(split: str) -> Float[Tensor, "scan 1 side side"]:
    """The smooth mask of every scan of a split, in [0, 1], with a rim of empty cells around it.

    Raises:
        ValueError: unknown split.
    """
    return _atlas(split)[0]


def scans(clips: Clips) -> Float[Tensor, "batch 1 side side"]:
    """The mask of each clip's scan."""
    return masks(clips.split)[clips.scan]


def render(
    clips: Clips,
    *,
    frames: int = FRAMES,
    size: int = SIZE,
    times: Float[Tensor, "batch frame"] | None = None,
    shapes: Float[Tensor, "batch 1 side side"] | None = None,
) -> Float[Tensor, "batch frame height width 3"]:
    """Draw the clips, anti-aliased (2 x 2 supersampling of a bilinear mask).

    Args:
        clips: what to draw.
        frames: how many frames, spread evenly over the clip.
        size: height and width in pixels; lengths in `clips` are for 32 and scale with it.
        times: (batch, frame) in [0, 1], to draw other moments than evenly spread ones.
        shapes: masks to draw in place of the clips' own scans, as `scans` gives them.

    Returns:
        float32 `(batch, frame, height, width, 3)` in [0, 1].
    """
    batch = len(clips)
    if times is None:
        times = torch.linspace(0, 1, frames).expand(batch, frames) if frames > 1 else torch.full((batch, 1), 0.5)
    frames = times.shape[1]
    shapes = scans(clips) if shapes is None else shapes
    where = pose(clips, times)

    fine = 2 * size
    axis = (torch.arange(fine) + 0.5) / fine - 0.5  # in frame heights
    v, u = torch.meshgrid(axis * SIZE, axis * SIZE, indexing="ij")  # in world pixels
    # Screen -> scan: undo the shift, then the rotation, then the slant, then the size.  [batch, frame, fine, fine]
    u = u - where.x[..., None, None]
    v = v - where.y[..., None, None]
    cos, sin = where.angle.cos()[..., None, None], where.angle.sin()[..., None, None]
    u, v = cos * u + sin * v, cos * v - sin * u
    u = u + clips.slant[:, None, None, None] * v
    half = (clips.size[:, None] * where.scale)[..., None, None] / 2 * PADDED
    grid = torch.stack([u / half, v / half], dim=-1)

    shapes = shapes.repeat_interleave(frames, 0)
    ink = F.grid_sample(shapes, grid.flatten(0, 1), mode="bilinear", padding_mode="zeros", align_corners=False)
    ink = F.avg_pool2d(ink, 2).view(batch, frames, size, size, 1)
    return (1 - ink) * _background(clips, size) + ink * PALETTE[clips.colour][:, None, None, None]


def _background(clips: Clips, size: int) -> Float[Tensor, "batch 1 height width 3"]:
    axis = (torch.arange(size) + 0.5) / size * 2 - 1
    v, u = torch.meshgrid(axis, axis, indexing="ij")
    angle = clips.gradient[:, None, None]
    ramp = (0.5 + 0.35 * (u * angle.cos() + v * angle.sin())).clamp(0, 1)[..., None]  # [batch, h, w, 1]
    one, two = clips.background[:, 0, None, None], clips.background[:, 1, None, None]
    return ((1 - ramp) * one + ramp * two)[:, None]
