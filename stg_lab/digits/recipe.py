"""How the embedded models are trained: every number that decides a training run, in one printable value."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

from stg_lab.digits.i2v_pipeline import ImageArchitecture
from stg_lab.digits.pipeline import Architecture


@dataclass(frozen=True)
class Stage:
    """A stretch of training on clips of one length. One frame means still pictures: a quarter of a clip's cost."""

    frames: int
    batch: int
    updates: int


@dataclass(frozen=True)
class Recipe:
    """A whole training run. Same recipe, same data, in the same order, on every machine."""

    stages: tuple[Stage, ...]
    objective: str = "joint"
    architecture: Any = field(default_factory=Architecture)  # whatever the objective builds its pipeline from
    seed: int = 0
    muon_lr: float = 2e-3  # matrices inside the blocks; scaled to AdamW's update size
    adam_lr: float = 1e-3  # everything else
    weight_decay: float = 0.01
    warmup: int = 100  # updates at the start of the run
    decay: float = 0.25  # last share of all updates, over which the learning rate falls to zero
    ema: float = 0.999
    caption_dropout: float = 0.1
    stochastic_depth: float = 0.0  # probability that a block is left out, for each sample and block by itself
    noise_shift: float = 3.0  # logit-normal noise levels, shifted towards noise as the sampler is
    uniform_noise: float = 0.15  # share of noise levels drawn uniformly instead, so that no level is neglected
    longest_padding: int = 512  # the pipeline's own `max_sequence_length`
    #: Folder of a pipeline, relative to the checkout, whose text encoder is taken as it is: for weaker versions of that model,
    #: which must understand the very same text embeddings to guide it (`lab.checkpoint`), and for a model that has learnt none.
    text_from: str | None = None
    # Noise prediction only:
    heaviest: float = 10.0  # most that the loss at a noisy step is multiplied by
    text_gain: float = 1.0  # factor on the first weights of the way from the text encoder into the blocks
    timestep_shift: float = 1.0  # uniform timesteps, shifted towards noise as `noise_shift` does
    teacher: str | None = None  # folder of a `digits-joint` that says what is to be predicted, see `digits.teacher`
    #: Share of clips that the teacher reads under another clip's caption. Of its own caption a noisy clip shows part already;
    #: under another one, only who reads the caption can answer as the teacher does.
    swapped: float = 0.0

    @property
    def updates(self) -> int:
        return sum(stage.updates for stage in self.stages)

    def stage_at(self, update: int) -> Stage:
        """The stage that update number `update` (from 0) belongs to."""
        for stage in self.stages:
            if update < stage.updates:
                return stage
            update -= stage.updates
        return self.stages[-1]

    def learning_rate(self, update: int) -> float:
        """Factor on both learning rates: linear warm-up, constant, linear decay to zero."""
        start = (1 - self.decay) * self.updates
        falling = (self.updates - update) / max(self.updates - start, 1)
        return max(0.0, min(1.0, (update + 1) / self.warmup, falling))

    def scaled(self, factor: float) -> Recipe:
        """The same recipe with every stage made `factor` times as long."""
        return replace(self, stages=tuple(replace(s, updates=max(1, round(s.updates * factor))) for s in self.stages))

    def as_dict(self) -> dict:
        return asdict(self)


_LONG, _SHORT = (  # on a GPU
    (Stage(1, 256, 20_000), Stage(9, 64, 60_000)),
    (Stage(1, 256, 1_500), Stage(9, 64, 3_000)),
)
_JOINT_GPU = Architecture(blocks=10, heads=6)
_FACTORISED, _FACTORISED_GPU = (
    Architecture(blocks=8, heads=4, head_dim=28),
    Architecture(blocks=10, heads=5, head_dim=32),
)
# A first try had its own text encoder and a loss at most 10 times as heavy. It denoised well (from real clips noised to abar
# 0.01, 84 % of the digits came out right) and yet read neither digit nor motion in its captions: other words changed its
# prediction by less than 1e-4. Where those words matter, the noise is so strong (abar below 0.01, for nine frames of the same
# digit) that such a loss hardly looks. Its text encoder wrote the colour into every token, its cross-attention looked,
# saturated, along that one direction, and none of the losses below mended that from those weights, some hundred updates each.
# So it began anew: a loss that looks there, words that are told apart from the start, and a teacher who answers under another
# clip's caption too. What made no difference to the loss of the first 700 updates: a larger `text_gain` together with captions
# that stand alone; weights that begin as a rough copy of the input, as EDM's preconditioning would have them. Three times the
# learning rates learn faster at first and then stall.
_factorised = partial(
    Recipe,
    objective="factorised",
    architecture=_FACTORISED,
    heaviest=1000.0,
    timestep_shift=2.0,
    text_from="data/models/digits-joint",
    text_gain=2.0,
    teacher="data/models/digits-joint",
    swapped=0.5,
)
_PICTURES = (Stage(1, 32, 5_321),)
_second_round = partial(Recipe, muon_lr=1.5e-3, adam_lr=7e-4, seed=1, decay=0.4)
_weaker_joint = partial(Recipe, text_from="data/models/digits-joint")

# Stochastic depth, from weights that were trained without it, with a learning rate that ends at zero. Joint's text encoder stays
# as it is, because the weaker versions and digits-factorised read captions with the very same.
_TRAINED_ON: dict[str, Any] = {"muon_lr": 1e-3, "adam_lr": 5e-4, "decay": 0.75, "ema": 0.998}
_depth = partial(Recipe, seed=2, text_from="data/models/digits-joint-plain", **_TRAINED_ON)

#: Per model and kind of machine. The "cpu" recipe is what ships; "gpu" is the same idea with more of everything. A "second"
#: round begins with the weights of the first (--recipe second --init data/models/digits-joint), and so does a round with
#: stochastic depth: --recipe depth --init data/models/digits-joint-plain.
RECIPES: dict[str, dict[str, Recipe]] = {
    "digits-joint": {
        "cpu": Recipe(stages=(Stage(1, 32, 6_500), Stage(9, 16, 4_800))),
        "second": _second_round(stages=(Stage(9, 16, 5_000),)),
        # On 192 videos that choices are made by, STG at block 4 gained 13 points at probability 0.2 and 10 at 0.1. Trained on as long
        # again, it is as good without guidance as what it came from (0.70 and 0.71 right of 96). Claim 15 has the test.
        "depth": _depth(stages=(Stage(9, 8, 2_500),), stochastic_depth=0.2),
        "depth-on": _depth(stages=(Stage(9, 8, 2_500),), stochastic_depth=0.2, seed=3),
        "gpu": Recipe(stages=_LONG, architecture=_JOINT_GPU, ema=0.9995, warmup=500),
    },
    "digits-joint-early": {
        "cpu": _weaker_joint(stages=(Stage(1, 32, 900), Stage(9, 16, 500))),
        "gpu": _weaker_joint(stages=_SHORT, architecture=_JOINT_GPU),
    },
    "digits-joint-small": {
        "cpu": _weaker_joint(
            stages=(Stage(1, 32, 2_500), Stage(9, 16, 1_500)), architecture=Architecture(blocks=4, heads=2)
        ),
        "gpu": _weaker_joint(stages=_LONG, architecture=Architecture(blocks=5, heads=3), ema=0.9995),
    },
    "digits-factorised": {
        "cpu": _factorised(stages=(*_PICTURES, Stage(9, 16, 5_200))),
        "gpu": _factorised(stages=_LONG, architecture=_FACTORISED_GPU, ema=0.9995, warmup=500),
        "depth": _factorised(stages=(Stage(9, 8, 2_500),), stochastic_depth=0.1, seed=2, **_TRAINED_ON),
    },
    "digits-factorised-early": {
        # The very run of digits-factorised, stopped early.
        "cpu": _factorised(stages=(*_PICTURES, Stage(9, 16, 1_495)), decay=0.0),
        "gpu": _factorised(stages=_SHORT, architecture=_FACTORISED_GPU, decay=0.0),
    },
    "digits-factorised-small": {
        "cpu": _factorised(
            stages=(Stage(1, 32, 2_500), Stage(9, 8, 1_500)),
            architecture=Architecture(blocks=4, heads=2, head_dim=28),
            text_from="data/models/digits-factorised",
        ),
        "gpu": _factorised(
            stages=_LONG,
            architecture=Architecture(blocks=5, heads=3, head_dim=32),
            ema=0.9995,
            text_from="data/models/digits-factorised",
        ),
    },
    "digits-i2v": {
        "cpu": Recipe(objective="i2v", stages=(Stage(9, 8, 2_600),), architecture=ImageArchitecture()),
        "depth": Recipe(
            objective="i2v",
            stages=(Stage(9, 8, 2_000),),
            architecture=ImageArchitecture(),
            stochastic_depth=0.1,
            seed=2,
            **_TRAINED_ON,
        ),
        "gpu": Recipe(
            objective="i2v",
            stages=(Stage(9, 64, 60_000),),
            architecture=ImageArchitecture(channels=(64, 128)),
            ema=0.9995,
            warmup=500,
        ),
    },
}
