"""What of a sum acts at one step: its terms with their weights as numbers. A run makes these once, before its first step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stg_lab.guidance.moment import Moment
from stg_lab.guidance.rules import Rule
from stg_lab.guidance.terms import CFG, Term, WeakModel

if TYPE_CHECKING:
    from stg_lab.guidance.guidance import Guidance


@dataclass(frozen=True)
class Weighted:
    """A term at a step where it acts.

    Attributes:
        key: its number in the sum, by which rules with a memory know it.
        weight: w_i of the sum.
        weak: name of the branch that its vector points away from.
        reference: and of the one that it points to; "cfg" is what CFG alone gives.
        axis: of its weak model, "spatial", "temporal" or "joint".
        rules: what is done to its vector.
        shared: whether frames with CFG scales of their own (SVD) have their share of it.
    """

    key: int
    weight: float
    weak: str
    reference: str
    axis: str
    rules: tuple[Rule, ...]
    shared: bool

    @classmethod
    def of(cls, key: int, term: Term, weak: str, at: Moment) -> Weighted:
        axis = "" if term.weak_model is None else term.weak_model.axis
        return cls(
            key, term.weight(at), weak, term.reference, axis, term.rules, isinstance(term, CFG) and term.by_frame
        )

    def over(self, at: Moment) -> bool:
        """Whether a rule has ended the term for the rest of the run, by what it keeps in the moment's memory."""
        return any(rule.over(at, self.key) for rule in self.rules)


@dataclass(frozen=True)
class Acting:
    """A sum at one step.

    Attributes:
        guidance: the sum.
        cfg_scale: of its plain CFG terms; 1 where none acts.
        cfg: the CFG terms that are not plain (with rules, CFG++), in the sum's order.
        skips: the other ones, away from weak models.
        rules: those of all terms that are inside their windows, which have a say in the guided prediction.
        passes: weak models to run, by branch: those of the terms that act, and of probes.
        edits: what the pipeline's own pass under the caption is made under.
        leaves_cfg: see `Guidance.leaves_cfg`.
        stands_aside: whether nothing of the sum acts, so that the pipeline's own prediction is stepped with.
    """

    guidance: Guidance
    cfg_scale: float = 1.0
    cfg: tuple[Weighted, ...] = ()
    skips: tuple[Weighted, ...] = ()
    rules: tuple[Rule, ...] = ()
    passes: Mapping[str, WeakModel] = field(default_factory=dict)
    edits: tuple[WeakModel, ...] = ()
    leaves_cfg: bool = True
    stands_aside: bool = True

    @classmethod
    def at(cls, guidance: Guidance, at: Moment) -> Acting:
        """What of a sum acts at a step.

        Raises:
            GuidanceError: the sampler does not serve one of the terms, be it at this step or at another.
        """
        g, passes, leaves = guidance, guidance.needed(at), guidance.leaves_cfg(at)
        terms = [
            (isinstance(t, CFG), Weighted.of(key, t, g.branch(t), at))
            for key, t in enumerate(g.terms)
            if t.active(at) and not (isinstance(t, CFG) and t.plain)
        ]
        ruled = any(t.rules for t in g.terms)
        return cls(
            g,
            g.cfg_scale(at),
            tuple(one for is_cfg, one in terms if is_cfg),
            tuple(one for is_cfg, one in terms if not is_cfg),
            tuple(rule for t in g.terms if t.rules and t.inside(at) for rule in t.rules if rule.always or not t.never),
            passes,
            tuple(g.editing(at)),
            leaves,
            not terms and not ruled and not g.phi and leaves,
        )

    def by_frame(self, at: Moment) -> tuple[Any, Any]:
        """The scale of the plain CFG terms, and what the weights of the other ones are multiplied by.

        Where frames have scales of their own, it is CFG as a whole that has them, and each term does its share of it.
        """
        whole = self.cfg_scale + sum(one.weight for one in self.cfg if one.shared)
        if at.by_frame is None or whole == 1:
            return self.cfg_scale, 1
        frames = at.by_frame(whole)
        if self.cfg_scale == whole:
            return frames, 1  # there are no other ones
        share = (frames - 1) / (whole - 1)
        return self.cfg_scale if self.cfg_scale == 1 else 1 + (self.cfg_scale - 1) * share, share
