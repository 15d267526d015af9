"""`attribute`: what every layer's guidance vector would be, to first order, from one backward pass.

Put a gate g_l = 1 on each residual branch l: a block gives `h + g_l (block(h) - h)`, a sub-layer adds `g_l` times what it adds.
With the gate at 0 the layer is skipped, and the prediction is the weak model's, p_l. So to first order in g_l

    c - p_l  ~  d prediction / d g_l          <c - p_l, v>  ~  d <prediction, v> / d g_l

and one backward pass of the inner product with a direction v gives the right-hand side for all layers and parts at once, where
the sweep of `ablate` pays a pass for each. How good the estimate is depends on the model: a block that does much is far from
linear. Where a model normalises what a sub-layer gives before adding it (Mochi), the length of the branch does not matter, so
the derivative by the gate of that sub-layer is 0, though leaving it out changes much: look at its blocks, or at "attention".
`stg_lab.analysis.rank_correlation` says how well the estimate ranks the layers.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from stg_lab.errors import GuidanceError
from stg_lab.given import Whole, takes
from stg_lab.guidance import Guidance, Term
from stg_lab.passes import asked
from stg_lab.patch import Hits, in_place, plain_around, replaced_forward, uncompiled, watched
from stg_lab.recording import Recording
from stg_lab.sampling.states import Runs
from stg_lab.sampling.sweep_grid import Models, skips
from stg_lab.sampling.visitor import State, as_array
from stg_lab.undone import stacked
from stg_lab.weak import Pass
from stg_lab.weak.attention import Attention, edited
from stg_lab.weak.base import one_of
from stg_lab.weak.rows import only_concerned
from stg_lab.weak.skip import EDITS, ZEROED, Skip

if TYPE_CHECKING:
    import xarray as xr

ALONG = ("cfg", "cond")


@takes(step=None, seed=None, probes=Whole(0, 10_000))
def attribute(
    pipe: Any,
    step: int | Sequence[int] | None = None,
    prompt: str | list[str] | None = None,
    *,
    layers: Sequence[int] | None = None,
    parts: Sequence[str] = ("block", "attention_zero", "feedforward"),
    along: str = "cfg",
    probes: int = 0,
    seed: int | Sequence[int] | None = None,
    state: Recording | str | Path | None = None,
    guidance: Guidance | Term | Any | None = None,
    progress: bool = True,
    **call: Any,
) -> xr.Dataset:
    """Estimate every layer's guidance vector along a direction, to first order, by one backward pass for each state.

    The states are those of `lab.ablate` with the same arguments, and the result aligns with its `axis="joint"`. The denoiser
    runs once more with gradients to the gates alone: weights get none, whatever their `requires_grad`. Activations of the
    whole pass are kept meanwhile, as in training with a batch of the samples.

    Args:
        pipe, step, prompt, layers, seed, state, guidance, progress, call: as in `lab.ablate`.
        parts: of `lab.skip`; for the attention parts the gate mixes the edited attention into the true one.
        along: the direction v: "cfg" for CFG's vector c - u, "cond" for c itself.
        probes: how many random directions to estimate norms with, a backward pass each: E <J, r>^2 = |J|^2 for standard normal
            r (Hutchinson 1989). The relative standard error of the norm is about 1 / sqrt(2 probes). 0 for none.

    Returns:
        Dataset with dims (step, layer, part, sample), float64:

        - `inner`: the estimate of <c - p, v>, in squared units of the prediction;
        - `projection`: that over |v|, the length of the guidance vector along v; from a sweep it is `l2 * cosine_cfg` for
          v = c - u, and `l2 * cosine_cond` for v = c;
        - `l2`: the estimate of |c - p|, if there are probes;
        - `why (layer, part)`: why there is no such weak model, and the estimates are NaN; "" where there is one;
        - coordinates as in `lab.ablate`.

    Raises:
        CallError, GuidanceError, RecordingError, UnsupportedPipelineError: as `lab.ablate`; `GuidanceError` also for a
            direction that the run does not have.
    """
    one_of("along", along, ALONG)
    given = call if prompt is None else {"prompt": prompt, **call}
    runs = Runs.plan(pipe, step, seed, guidance, state, given, of=attribute)
    models = skips(pipe, runs.family, layers, parts, ("joint",))
    if along == "cfg" and not runs.wants_uncond:
        raise GuidanceError(
            "along='cfg' needs the unconditional prediction, which this call does not compute. "
            f"{runs.family.how_to_uncond()} Or type along='cond'."
        )
    from tqdm.auto import tqdm

    found: dict[tuple[int, int], _Estimates] = {}
    levels: dict[int, tuple[float, float]] = {}
    with tqdm(total=len(runs.steps) * len(runs.seeds), desc="attribute", disable=not progress) as bar:
        for run, number in enumerate(runs.seeds):

            def visit(at: State, run: int = run) -> None:
                found[at.step, run] = _estimate(at, models, along, probes)
                levels[at.step] = at.level.timestep, at.level.sigma
                bar.update(1)

            with torch.inference_mode(False):  # its tensors could not be differentiated
                runs.visit(number, runs.steps, (), visit)
    return _dataset(runs, models, found, levels, along)


@dataclass(frozen=True)
class _Estimates:
    """Of one state, for each gate and sample: `(model, sample)`, float64; `length` is |v| of each sample."""

    inner: np.ndarray
    length: np.ndarray
    l2: np.ndarray | None


def _estimate(state: State, models: Models, along: str, probes: int) -> _Estimates:
    if along == "cfg" and state.uncond is None:
        raise GuidanceError(
            "along='cfg' needs the unconditional prediction, which the pipeline did not compute. Type along='cond'."
        )
    v = state.cond - cast(np.ndarray, state.uncond) if along == "cfg" else state.cond
    with torch.enable_grad():
        gates, prediction = gated(state, cast("list[Skip]", list(models.of.values())))
        inner = _derivative(prediction, torch.from_numpy(v), gates)
        squares = np.zeros_like(inner)
        draw = torch.Generator().manual_seed(0)
        for _ in range(probes):  # the same directions for every sample, so that none depends on its batch
            random = torch.randn(prediction.shape[1:], generator=draw)
            squares += _derivative(prediction, random.expand(prediction.shape), gates) ** 2
    length = np.sqrt((v.astype(np.float64) ** 2).reshape(len(v), -1).sum(1))
    return _Estimates(inner, length, np.sqrt(squares / probes) if probes else None)


def gated(state: State, models: Sequence[Skip]) -> tuple[Tensor, Tensor]:
    """The conditional prediction once more, with a gate for each weak model and sample.

    Returns:
        Gates `(model, sample)`, all 1, and the prediction `(sample, channel, frame, y, x)` that depends on them.

    Raises:
        GuidanceError: the pass did not come to a gate.
    """
    at = only_concerned(state.at)
    rows = len(at.prediction)
    if rows > 1 and any(edit.times(at) > 1 for edit in at.edits):
        raise GuidanceError(
            f"{at.edits[0]} has every row of a call twice, where gates of several samples cannot be told apart. Attribute one sample at "
            "a time, with seed=[...] for more of them."
        )
    gates = torch.ones(len(models), rows, device=at.prediction.device, requires_grad=True)
    module, hits = uncompiled(at.denoiser), Hits()
    with stacked() as stack:
        there = stack.enter_context(watched())
        for model, gate in zip(models, gates, strict=True):
            stack.enter_context(_gate(model, gate, at, hits))
        changed = [one for one, name, _ in there() if name == "forward"]
        stack.enter_context(in_place(plain_around(changed, module)))
        args, kwargs, own = asked(at)
        prediction = own(at.family.prediction(module.forward(*args, **kwargs)))
    if unreached := [place for place, count in hits.items() if not count]:
        raise GuidanceError(
            f"{', '.join(unreached)} was never reached during the pass, so nothing is known of it. The pipeline bypasses it (a "
            "step cache or another attention backend?): leave it out."
        )
    return gates, state.finish(prediction)


@contextlib.contextmanager
def _gate(model: Skip, gate: Tensor, at: Pass, hits: Hits) -> Iterator[None]:
    """Inside the `with`, what a weak model skips is multiplied by a gate `(sample,)`."""
    part = "attention" if model.part in EDITS else ZEROED.get(model.part, "block")
    with stacked() as stack:
        for place, axis, module in model.sublayers(part, at.family, at.denoiser):
            where = f"{model.part} {place}"
            if model.part in EDITS:
                stack.enter_context(edited(module, _gated_edit(model, gate, at), at, axis, hits, where))
            else:
                stack.enter_context(replaced_forward(module, _gated_branch(part, gate, at), hits, where))
        yield


def _gated_branch(part: str, gate: Tensor, at: Pass) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def make(forward: Callable[..., Any]) -> Callable[..., Any]:
        def weighed(*args: Any, **kwargs: Any) -> Any:
            return _weighed(forward(*args, **kwargs), at.family.left_out(part, forward, args, kwargs), gate)

        return weighed

    return make


def _gated_edit(model: Skip, gate: Tensor, at: Pass) -> Callable[[Attention], Tensor]:
    seen = itertools.count()

    def edit(attention: Attention) -> Tensor:
        mine, rows = gate, len(attention.query)
        if rows < len(gate):  # Mochi attends to one sample after the other, each with as many words as it has
            mine = gate.roll(-rows * next(seen))[:rows]
        return _weighed(attention(), model.edit(attention, at), mine)

    return edit


def _weighed(output: Any, without: Any, gate: Tensor) -> Any:
    """`without + gate (output - without)`, written so that a gate of 1 leaves the output's bits alone."""
    if isinstance(output, tuple):
        return tuple(_weighed(o, w, gate) for o, w in zip(output, without, strict=True))
    # Blocks for space or time alone fold the rest into their batch, behind the samples.
    rows = gate.repeat_interleave(len(output) // len(gate)).view(-1, *[1] * (output.ndim - 1))
    return output + ((rows - 1) * (output - without)).to(output.dtype)


def _derivative(prediction: Tensor, v: Tensor, gates: Tensor) -> np.ndarray:
    """d <prediction, v> / d gate for each gate and sample, `(model, sample)`."""
    inner = (prediction * v.to(prediction)).sum()  # samples do not mix, so the sum keeps their derivatives apart
    (slope,) = torch.autograd.grad(inner, gates, retain_graph=True)
    return as_array(slope).astype(np.float64)


def _dataset(
    runs: Runs,
    models: Models,
    found: dict[tuple[int, int], _Estimates],
    levels: dict[int, tuple[float, float]],
    along: str,
) -> xr.Dataset:
    import xarray as xr

    dims = ("step", "layer", "part", "sample")
    shape = (len(runs.steps), len(models.layers), len(models.parts), len(runs.sample_seeds))
    values = {name: np.full(shape, np.nan) for name in ("inner", "projection", "l2")}
    layers, parts, _ = np.array(list(models.of)).T
    for (step, run), one in found.items():
        k, samples = runs.steps.index(step), slice(run * runs.batch, (run + 1) * runs.batch)
        for name, value in (("inner", one.inner), ("projection", one.inner / one.length), ("l2", one.l2)):
            if value is not None:
                values[name][k, layers, parts, samples] = value
    if all(one.l2 is None for one in found.values()):
        del values["l2"]
    ds = xr.Dataset(
        {**{name: (dims, value) for name, value in values.items()}, "why": (dims[1:3], models.why[:, :, 0])},
        coords={
            "step": list(runs.steps),
            "layer": list(models.layers),
            "part": list(models.parts),
            "caption": ("sample", runs.captions),
            "seed": ("sample", runs.sample_seeds),
            "weak": (dims[1:3], models.weak[:, :, 0]),
            **{name: ("step", [levels[s][i] for s in runs.steps]) for i, name in enumerate(("timestep", "sigma"))},
        },
        attrs={"along": along, "estimate": "first order in the gates of the residual branches"},
    )
    told = {
        "inner": "estimate of <c - p, v>",
        "projection": "estimate of <c - p, v> / |v|",
        "l2": "estimate of |c - p|",
    }
    for name in values:
        ds[name].attrs.update(long_name=told[name], units="prediction squared" if name == "inner" else "prediction")
    return ds
