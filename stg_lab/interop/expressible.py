"""A sum taken apart for tools that know CFG and skipped layers, with clear words for what they do not know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stg_lab.errors import GuidanceError
from stg_lab.guidance import CFG, STG, CFGpp, Edit, Guidance, Probe, Term
from stg_lab.weak import Weak
from stg_lab.weak.per_step import PerStep
from stg_lab.weak.skip import Skip


@dataclass(frozen=True)
class Parted:
    """The terms that change the prediction: CFG, and skipped layers."""

    cfg: tuple[CFG, ...]
    skips: tuple[STG, ...]

    @property
    def terms(self) -> tuple[Term, ...]:
        return (*self.cfg, *self.skips)


def cannot(tool: str, what: object, why: str) -> GuidanceError:
    """The error for what a tool has no setting for."""
    return GuidanceError(f"{tool} cannot say {what}: {why}")


def acts(term: Term) -> bool:
    """Whether a term can change the prediction at any step."""
    return not (isinstance(term, Probe) or term.never)


def parted(guidance: Guidance, tool: str) -> Parted:
    """The terms that change the prediction; a `Probe`, a `Watch`, CFG(1) and scales of 0 are left out, which changes nothing.

    Raises:
        GuidanceError: Restart, orthogonalised vectors, edits of the main pass or CFG++, which none of the tools has.
    """
    if guidance.restarts is not None:
        raise cannot(tool, guidance.restarts, "it has no Restart sampling. Take it off the sum.")
    if guidance.orthogonalized is not None:
        raise cannot(
            tool, guidance.orthogonalized, "its guidance vectors are added as they are. Leave orthogonalize out."
        )
    if edit := next((t for t in guidance.terms if type(t) is Edit), None):
        raise cannot(tool, edit, "it has no edits of the main pass among its guidance settings. Take it off the sum.")
    terms = [t for t in guidance.terms if acts(t)]
    for term in terms:
        if isinstance(term, CFGpp):
            raise cannot(
                tool, term, "CFG++ is another scale at every step of one sampler. Type lab.CFG(scale) instead."
            )
    skips = tuple(t for t in terms if isinstance(t, STG))
    return Parted(tuple(t for t in terms if isinstance(t, CFG)), skips)


def plain(term: Term, tool: str) -> None:
    """Raise `GuidanceError` for a term with rules, or one that does not point to the conditional prediction."""
    if term.rules:
        raise cannot(
            tool, term, f"it has no {' or '.join(str(r) for r in term.rules)} for such a vector. Leave it out."
        )
    if term.reference != "cond":
        raise cannot(tool, term, f"its vectors point to the conditional prediction, not to {term.reference!r}.")


def layer_skips(weak: object, tool: str) -> list[Skip]:
    """The skips of whole blocks or of attention that a weak model is made of: itself, or one for each step.

    Raises:
        GuidanceError: it is another weak model, or a skip with an axis, heads, a strength or a prompt of its own.
    """
    models = [m for m in weak.models if m is not None] if isinstance(weak, PerStep) else [weak]
    return [plain_skip(model, tool) for model in dict.fromkeys(models)]


def plain_skip(weak: object, tool: str, **own: Any) -> Skip:
    """One such skip.

    Args:
        own: fields that may differ from their defaults, with their values.
    """
    if not isinstance(weak, Skip) or weak.part not in ("block", "attention"):
        raise cannot(
            tool,
            weak,
            "its weak passes skip whole blocks (lab.skip([5])) or attention maps (lab.skip([5], part='attention')).",
        )
    least = Skip(weak.layers, part=weak.part, **own)
    if weak != least:
        raise cannot(tool, weak, f"of a skip it knows the layers alone. The nearest that it can say is {least!r}.")
    return weak


def model_at(weak: Weak, step: int) -> Skip | None:
    """The weak model of one step."""
    model = weak.models[step] if isinstance(weak, PerStep) else weak
    assert model is None or isinstance(model, Skip)
    return model
