"""The sum of the terms, as a value; `equation` computes it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from stg_lab.errors import GuidanceError
from stg_lab.given import real, shown
from stg_lab.guidance.arithmetic import Arithmetic, is_zero, not_a_term
from stg_lab.guidance.edits import Edit
from stg_lab.guidance.moment import Moment
from stg_lab.guidance.restart import Restart
from stg_lab.guidance.rules import rule_from_dict
from stg_lab.guidance.scales import number
from stg_lab.guidance.terms import CFG, COND, STG, UNCOND, CFGpp, Probe, Term, WeakModel

TERMS: dict[str, type[Term]] = {"CFG": CFG, "CFGpp": CFGpp, "STG": STG, "Probe": Probe, "Edit": Edit}
#: What is done to a sum, and the attributes that say it.
AFTER = {
    "rescaling": ("phi", "per"),
    "orthogonalization": ("orthogonalized",),
    "space": ("space",),
    "Restart": ("restarts",),
}


@dataclass(frozen=True)
class Orthogonal:
    """Which of the spatial and temporal vectors loses its part along the other one, and over what (paper, eq. 21)."""

    loses: str = "temporal"
    per: str = "sample"

    @property
    def keeps(self) -> str:
        return "spatial" if self.loses == "temporal" else "temporal"

    def __str__(self) -> str:
        given = [f"loses={self.loses!r}"] * (self.loses != "temporal") + [f"per={self.per!r}"] * (self.per != "sample")
        return f".orthogonalize({', '.join(given)})"


@dataclass(frozen=True)
class Guidance(Arithmetic):
    """A sum of terms and what is done to the sum. Immutable; build it by adding terms.

    Attributes:
        terms: the vectors with their weights.
        phi, per: strength of the rescaling, and whether the deviation is taken per "sample" or per "batch".
        orthogonalized: how spatial and temporal vectors are made orthogonal, or None.
        space: "native" combines what the model predicts, "x0" the one-step predictions.
        restarts: Restart sampling, or None.
    """

    terms: tuple[Term, ...] = ()
    phi: float = 0.0
    per: str = "sample"
    orthogonalized: Orthogonal | None = None
    space: str = "native"
    restarts: Restart | None = None

    def __post_init__(self) -> None:
        if self.orthogonalized is None:
            return
        models = dict.fromkeys(t.weak for t in self.terms if isinstance(t, STG) and not isinstance(t, Probe))
        axes = [model.axis for model in models]
        if axes.count("spatial") != 1 or axes.count("temporal") != 1:
            raise GuidanceError(
                "orthogonalize needs one spatial and one temporal weak model in the sum, for example "
                "lab.STG(1, lab.skip([5], part='attention', axis='spatial')) + "
                f"lab.STG(1, lab.skip([5], part='attention', axis='temporal')). This sum has: {' + '.join(map(str, self.terms))}."
            )

    def __add__(self, other: Term | Guidance) -> Guidance:
        if is_zero(other):
            return self
        if isinstance(other, Term):
            other = Guidance((other,))
        if not isinstance(other, Guidance):
            raise not_a_term(other)
        merged: dict[str, Any] = {}
        for name, fields in AFTER.items():
            mine, theirs, default = ({f: getattr(g, f) for f in fields} for g in (self, other, Guidance()))
            if mine != theirs and default not in (mine, theirs):
                differ = [f for f in fields if mine[f] != theirs[f]]
                said = " and ".join(", ".join(str(one[f]) for f in differ) for one in (mine, theirs))
                raise GuidanceError(f"two sums that differ in {name} ({said}) cannot be added.")
            merged |= theirs if mine == default else mine
        return Guidance(self.terms + other.terms, **merged)

    # ---- what is done to the sum ----

    def rescale(self, phi: float, *, per: str = "sample") -> Guidance:
        """Pull the guided prediction's standard deviation back to the conditional one's (paper, Alg. 4; Lin et al. 2023).

        Args:
            phi: 0 is off, 1 is full.
            per: "sample", so that samples of a batch do not touch each other (diffusers), or "batch": one deviation for all
                (the STGuidance repository).
        """
        strength = real(phi)
        if strength is None or not 0 <= strength <= 1:
            raise GuidanceError(f"rescale(phi) takes 0 (off) to 1 (full), got {shown(phi)}.")
        if per not in ("sample", "batch"):
            raise GuidanceError(f"rescale(per=...) takes 'sample' or 'batch', got {shown(per)}.")
        return replace(self, phi=float(strength), per=per if phi else "sample")

    def orthogonalize(self, *, loses: str = "temporal", per: str = "sample") -> Guidance:
        """Take from the temporal vector its part along the spatial one (paper, eq. 21 and Alg. 5).

        The sum needs one weak model with axis="spatial" and one with axis="temporal". Where one of the two does not act, the
        other is left as it is.

        Args:
            loses: "temporal" as in the paper, or "spatial" for the other order.
            per: "sample", over everything of a sample, or "frame", for each frame by itself.

        Raises:
            GuidanceError: the two weak models are not there, or an unknown argument.
        """
        if loses not in ("temporal", "spatial") or per not in ("sample", "frame"):
            raise GuidanceError(
                "orthogonalize takes loses='temporal' or 'spatial' and per='sample' or 'frame', "
                f"got loses={shown(loses)}, per={shown(per)}."
            )
        return replace(self, orthogonalized=Orthogonal(loses, per))

    def in_x0(self) -> Guidance:
        """Combine one-step predictions instead of what the model predicts.

        Without rescaling and rules the sum is the same in both spaces: its coefficients add up to one, and orthogonalization does
        not ask how long its vectors are. It is then computed in the model's own space, where no digits are lost.
        """
        return replace(self, space="x0")

    def restart(self, t_min: float, t_max: float, times: int = 1, *, seed: int = 0) -> Guidance:
        """Restart sampling: back up from `t_min` to `t_max` with fresh noise, and down again (paper, Alg. 3).

        Args:
            t_min, t_max: noise as shares, 0 < t_min < t_max <= 1, where 1 is pure noise (see `Restart`); the nearest of the
                run's own steps are taken.
            times: K, how often.
            seed: of the restart noise; added to each sample's own seed, so that every sample gets noise of its own.
        """
        return replace(self, restarts=Restart(t_min, t_max, times, seed))

    # ---- what it needs ----

    @property
    def weak(self) -> dict[str, WeakModel]:
        """The weak models by branch name. A name is the model's own, or its full specification where two would clash."""
        models = list(dict.fromkeys(t.weak_model for t in self.terms if t.weak_model is not None and not t.never))
        names = [m.name for m in models]
        return {(m.name if names.count(m.name) == 1 else str(m)): m for m in models}

    def branch(self, term: Term) -> str:
        """Name of the branch that a term points away from."""
        if term.weak_model is None:
            return UNCOND
        return next(name for name, model in self.weak.items() if model == term.weak_model)

    def needed(self, at: Moment) -> dict[str, WeakModel]:
        """The weak models to run at a step: those whose terms act there, and probes.

        Raises:
            GuidanceError: the sampler does not serve one of the terms, be it at this step or at another.
        """
        for term in self.terms:
            term.check(at)
            term.active(at)  # its weight, too, may be one that the sampler does not have
        needing = [
            t for k, t in enumerate(self.terms) if t.weak_model is not None and t.needs_pass(at) and not t.over(at, k)
        ]
        running = {self.branch(t) for t in needing}
        return {name: model for name, model in self.weak.items() if name in running}

    @property
    def edits(self) -> list[WeakModel]:
        """What the main pass is made under, at whatever steps."""
        return list(dict.fromkeys(t.weak for t in self.terms if isinstance(t, Edit)))

    def editing(self, at: Moment) -> list[WeakModel]:
        """What the main pass of a step is made under, in order."""
        return [t.weak for t in self.terms if isinstance(t, Edit) and t.there(at)]

    @property
    def has_cfg(self) -> bool:
        return any(t.weak_model is None for t in self.terms)

    @property
    def needs_uncond(self) -> bool:
        """Whether an unconditional call of the pipeline must be there: by what a term points to, by a weak model's prompt, or
        by a rule that asks for CFG's vector."""
        passes = [t for t in self.terms if t.weak_model is not None and not t.never]
        return any(
            t.reference == UNCOND or t.weak_model.prompt == "negative" or any(rule.needs_uncond for rule in t.rules)  # type: ignore[union-attr]
            for t in passes
        )

    @property
    def plain_cfg(self) -> bool:
        """Whether CFG acts, if at all, as the pipeline does it itself: one scale at all steps."""
        terms = [t for t in self.terms if isinstance(t, CFG)]
        return all(t.plain and not callable(t.scale) and not isinstance(t.scale, tuple) for t in terms)

    def leaves_cfg(self, at: Moment) -> bool:
        """Whether the pipeline's own CFG scale is in force at a step: where the sum says nothing of CFG, or asks for what the
        pipeline does by itself. Then what the pipeline works with counts, which may change on the way (Wan 2.2 has another scale
        for its second transformer)."""
        return not self.has_cfg or (self.plain_cfg and self.cfg_scale(at) == self.cfg_scale())

    def cfg_scale(self, at: Moment | None = None) -> float:
        """CFG scale in diffusers' convention: of the plain terms at a step; without a step, what to call the pipeline with."""
        terms = [t for t in self.terms if isinstance(t, CFG)]
        if at is not None:
            return 1.0 + sum(t.weight(at) for t in terms if t.plain and t.inside(at))  # s - 1 + 1 is s, bit for bit
        if self.plain_cfg:
            return terms[0].scale if len(terms) == 1 else 1.0 + sum(t.scale - 1 for t in terms)
        # Any number above 1 (Cosmos: above 2) makes the pipeline compute the unconditional prediction. It must not depend on a
        # schedule, so that a function and the numbers that a recording keeps of it make the same call.
        scale = max((t.scale for t in terms if isinstance(t.scale, int | float)), default=1.0)
        return scale if scale > 1 else 3.0

    @property
    def linear(self) -> bool:
        """Whether the guided prediction is a weighted sum with coefficients that add up to one."""
        return self.same_in_x0 and self.orthogonalized is None and not any(t.rules for t in self.terms)

    @property
    def same_in_x0(self) -> bool:
        """Whether one-step predictions combine to the same guided prediction; rescaling and most rules see to it that not."""
        return not self.phi and all(rule.linear for t in self.terms for rule in t.rules)

    def resolved(self, steps: int) -> Guidance:
        """The same guidance with every schedule as plain numbers, for a run of `steps` steps.

        Raises:
            GuidanceError: a list of scales or of weak models that is not as long as the run.
        """
        for model in self.weak.values():
            model.acts(0, steps)
        return replace(self, terms=tuple(t.resolved(steps) for t in self.terms))

    # ---- as a file and as text ----

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a file; `Guidance.from_dict` reads them back.

        Raises:
            GuidanceError: a scale is a function; `resolved(steps)` makes it numbers.
        """
        return {
            "terms": [_term_to_dict(t) for t in self.terms],
            "rescale": self.phi,
            "rescale_per": self.per,
            "orthogonalize": asdict(self.orthogonalized) if self.orthogonalized else None,
            "space": self.space,
            "restart": asdict(self.restarts) if self.restarts else None,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], parse: Callable[[str], WeakModel]) -> Guidance:
        """Read `to_dict` back; `parse` turns a weak model's specification into the model."""
        terms = tuple(_term_from_dict(value, parse) for value in values["terms"])
        total = cls(terms).rescale(values["rescale"], per=values.get("rescale_per", "sample"))
        if values.get("orthogonalize"):
            total = replace(total, orthogonalized=Orthogonal(**values["orthogonalize"]))
        if values.get("restart"):
            total = replace(total, restarts=Restart(**values["restart"]))
        return replace(total, space=values.get("space", "native"))

    def __str__(self) -> str:
        total = " + ".join(map(str, self.terms)) or "cond"
        after = str(self.orthogonalized or "")
        after += ".in_x0()" if self.space == "x0" else ""
        if self.phi:
            after += f".rescale({number(self.phi)}{', per=' + repr(self.per) if self.per != 'sample' else ''})"
        after += str(self.restarts or "")
        return f"({total}){after}" if after else total


def _term_to_dict(term: Term) -> dict[str, Any]:
    if callable(term.scale):
        raise GuidanceError(f"{term} has a function as its scale; .resolved(steps) turns it into numbers for a file.")
    values: dict[str, Any] = {
        "method": type(term).__name__,
        "scale": list(term.scale) if isinstance(term.scale, tuple) else term.scale,
        "start": term.start,
        "stop": term.stop,
    }
    optional = {
        "sigma": [s if math.isfinite(s) else None for s in term.sigma]
        if term.sigma
        else None,  # JSON knows no infinity
        "weak": None if term.weak_model is None else str(term.weak_model),
        "reference": None if term.reference == COND else term.reference,
        "rules": [rule.to_dict() for rule in term.rules],
    }
    return values | {name: value for name, value in optional.items() if value}


def _term_from_dict(values: Mapping[str, Any], parse: Callable[[str], WeakModel]) -> Term:
    given = dict(values)
    kind = TERMS[given.pop("method")]
    if "sigma" in given:
        given["sigma"] = tuple(math.inf if s is None else s for s in given["sigma"])
    if "weak" in given:
        given["weak"] = parse(given["weak"])
    if "rules" in given:
        given["rules"] = tuple(rule_from_dict(rule) for rule in given["rules"])
    if issubclass(kind, Probe | Edit):
        del given["scale"]
    return kind(**given)


def as_guidance(guidance: Guidance | Term | None) -> Guidance:
    """A single term or a sum as a sum; None is the empty sum.

    Raises:
        GuidanceError: anything else.
    """
    if guidance is None:
        return Guidance()
    if isinstance(guidance, Term):
        return Guidance((guidance,))
    if isinstance(guidance, Guidance):
        return guidance
    raise GuidanceError(
        f"guidance must be a sum such as lab.CFG(4) + lab.STG(1, lab.skip([5])), got {shown(guidance)}."
    )
