"""What a run will take, told before anything is computed."""

from __future__ import annotations

import html
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from stg_lab.errors import CallError
from stg_lab.families import Family, family_of
from stg_lab.given import takes
from stg_lab.guidance import Guidance, Term
from stg_lab.interop import as_guidance
from stg_lab.passes import PASSES, Passes
from stg_lab.recording.background import AHEAD
from stg_lab.recording.writer import free_bytes, known_dtype, size_text
from stg_lab.sampling.ahead import Ahead
from stg_lab.sampling.calls import pipeline_arguments
from stg_lab.sampling.shares import Shares
from stg_lab.sampling.steps import RunStep
from stg_lab.sampling.temporary import place_of
from stg_lab.sampling.values import check_names
from stg_lab.weak.per_step import PerStep

WIDE = 4  # bytes of a prediction's number: float32, which several pipelines cast to


@dataclass(frozen=True)
class PlannedPass:
    """One forward pass of a denoiser.

    Attributes:
        branches: what it predicts: "cond", "uncond", or the name of a weak model.
        rows: its batch.
        weak: the weak model's specification; "" for the pipeline's own passes.
        share: share of the network that it runs, in its blocks (U-Nets: top-level modules); the rest is reused from the
            pipeline's own pass.
        begins: number of the first of them that it runs, from 0; -1 for what an edit runs ahead, from the start up to its share.
    """

    branches: tuple[str, ...]
    rows: int
    weak: str = ""
    share: float = 1.0
    begins: int = 0

    @property
    def cost(self) -> float:
        """In whole forward passes of one row."""
        return self.rows * self.share


@dataclass(frozen=True)
class PlannedStep:
    """One step of a run.

    Attributes:
        step: number in the scheduler's run, from 0.
        restart: round of Restart; 0 is the pipeline's own way down.
        sigma: noise level as windows mean it; NaN where the scheduler's is not known.
        passes: in running order.
    """

    step: int
    restart: int
    sigma: float
    passes: tuple[PlannedPass, ...]

    @property
    def weak(self) -> tuple[str, ...]:
        """Weak branches that run here."""
        return tuple(p.branches[0] for p in self.passes if p.weak)


@dataclass(frozen=True)
class Plan:
    """What a run will take. `str()` gives text; Jupyter shows a table.

    Attributes:
        pipeline, guidance: of what.
        shape: of the recorded latents, (sample, channel, frame, y, x).
        steps: every step, in running order, those of Restart among them.
        branches: what is recorded of a step, in order.
        weights: bytes of the parameters and buffers, by component, then by (dtype, device).
        held_bytes: what the lab holds on the device beside the pipeline's own call, at most: predictions that wait for the end
            of their step, what they are combined by, and for Restart the calls of the steps to make again.
        record_dtype: of the recording.
        place: where it will lie; None where nothing is recorded.
        recording_bytes: size of the recording's arrays, at most; 0 where nothing is recorded.
        watched_bytes: what of that `lab.Watch` adds, at most; one step of it is in memory at a time.
    """

    pipeline: str
    guidance: str
    shape: tuple[int, ...]
    steps: tuple[PlannedStep, ...]
    branches: tuple[str, ...]
    weights: dict[str, dict[tuple[str, str], int]]
    held_bytes: int
    record_dtype: str
    place: Path | None
    recording_bytes: int = 0
    watched_bytes: int = 0

    # ---- passes ----

    @property
    def passes(self) -> int:
        """Forward passes of denoisers in the whole run."""
        return sum(len(s.passes) for s in self.steps)

    @property
    def own_passes(self) -> int:
        """Those that the pipeline makes itself, without the lab."""
        return sum(not p.weak for s in self.steps if not s.restart for p in s.passes)

    @property
    def weak_passes(self) -> int:
        """Those of weak models, also in the rounds of Restart."""
        return sum(bool(p.weak) for s in self.steps for p in s.passes)

    @property
    def restart_passes(self) -> int:
        """The pipeline's own passes that the rounds of Restart make again."""
        return self.passes - self.own_passes - self.weak_passes

    @property
    def rows(self) -> int:
        """Rows of all passes."""
        return sum(p.rows for s in self.steps for p in s.passes)

    @property
    def cost(self) -> float:
        """What the run costs in whole forward passes of one row, with what is reused left out."""
        return sum(p.cost for s in self.steps for p in s.passes)

    # ---- memory and disk ----

    @property
    def kept(self) -> int:
        """How many outputs of blocks are kept at once, at most, for weak passes to begin with (of U-Nets, which keep those of
        all earlier modules, this counts the last)."""
        return max(len({p.begins for p in s.passes if p.begins > 0}) for s in self.steps)

    @property
    def buffer_bytes(self) -> int:
        """What recording takes of main memory where the disk is slow: all arrays of the steps on their way, and two being encoded."""
        arrays = min(AHEAD + 1, len(self.steps)) * (len(self.branches) + 1) + 2
        return 0 if self.place is None else int(np.prod(self.shape)) * WIDE * arrays

    # ---- for people ----

    @property
    def table(self) -> tuple[tuple[str, str], ...]:
        """Rows of (what, value)."""
        rounds = max((s.restart for s in self.steps), default=0)
        again = f", {sum(s.restart > 0 for s in self.steps)} of them in {rounds} rounds of Restart" if rounds else ""
        reused = "" if self.cost == self.rows else f", at the cost of {self.cost:.4g}: the rest is reused"
        parts = [f"{self.own_passes} of the pipeline's own"]
        parts += [f"{self.weak_passes} weak"] * bool(self.weak_passes)
        parts += [f"{self.restart_passes} again by Restart"] * bool(self.restart_passes)
        rows = [
            ("guidance", self.guidance),
            ("latents", f"{self.shape} (sample, channel, frame, y, x)"),
            ("steps", f"{len(self.steps)}{again}"),
            ("passes", f"{self.passes}: {', '.join(parts)}; {self.rows} rows in all{reused}"),
            *(("", line) for line in self._stretches()),
            *self._weights_table(),
            ("activations", "not estimated; a weak pass needs no more of them than the pipeline's own"),
            *[("kept for reuse", f"{self.kept} block output{'s' * (self.kept > 1)} at once, at most")]
            * (self.kept > 0),
            ("held beside them", f"{size_text(self.held_bytes)} at most, for predictions that wait"),
        ]
        if self.place is not None:
            needed, free = self.recording_bytes, free_bytes(self.place)
            short = " - TOO LITTLE" if needed > free else ""
            each = f"{self.record_dtype}, x_t and {len(self.branches)} branches a step"
            rows += [
                ("recording", f"{size_text(needed)} ({each}); {size_text(free)} are free at {self.place}{short}"),
                *[("watched", f"{size_text(self.watched_bytes)} of it at most, a step at a time")]
                * (self.watched_bytes > 0),
                ("its buffers", f"{size_text(self.buffer_bytes)} of main memory"),
            ]
        return tuple(rows)

    def _stretches(self) -> Iterator[str]:
        """Steps on end with the same passes, one line for each stretch."""
        for (restart, passes), group in groupby(self.steps, key=lambda s: (s.restart, s.passes)):
            steps = list(group)
            first, last = steps[0], steps[-1]
            which = f"step {first.step}" if first is last else f"steps {first.step}-{last.step}"
            where = f", round {restart}" if restart else ""
            ends = " to ".join(f"{one.sigma:.3g}" for one in dict.fromkeys((first, last)))
            sigma = "" if np.isnan(first.sigma) else f" (sigma {ends})"
            yield f"{which}{where}{sigma}: {', '.join(map(_pass_text, passes))}"

    def _weights_table(self) -> Iterator[tuple[str, str]]:
        total: Counter[str] = Counter()
        for component, sizes in self.weights.items():
            said = [f"{size_text(size)} {dtype} on {device}" for (dtype, device), size in sizes.items()]
            total.update({device: size for (_, device), size in sizes.items()})
            yield f"weights of {component}", ", ".join(said)
        yield "weights in all", ", ".join(f"{size_text(size)} on {device}" for device, size in total.items())

    def __str__(self) -> str:
        width = max(len(name) for name, _ in self.table)
        return "\n".join([self._title, *(f"  {name:<{width}}  {value}" for name, value in self.table)])

    __repr__ = __str__

    @property
    def _title(self) -> str:
        return f"Plan of a run of {self.pipeline}"

    def _repr_html_(self) -> str:
        # Inline styles only: they are all that an untrusted notebook keeps.
        cell = 'style="text-align:left;padding:2px 12px 2px 0;vertical-align:top"'
        rows = "".join(
            f"<tr><th {cell}>{html.escape(name)}</th><td {cell}>{html.escape(value)}</td></tr>"
            for name, value in self.table
        )
        return f"<div><b>{html.escape(self._title)}</b><table>{rows}</table></div>"


def _pass_text(one: PlannedPass) -> str:
    name = f"{one.branches[0]} = {one.weak}" if one.weak else " + ".join(one.branches)
    where = "ahead" if one.begins < 0 else f"from {one.begins} on"
    reused = "" if one.share == 1 else f", {where}: {one.share:.0%} of the network"
    return f"{name} ({one.rows} row{'s' if one.rows > 1 else ''}{reused})"


@takes(passes=PASSES)
def plan(
    pipe: Any,
    guidance: Guidance | Term | Any | None = None,
    *,
    seed: int | None = None,
    record: bool | str | Path = True,
    record_dtype: str = "float32",
    overwrite: bool = False,
    passes: Passes | None = None,
    **call: Any,
) -> Plan:
    """What `lab.sample` with the same arguments will take, without computing anything.

    Counts the forward passes of every step, finds the weak models that run there, the shape of the latents and the size of the
    recording, all exactly as the run will have them. Of memory it tells what is sure: the weights as they lie, and a bound of
    what the lab holds beside the pipeline's own call. Activations depend on kernels and on the decoder, and are not estimated:
    a run of one step (`num_inference_steps=1`) shows their peak.

    Args:
        pipe: a stock diffusers pipeline.
        guidance: a sum such as `lab.CFG(4) + lab.STG(1, lab.skip([5]))`; None for the pipeline's own.
        seed, record, record_dtype, overwrite, passes: as in `lab.sample`.
        **call: as in `lab.sample`.

    Raises:
        CallError, GuidanceError, UnsupportedPipelineError: what `lab.sample` would raise before it computes.
    """
    family = family_of(pipe)
    check_names(pipe, call, plan)
    wanted = None if guidance is None else as_guidance(guidance, pipe, call)
    arguments = pipeline_arguments(pipe, family, wanted, seed, call)
    known_dtype(record_dtype)
    place = place_of(record)
    ahead = Ahead.of(pipe, family, wanted, arguments, recorded=place is not None)
    if ahead is None:
        raise _unknown_shape(pipe, family)
    own = [PlannedPass(branches, len(branches) * ahead.samples) for branches in ahead.calls]
    shares = Shares(pipe, family, passes or Passes(), ahead.samples)
    steps = tuple(_planned_step(restart, step, own, shares) for restart, step in ahead.running_order)
    return Plan(
        pipeline=f"{type(pipe).__name__} ({family.name})",
        guidance=str(wanted or "the pipeline's own"),
        shape=ahead.shape,
        steps=steps,
        branches=ahead.branches,
        weights={name: _weights(m) for name, m in pipe.components.items() if isinstance(m, nn.Module)},
        held_bytes=_held(steps, len(ahead.branches), ahead.shape, next(iter(family.denoisers(pipe).values()))),
        record_dtype=record_dtype,
        place=place,
        recording_bytes=0 if place is None else ahead.recording_bytes(record_dtype),
        watched_bytes=0 if place is None else ahead.rows * ahead.watched,
    )


def _unknown_shape(pipe: Any, family: Family) -> CallError:
    if not family.pipelines:
        return CallError(
            f"{type(pipe).__name__} is of no family that the lab knows, so its steps and the size of its latents turn out as it "
            "runs. Make a short run instead, for example with num_inference_steps=2."
        )
    return CallError(
        "the arguments do not tell how large the latents will be. Say height, width and num_frames, all that the pipeline takes."
    )


def _planned_step(restart: int, step: RunStep, calls: list[PlannedPass], shares: Shares) -> PlannedStep:
    """A step with the pipeline's own passes and the weak ones that repeat them."""
    passes: list[PlannedPass] = []
    for one in calls:
        own = replace(one, rows=one.rows * shares.times(step, one.branches))
        passes += [*(PlannedPass(*ahead) for ahead in shares.ahead(step, one.branches)), own]
        for branch in one.branches:
            for model, name in step.repeating(branch).items():
                rows = shares.rows(one.rows, model, step, one.branches)
                now = model.models[step.at.step] if isinstance(model, PerStep) else model
                passes.append(PlannedPass((name,), rows, str(now), *shares.of(model, step.at)))
    return PlannedStep(step.at.step, restart, step.at.sigma, tuple(passes))


def _weights(module: nn.Module) -> dict[tuple[str, str], int]:
    sizes: Counter[tuple[str, str]] = Counter()
    for tensor in (*module.parameters(), *module.buffers()):
        sizes[str(tensor.dtype).removeprefix("torch."), str(tensor.device)] += tensor.nbytes
    return dict(sizes)


def _held(steps: tuple[PlannedStep, ...], branches: int, shape: tuple[int, ...], denoiser: Any) -> int:
    """`Plan.held_bytes`. A prediction is a piece of a pass's whole output, which lives as long as it does."""
    samples, channels = shape[:2]
    known = (denoiser.config.get(name) or channels for name in ("in_channels", "out_channels"))
    wide = max(channels, *known) / channels  # a pass's rows, in samples of latents
    waiting = max(sum(p.rows for p in s.passes) for s in steps) * wide + branches * samples
    again = sum(2 * samples + 2 * wide * sum(p.rows for p in s.passes if not p.weak) for s in steps if s.restart == 1)
    return math.ceil((waiting + again) * np.prod(shape[1:]) * WIDE)
