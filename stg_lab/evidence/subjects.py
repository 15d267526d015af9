"""Which models the claims are put to, with what, and which setting of theirs stands for the paper's."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stg_lab.digits import world
from stg_lab.errors import CallError, RecordingError
from stg_lab.guidance import CFG, STG, Guidance
from stg_lab.loading import embedded, load
from stg_lab.shipped import data_folder
from stg_lab.weak import Weak, parse, skip
from stg_lab.weak.skip import Skip

PER_CAPTION = 4  # videos of one caption in a row, so that diversity can be measured within captions
CAPTIONS_SEED, MOST_CAPTIONS = 2024, 512
#: Videos that layers and scales are chosen by show other captions, one each, and have seeds from here up.
CHOICE_CAPTIONS_SEED, CHOICE_SEEDS = 4048, 1_000_000
STEPS, FEW_STEPS = 16, 8
PAPER_SCALE = {"block": 1.0, "attention": 2.0}  # of STG-R and STG-A (section A1.3)


@dataclass(frozen=True)
class Subject:
    """A model, and the settings at which the paper's claims are tested on it.

    There are two settings of STG. `stg` is the one that outcomes chose: the weak model with which most videos came right, at
    scale 1, without CFG, on captions and seeds that take no part in any test (`stg_lab.evidence.choose`). `paper_stg` is what
    the paper would take, fixed before anything was measured (section A1.3): STG-R at scale 1 for full 3D attention, STG-A at 2
    for factorised attention, at the same relative depth: layer 35 of 48 (Mochi), 12 of 28 (Open-Sora), 8 of 16 (SVD).

    Attributes:
        name: of an embedded model, or of one that was trained for a claim.
        like: the paper's model of the same kind.
        layers: how many layers can be skipped.
        paper_layer: the one at the paper's relative depth.
        cfg: the CFG scale that claims about CFG + STG start from; low enough that something is left to repair.
        part: what the paper skips: "block" for STG-R, "attention" for STG-A.
        axes: along which attention is factorised; one weak model each.
        image: whether the first frame is given instead of a caption.
        like_model: the model whose choice it shares, where it has none of its own.
    """

    name: str
    like: str
    layers: int
    paper_layer: int
    cfg: float
    part: str
    axes: tuple[str, ...]
    image: bool = False
    like_model: str = ""

    @property
    def pipe(self) -> Any:
        """The pipeline; loaded once."""
        return loaded(self.name)

    @functools.cached_property
    def chosen(self) -> dict[str, Any]:
        """What outcomes chose, see `stg_lab.evidence.choose`."""
        return choice(self.like_model or self.name)

    def best(self, part: str | None = None, axis: str | None = None) -> Weak:
        """The weak model that outcomes chose; the best single layer of one kind, where a part or an axis is named.

        Raises:
            RecordingError: nothing was chosen yet.
        """
        if part is None and axis is None:
            return parse(self.chosen["weak"])
        fits = [parse(row["weak"]) for row in self.chosen["rows"] if "weak" in row]
        return next(
            w
            for w in fits
            if isinstance(w, Skip) and part in (None, w.part) and axis in (None, w.axis) and len(w.layers) == 1
        )

    def stg(self, scale: float = 1.0, weak: Weak | None = None, **window: Any) -> Guidance:
        """STG with the weak model that outcomes chose, or another one."""
        return Guidance() + STG(scale, weak or self.best(), **window)

    def paper_stg(self, part: str | None = None, axis: str | None = None, scale: float | None = None) -> Guidance:
        """STG as the paper would have it: its part, its scale, its relative depth; one term for each axis."""
        part = part or self.part
        axes = (axis,) if axis else (self.axes if part == "attention" else ("joint",))
        weak = [
            skip((self.paper_layer,), part=part, axis=a) if a != "joint" else skip((self.paper_layer,), part=part)
            for a in axes
        ]
        return functools.reduce(
            lambda g, w: g + STG(PAPER_SCALE[part] if scale is None else scale, w), weak, Guidance()
        )

    def base(self) -> Guidance:
        """CFG alone at the scale that other claims start from."""
        return Guidance() + CFG(self.cfg)

    def call(self, first: int, count: int, choosing: bool = False) -> dict[str, Any]:
        """Arguments of `lab.sample` for videos `first`, `first + 1`, ...: the same in every cell.

        Args:
            choosing: of the videos that choices are made by, not of the test.
        """
        each, seeds = (1, CHOICE_SEEDS) if choosing else (PER_CAPTION, 0)
        asked = [i // each for i in range(first, first + count)]
        if not self.image:
            captions = _clips(choosing).captions
            return {"prompt": [captions[i] for i in asked], "seed": seeds + first}
        frames = _first_frames(choosing)
        return {"image": [frames[i] for i in asked], "seed": seeds + first}

    def labels(self, count: int, choosing: bool = False) -> list[Any]:
        """What each video was asked to show."""
        labels = (_pictured(choosing) if self.image else _clips(choosing)).labels
        return [labels[i // (1 if choosing else PER_CAPTION)] for i in range(count)]

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


def choice(name: str) -> dict[str, Any]:
    """What outcomes chose for a model: "weak", the specification of the best weak model, "cfg", the best CFG scale, and "rows",
    every candidate from best to worst.

    Raises:
        RecordingError: nothing was chosen yet.
    """
    file = data_folder("evidence") / f"choice-{name}.json"
    if not file.exists():
        raise RecordingError(
            f"no weak model was chosen for {name} yet. Type: make evidence CLAIMS=choice MODELS={name}"
        )
    return json.loads(file.read_text())


def at_hand(name: str) -> bool:
    """Whether the weights of a subject are here: those that were trained for one claim do not ship."""
    return name in embedded() or (TRAINED / name / "model_index.json").is_file()


@functools.cache
def loaded(name: str) -> Any:
    """An embedded model's pipeline; loaded once."""
    if not at_hand(name):
        raise CallError(
            f"{name} does not ship, and is not in {TRAINED}. Train it: python -m stg_lab.digits.train digits-joint --recipe depth "
            f"--init data/models/{PLAIN} --stochastic-depth {name.rpartition('-')[2]} --export {TRAINED / name}"
        )
    pipe = load(name if name in embedded() else TRAINED / name)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@functools.cache
def _clips(choosing: bool = False) -> world.Clips:
    """Clips of the captions."""
    return world.draw(MOST_CAPTIONS, seed=CHOICE_CAPTIONS_SEED if choosing else CAPTIONS_SEED, split="test")


@functools.cache
def _pictured(choosing: bool = False) -> world.Clips:
    """Clips that first frames are taken of."""
    return _usual(MOST_CAPTIONS, seed=CHOICE_CAPTIONS_SEED if choosing else CAPTIONS_SEED)


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
def _first_frames(choosing: bool = False) -> list[Any]:
    """First frames of those clips, as the pictures that pipelines take."""
    from PIL import Image

    clips = _pictured(choosing)
    frames = world.render(clips, times=torch.zeros(len(clips), 1))[:, 0].numpy()
    return [Image.fromarray((frame * 255).round().astype(np.uint8)) for frame in frames]


_JOINT = Subject("digits-joint", like="Mochi", layers=8, paper_layer=5, cfg=2.0, part="block", axes=("joint",))
_AXES = ("spatial", "temporal")
#: digits-joint trained on from digits-joint-plain with blocks left out at each probability, for claim 15. They do not ship.
DOSES = {p: f"digits-joint-depth-{p:g}" for p in (0.0, 0.1, 0.2)}
PLAIN = "digits-joint-plain"
SUBJECTS = {
    s.name: s
    for s in (
        _JOINT,
        replace(_JOINT, name=PLAIN),
        Subject("digits-factorised", like="Open-Sora", layers=8, paper_layer=3, cfg=2.0, part="attention", axes=_AXES),
        Subject("digits-i2v", like="SVD", layers=6, paper_layer=3, cfg=1.5, part="attention", axes=_AXES, image=True),
        *(replace(_JOINT, name=name, like_model=PLAIN) for name in DOSES.values()),
    )
}
TRAINED = Path("runs/models")  # of models that do not ship


def subject(name: str) -> Subject:
    """A subject by its name.

    Raises:
        CallError: unknown, or not among the embedded models here.
    """
    there = [n for n in SUBJECTS if n in embedded() or n in DOSES.values()]
    if name not in there:
        raise CallError(f"there is no evidence to gather on {name!r}. Choose from: {', '.join(there)}.")
    return SUBJECTS[name]
