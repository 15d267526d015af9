"""Restart sampling as a value; `sampling.restart` carries it out (paper, Alg. 3; Xu et al. 2023, arXiv 2306.14878)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stg_lab.errors import GuidanceError
from stg_lab.given import Number, Whole, read
from stg_lab.guidance.scales import count, number


@dataclass(frozen=True)
class Restart:
    """When the sample has come down to `t_min`, noise it up to `t_max` again and sample down, `times` times.

    Attributes:
        t_min, t_max: noise as shares, 0 < t_min < t_max <= 1, where 1 is pure noise: sigma of a flow model, and B / (A + B) of
            any other whose samples are `A x0 + B eps`.
        times: K of the paper.
        seed: of the restart noise, which is another one for every sample: `seed` is added to the sample's own seed (of
            `lab.sample(seed=)`, or of its generator in a list). Inside `lab.attach` nobody tells it, and sample i counts as i.
    """

    t_min: float
    t_max: float
    times: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("t_min", "t_max"):
            object.__setattr__(self, name, read(name, getattr(self, name), Number(endless=True), GuidanceError))
        if not 0 < self.t_min < self.t_max <= 1:
            raise GuidanceError(
                "restart(t_min, t_max) takes shares of noise with 0 < t_min < t_max <= 1, where 1 is pure noise, "
                f"got t_min={self.t_min}, t_max={self.t_max}."
            )
        object.__setattr__(self, "times", count("restart(times=K)", self.times, 1))
        object.__setattr__(self, "seed", read("seed", self.seed, Whole(), GuidanceError))

    def interval(self, times: Sequence[float]) -> tuple[int, int]:
        """The steps to do again: first and one past the last.

        Args:
            times: at which share of noise each step of the run starts, falling.

        Raises:
            GuidanceError: no step of the run lies between t_min and t_max.
        """

        def nearest(t: float) -> int:
            return min(range(len(times)), key=lambda k: abs(times[k] - t))

        first, end = nearest(self.t_max), nearest(self.t_min)
        if first >= end:
            raise GuidanceError(
                f"restart between t={self.t_min:g} and t={self.t_max:g} holds no step of this run, whose steps start at "
                f"{', '.join(f'{t:.3f}' for t in times)}. Take a wider interval or more steps."
            )
        return first, end

    def __str__(self) -> str:
        seed = f", seed={self.seed}" if self.seed else ""
        return f".restart({number(self.t_min)}, {number(self.t_max)}, {self.times}{seed})"
