"""`guider`: a sum of the lab as a guider of diffusers, for workflows that know nothing of the lab."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from stg_lab.errors import GuidanceError
from stg_lab.families import Family, family_of_denoiser
from stg_lab.given import takes
from stg_lab.guidance import COND, UNCOND, CFGpp, Guidance, Moment, Term, combine
from stg_lab.interop import as_guidance
from stg_lab.passes import PASSES, Passes, Prefix, Prepared
from stg_lab.passes.run import checked
from stg_lab.patch import Hits, in_place
from stg_lab.sampling.checks import check_weak
from stg_lab.sampling.steps import repeats
from stg_lab.weak import Pass, Weak

#: What diffusers calls the predictions of a branch, and which of a pair of inputs it takes.
CONDITIONS = {COND: ("pred_cond", 0), UNCOND: ("pred_uncond", 1)}


@takes(passes=PASSES)
def guider(guidance: Guidance | Term | None = None, *, passes: Passes | None = None) -> Any:
    """A sum as a guider of diffusers: `pipe.update_components(guider=lab.guider(guidance))`.

    It works in every modular pipeline whose denoiser block asks its guider for the batches and hands it the predictions, without
    the rest of the lab, and in pipelines with a guider (HunyuanVideo 1.5, Motif). Weak passes are batches of its own: the workflow
    calls its denoiser for them as it does for the others, and the guider weakens it for the length of that call. They begin at
    the first block that they change, as in `lab.attach`; the guided prediction is that of `lab.attach` bit for bit, where a pass
    has the same batch.

    Args:
        guidance: the whole sum, CFG among it: without a CFG term there is none.
        passes: `reuse=False` makes every weak pass whole; the other settings mean nothing here.

    Returns:
        A `diffusers.guiders.BaseGuidance`.

    Raises:
        GuidanceError: the sum needs the noise level or the latents, which guiders are not told: windows in sigma, `in_x0()`,
            CFG++, Restart; or a weak model that is another checkpoint.

    Source: diffusers/guiders/guider_utils.py, version 0.42.1.
    """
    return _guider_class()(as_guidance(guidance), passes or Passes())


@dataclass
class _Branch:
    """A prediction that the workflow is asked for."""

    name: str
    weak: Weak | None
    concerns: str  # "cond" or "uncond": whose inputs it has
    hits: Hits = field(default_factory=dict)
    at: Pass | None = None

    @property
    def identifier(self) -> str:
        """As diffusers names the batch."""
        return CONDITIONS[self.name][0] if self.weak is None else f"pred_{self.name}"


class _Run:
    """One step of a workflow: which branches it makes, and the denoiser's perturbation during each."""

    def __init__(self, guidance: Guidance, passes: Passes) -> None:
        self.guidance, self.passes = guidance, passes
        self.branches: list[_Branch] = [_Branch(COND, None, COND)]
        self._sum, self.step, self._steps = guidance, -1, 0
        self._memory: dict[Any, Any] = {}
        self._momentum: dict[Any, Any] = {}
        self._prefix: dict[str, Prefix] = {}
        self._ready: dict[Weak, Prepared] = {}
        self._handles: list[Any] = []

    @property
    def needs_uncond(self) -> bool:
        g = self.guidance
        return g.needs_uncond or (g.has_cfg and not (g.plain_cfg and g.cfg_scale() == 1))

    def begin(self, step: int, steps: int, enabled: bool) -> None:
        """A step begins."""
        if step <= self.step or steps != self._steps:  # a new run; with two guiders (Wan 2.2) one of them begins later
            self._sum, self._steps, self._memory, self._momentum = self.guidance.resolved(steps), steps, {}, {}
        self.step, self._prefix, self._ready = step, {}, {}
        self.branches = [_Branch(COND, None, COND)]
        if not enabled:
            return
        if self.needs_uncond:
            self.branches.append(_Branch(UNCOND, None, UNCOND))
        self.branches += [_Branch(name, weak, repeats(weak)) for name, weak in self._sum.needed(self.moment).items()]  # type: ignore[arg-type]

    @property
    def moment(self) -> Moment:
        return Moment(self.step, self._steps, memory=self._momentum)

    def watch(self, denoiser: Any, branch: _Branch) -> None:
        """Perturb the denoiser's next call; its end takes the perturbation back, also where it fails."""
        stack = contextlib.ExitStack()

        def enter(module: Any, args: tuple, kwargs: dict[str, Any]) -> None:
            family = family_of_denoiser(module)
            at = Pass(family, None, "transformer", module, args, kwargs, torch.empty(0), self.step, self._steps, memory=self._memory)  # fmt: skip
            branch.at = at
            try:
                stack.enter_context(
                    self._keep(branch, at) if branch.weak is None else self._weaken(branch.weak, branch, at)
                )
            except BaseException:
                leave()  # torch calls hooks behind a forward that fails, but not where a hook before it does
                raise

        def leave(*_: Any) -> None:
            self.unwatch()
            stack.close()

        self._handles = [
            denoiser.register_forward_pre_hook(enter, with_kwargs=True),
            denoiser.register_forward_hook(leave, always_call=True),
        ]

    def unwatch(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def combined(self, predictions: dict[str, Tensor]) -> Tensor:
        """The guided prediction, once every weak pass has been seen to be weaker."""
        for branch in self.branches:
            if branch.weak is not None and branch.at is not None:
                at = replace(branch.at, prediction=predictions[branch.concerns])
                checked(branch.weak, at, predictions[branch.name], branch.hits)
        cond = predictions[COND]
        return combine(self._sum, predictions, self._framed(cond)).to(cond.dtype)

    def _framed(self, cond: Tensor) -> Moment:
        family = self._family
        if family is None or "frame" not in family.layout:
            return self.moment
        return replace(self.moment, frame=family.dim("frame"))

    @property
    def _family(self) -> Family | None:
        at = self.branches[0].at
        return None if at is None else at.family

    def _keep(self, branch: _Branch, at: Pass) -> contextlib.AbstractContextManager[Any]:
        """Keep of a pass what the weak ones that repeat it can begin with."""
        models = [b.weak for b in self.branches if b.weak is not None and b.concerns == branch.name]
        check_weak(self._sum, at.family, {at.component: at.denoiser})
        # Where a family cannot promise that its blocks run in order, that would have to be tried with a pass of our own.
        reuse = self.passes.reuse and at.family.surely_reused
        ready = {model: Prepared.of(model, at, reuse=reuse) for model in models}
        self._ready |= ready
        self._prefix[branch.name] = prefix = Prefix(at.family, at.denoiser)
        return prefix.kept(one.first for one in ready.values())

    @contextlib.contextmanager
    def _weaken(self, weak: Weak, branch: _Branch, at: Pass) -> Any:
        first = self._ready[weak].first
        ready = Prepared.of(weak, at)
        with self._prefix[branch.concerns].served(first), in_place(ready.puts):
            yield
        branch.hits = ready.hits


def _check(guidance: Guidance) -> None:
    """Raise `GuidanceError` for what a guider cannot do."""
    untold = [
        (guidance.restarts is not None, "Restart makes steps of its own. Leave .restart(...) out"),
        (guidance.space == "x0" and not guidance.same_in_x0, "in_x0() needs the latents. Leave it out"),
        (
            any(t.sigma is not None for t in guidance.terms),
            "a window in sigma needs the noise level. Type start= and stop=",
        ),
        (any(isinstance(t, CFGpp) for t in guidance.terms), "CFG++ needs the noise level"),
    ]
    if why := next((reason for wrong, reason in untold if wrong), ""):
        raise GuidanceError(
            f"a guider of diffusers is told neither noise level nor latents: {guidance} cannot be one: {why}, or use lab.attach."
        )
    if guidance.edits:
        raise GuidanceError(
            f"a guider of diffusers hands over predictions, and {guidance} edits a pass. Use lab.attach."
        )
    for weak in guidance.weak.values():
        if type(weak).module is not Weak.module or weak.prompt == "none":  # type: ignore[attr-defined]
            raise GuidanceError(
                f"{weak} runs another model or another caption than the workflow has, which a guider cannot. Use lab.attach, or "
                "another weak model."
            )


@functools.cache
def _guider_class() -> Callable[[Guidance, Passes], Any]:
    """The class, made when it is first asked for: it derives from one of diffusers'."""
    from diffusers.guiders.guider_utils import BaseGuidance, GuiderOutput

    class LabGuidance(BaseGuidance):
        """A sum of guidance vectors; made by `stg_lab.guider`."""

        _input_predictions = [name for name, _ in CONDITIONS.values()]  # type: ignore[assignment]  # noqa: RUF012

        def __init__(self, guidance: Guidance, passes: Passes) -> None:
            _check(guidance)
            super().__init__()
            self.guidance, self.passes, self._run = guidance, passes, _Run(guidance, passes)
            self.register_to_config(guidance=str(guidance))

        def new(self, **changes: Any) -> Any:
            return guider(changes.get("guidance", self.guidance), passes=changes.get("passes", self.passes))

        def set_state(self, step: int, num_inference_steps: int, timestep: Any) -> None:
            super().set_state(step, num_inference_steps, timestep)
            self._run.begin(step, num_inference_steps, self._enabled)

        @property
        def is_conditional(self) -> bool:
            return self._branch(self._count_prepared).concerns == COND

        @property
        def num_conditions(self) -> int:
            """How many batches this step has; before the first one, more than one where there will be more.

            Blocks take that for whether they need the negative prompt, and Wan's fail without (diffusers 0.42.1).
            """
            if self._step is None:
                return 1 + (self._enabled and bool(self._run.needs_uncond or self.guidance.weak))
            return len(self._run.branches)

        def prepare_inputs(self, data: Any) -> list[Any]:
            return [self._prepare_batch(data, _index(b), b.identifier) for b in self._run.branches]

        def prepare_inputs_from_block_state(self, data: Any, input_fields: Any) -> list[Any]:
            return [
                self._prepare_batch_from_block_state(input_fields, data, _index(b), b.identifier)
                for b in self._run.branches
            ]

        def prepare_models(self, denoiser: Any) -> None:
            super().prepare_models(denoiser)
            self._run.watch(denoiser, self._branch(self._count_prepared))

        def cleanup_models(self, denoiser: Any) -> None:
            self._run.unwatch()

        def forward(self, pred_cond: Tensor, **others: Tensor) -> Any:
            given = {"pred_cond": pred_cond, **others}
            predictions = {b.name: given[b.identifier] for b in self._run.branches}
            guided = self._run.combined(predictions) if self._enabled else pred_cond
            return GuiderOutput(pred=guided, pred_cond=pred_cond, pred_uncond=others.get("pred_uncond"))

        def _branch(self, number: int) -> _Branch:
            return self._run.branches[min(max(number, 1), len(self._run.branches)) - 1]

        def save_pretrained(self, *_: Any, **__: Any) -> None:
            raise GuidanceError(
                "a guider of the lab is not kept as a file. Keep its sum, lab.export(guidance, to='lab'), and make it anew: "
                "lab.guider(lab.from_json(...))."
            )

    return LabGuidance


def _index(branch: _Branch) -> int:
    return CONDITIONS[branch.concerns][1]
