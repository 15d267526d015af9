"""What is compared: weak models at scales, added to a guidance, and the baselines that they are compared with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from stg_lab.errors import CallError, GuidanceError
from stg_lab.families import family_of
from stg_lab.guidance import CFG, STG, Guidance, Term, number
from stg_lab.sampling.calls import stock_arguments
from stg_lab.sampling.plan import plan
from stg_lab.sampling.sweep_grid import skips
from stg_lab.weak import Weak, parse, skip
from stg_lab.weak.skip import EDITS, Skip

NO_GUIDANCE = "no guidance"
PARTS = ("block", "attention")
CFG_SCALE = 2.0  # of the baseline, where neither the guidance nor the pipeline says one


@dataclass(frozen=True)
class Candidate:
    """A guidance that is compared.

    Attributes:
        name: in tables: "skip:block:4 at 1".
        guidance: the whole sum.
        weak: the weak model and its scale, where it is one added to the common guidance.
        scale: that scale.
        changes: arguments of the call that are other than for all, such as a number of steps.
        cost: of one video, in passes with prefix reuse.
    """

    name: str
    guidance: Guidance
    weak: str = ""
    scale: float = 1.0
    changes: Mapping[str, Any] | None = None
    cost: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a file."""
        values: dict[str, Any] = {"name": self.name, "guidance": self.guidance.to_dict(), "text": str(self.guidance)}
        values |= {"weak": self.weak, "scale": self.scale, "cost": self.cost}
        return values | ({"changes": dict(self.changes)} if self.changes else {})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Candidate:
        """Read `to_dict` back."""
        own = {name: values[name] for name in ("name", "weak", "scale", "changes", "cost") if name in values}
        return cls(guidance=Guidance.from_dict(values["guidance"], parse), **own)

    def planned(self, pipe: Any, call: Mapping[str, Any]) -> Candidate:
        """The same with its cost.

        Raises:
            LabError: what `lab.plan` refuses.
        """
        told = plan(pipe, self.guidance, record=False, **{**call, **(self.changes or {})})
        return replace(self, cost=told.cost)


def given(candidates: Any, base: Guidance, scales: Sequence[float]) -> list[Candidate]:
    """Candidates as they were given.

    Args:
        candidates: weak models or their specifications, each added at every scale; terms and sums, added as they are.

    Raises:
        CallError: none, or something else; two alike.
    """
    listed = [candidates] if isinstance(candidates, Weak | Term | Guidance | str) else list(candidates)
    found = [one for entry in listed for one in _candidates(entry, base, scales)]
    names = [one.name for one in found]
    if not found or len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise CallError(
            f"candidates are to be different, and {twice[0]} is there twice."
            if twice
            else "there is no candidate. Type for example [lab.skip([l]) for l in range(8)], or None for every layer."
        )
    return found


def _candidates(entry: Any, base: Guidance, scales: Sequence[float]) -> Iterator[Candidate]:
    if isinstance(entry, Term | Guidance):
        added = entry if isinstance(entry, Guidance) else Guidance((entry,))
        yield Candidate(str(entry), base + added)
        return
    weak = parse(entry) if isinstance(entry, str) else entry
    if not isinstance(weak, Weak):
        raise CallError(f"a candidate is a weak model such as lab.skip([5]), a term or a sum, got {entry!r}.")
    for scale in scales:
        yield of_weak(weak, scale, base)


def of_weak(weak: Weak, scale: float, base: Guidance) -> Candidate:
    """A weak model at a scale, added to a guidance."""
    return Candidate(f"{weak} at {number(scale)}", base + STG(scale, weak), str(weak), float(scale))


def every_layer(pipe: Any) -> list[Weak]:
    """Every layer x part x axis that the model has: the whole block, and its attention."""
    return list(skips(pipe, family_of(pipe), None, PARTS, None).of.values())


def pairs_with(best: Weak, pipe: Any) -> list[Weak]:
    """A layer together with each of the others, skipped alike."""
    if not isinstance(best, Skip) or len(best.layers) != 1:
        return []
    layers = sorted({weak.layers for weak in every_layer(pipe) if isinstance(weak, Skip)})
    others = [layer for (layer,) in layers if layer not in best.layers]
    return [replace(best, layers=tuple(sorted((*best.layers, other)))) for other in others]


def heads_within(best: Weak, pipe: Any) -> list[Weak]:
    """One head more than a weak model changes: of its attention, or of that in the layers whose blocks it skips (HeadHunter,
    Ahn et al. 2025). For a start each head alone."""
    family = family_of(pipe)
    if not isinstance(best, Skip) or "attention" not in family.parts:
        return []
    part = best.part if best.part in EDITS else "attention"
    count = family.heads(next(iter(family.denoisers(pipe).values())))
    taken = best.heads or ()
    fresh = [h for h in range(count) if h not in taken]
    if count < 2 or len(taken) + 1 >= count:
        return []
    axis = best.axis if best.part in EDITS else "joint"
    return [skip(best.layers, part=part, axis=axis, heads=tuple(sorted((*taken, h)))) for h in fresh]


def baselines(
    pipe: Any, base: Guidance, winner: Candidate, cfg: float | None, call: Mapping[str, Any]
) -> list[Candidate]:
    """What the winner is compared with on fresh states, the guidance that it was added to first: that one, no guidance at all,
    and CFG with as many steps as make it cost what the winner does.

    Args:
        cfg: CFG scale of the last one, where the guidance has none; None for the pipeline's own.

    Raises:
        LabError: what `lab.plan` refuses of the first two.
    """
    found = [reference(base).planned(pipe, call)]
    if base.terms:
        found.append(Candidate(NO_GUIDANCE, Guidance()).planned(pipe, call))
    try:
        rival = base if base.has_cfg else Guidance((CFG(cfg or _own_scale(pipe)),))
        found += _at_equal_cost(pipe, rival, winner.cost, call)
    except (GuidanceError, CallError):
        pass  # the model computes no unconditional prediction, or its pipeline does not say how many steps it makes
    return found


def reference(base: Guidance) -> Candidate:
    """The guidance that candidates are added to, alone."""
    return Candidate(str(base) if base.terms else NO_GUIDANCE, base)


def _own_scale(pipe: Any) -> float:
    family = family_of(pipe)
    scale = family.asked_scale(stock_arguments(pipe)) if family.scale_argument else 1.0
    return float(scale) if scale > 1 else CFG_SCALE


def _at_equal_cost(pipe: Any, rival: Guidance, cost: float, call: Mapping[str, Any]) -> Iterator[Candidate]:
    asked = {**stock_arguments(pipe), **call}.get("num_inference_steps")
    if not isinstance(asked, int):
        return
    whole = Candidate("", rival).planned(pipe, call)
    steps = max(round(asked * cost / whole.cost), 1)
    one = Candidate(f"{rival} at equal cost ({steps} steps)", rival, changes={"num_inference_steps": steps})
    yield one.planned(pipe, call)
