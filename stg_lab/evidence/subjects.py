"""Which models the claims are put to, with what, and which setting of theirs stands for the paper's."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from stg_lab.digits import world
from stg_lab.errors import CallError
from stg_lab.guidance import CFG, STG, Guidance
from stg_lab.loading import embedded, load
from stg_lab.weak import Weak, skip

PER_CAPTION = 4  # videos of one caption in a row, so that diversity can be measured within captions
CAPTIONS_SEED, MOST_CAPTIONS = 2024, 512
STEPS = 24
PAPER_SCALE = {"block": 1.0, "attention": 2.0}  # of STG-R and STG-A (section A1.3)


@dataclass(frozen=True)
class Subject:
    """A model and the setting at which the paper's claims are tested on it.

    The scales and the relative depth of the layer are the paper's (section A1.3), chosen before anything was measured: STG-R at
    1.0, STG-A at 2.0; layer 35 of 48 (Mochi), 12 of 28 (Open-Sora), 8 of 16 (SVD).

    Attributes:
        name: of an embedded model.
        like: the paper's model of the same kind.
        layers: how many layers can be skipped.
        layer: the one that is skipped unless a claim says otherwise.
        cfg: the CFG scale that the other claims start from.
        part: what is skipped: "block" for STG-R, "attention" for STG-A.
        axes: axes of attention skip; one weak model each.
        image: whether the first frame is given instead of a caption.
    """

    name: str
    like: str
    layers: int
    layer: int
    cfg: float
    part: str
    axes: tuple[str, ...]
    image: bool = False

    @property
    def pipe(self) -> Any:
        """The pipeline; loaded once."""
        return loaded(self.name)

    def weak(self, layers: Sequence[int] | None = None, part: str | None = None, axis: str | None = None) -> list[Weak]:
        """The weak models of a setting: one, or one for each axis where attention is factorised."""
        part, chosen = part or self.part, (self.layer,) if layers is None else tuple(layers)
        axes = (axis,) if axis else (self.axes if part == "attention" else ("joint",))
        return [skip(chosen, part=part, axis=a) if a != "joint" else skip(chosen, part=part) for a in axes]

    def stg(self, scale: float | None = None, **which: Any) -> Guidance:
        """The STG terms of a setting; `scale` is the paper's unless given."""
        part = which.get("part") or self.part
        scale = PAPER_SCALE[part] if scale is None else scale
        terms = [STG(scale, weak) for weak in self.weak(**which)]
        return functools.reduce(lambda one, two: one + two, terms[1:], Guidance() + terms[0])

    @property
    def scale(self) -> float:
        """The paper's STG scale for what is skipped."""
        return PAPER_SCALE[self.part]

    def base(self) -> Guidance:
        """CFG alone at the scale that other claims start from."""
        return Guidance() + CFG(self.cfg)

    def call(self, first: int, count: int) -> dict[str, Any]:
        """Arguments of the pipeline for videos `first`, `first + 1`, ...: the same in every cell."""
        chosen = [i // PER_CAPTION for i in range(first, first + count)]
        if not self.image:
            captions = _clips().captions
            return {"prompt": [captions[i] for i in chosen]}
        frames = _first_frames()
        return {"image": [frames[i] for i in chosen]}

    def labels(self, count: int) -> list[Any]:
        """What each video was asked to show."""
        labels = (_pictured() if self.image else _clips()).labels
        return [labels[i // PER_CAPTION] for i in range(count)]

    def rendered(self, count: int, rounds: int) -> world.Clips:
        """What a perfect model might make of `count` videos, `rounds` times over: clips of scans that no model was trained on.

        Of the same captions; or, where first frames are given, of the same digits in the same colours before the same
        backgrounds, moving about as far in any way.
        """
        if not self.image:
            asked = self.labels(count) * rounds
            return world.draw(len(asked), seed=CAPTIONS_SEED + 1, split="test", labels=asked)
        given = _pictured()[torch.arange(count).repeat(rounds) // PER_CAPTION]
        other = _usual(len(given), seed=CAPTIONS_SEED + 1)
        return replace(given, **{name: getattr(other, name) for name in ("motion", "speed", "start", "sense", "phase")})


@functools.cache
def loaded(name: str) -> Any:
    """An embedded model's pipeline; loaded once."""
    pipe = load(name)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@functools.cache
def _clips() -> world.Clips:
    """Clips of the captions."""
    return world.draw(MOST_CAPTIONS, seed=CAPTIONS_SEED, split="test")


@functools.cache
def _pictured() -> world.Clips:
    """Clips that first frames are taken of."""
    return _usual(MOST_CAPTIONS, seed=CAPTIONS_SEED)


def _usual(count: int, seed: int) -> world.Clips:
    """Clips whose digit travels about as far as the stock default of `motion_bucket_id` asks for.

    A pipeline call has one amount of motion for all its pictures. A digit that stands still where its first frame was
    taken, or one seen small because it is about to grow, would be asked for something that the frame contradicts.
    """
    # Here, because the module brings the whole Stable Video Diffusion pipeline with it.
    from stg_lab.digits.i2v import BUCKETS_PER_PIXEL, DEFAULT_BUCKET, motion_buckets

    clips = world.draw(16 * count, seed=seed, split="test")
    near = (motion_buckets(clips) - DEFAULT_BUCKET).abs() <= BUCKETS_PER_PIXEL
    return clips[near.nonzero().flatten()[:count]]


@functools.cache
def _first_frames() -> list[Any]:
    """First frames of those clips, as the pictures that pipelines take."""
    from PIL import Image

    clips = _pictured()
    frames = world.render(clips, times=torch.zeros(len(clips), 1))[:, 0].numpy()
    return [Image.fromarray((frame * 255).round().astype(np.uint8)) for frame in frames]


SUBJECTS = {
    s.name: s
    for s in (
        Subject("digits-joint", like="Mochi", layers=8, layer=5, cfg=3.0, part="block", axes=("joint",)),
        Subject(
            "digits-factorised",
            like="Open-Sora",
            layers=8,
            layer=3,
            cfg=3.0,
            part="attention",
            axes=("spatial", "temporal"),
        ),
        Subject(
            "digits-i2v",
            like="SVD",
            layers=6,
            layer=3,
            cfg=2.0,
            part="attention",
            axes=("spatial", "temporal"),
            image=True,
        ),
    )
}


def subject(name: str) -> Subject:
    """A subject by its name.

    Raises:
        CallError: unknown, or not among the embedded models here.
    """
    if name not in SUBJECTS or name not in embedded():
        there = [n for n in SUBJECTS if n in embedded()]
        raise CallError(f"there is no evidence to gather on {name!r}. Choose from: {', '.join(there)}.")
    return SUBJECTS[name]
