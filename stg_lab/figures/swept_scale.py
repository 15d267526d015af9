"""Which scale a sweep turns: found in recorded guidances, or set in one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from stg_lab.errors import CallError, GuidanceError, did_you_mean
from stg_lab.guidance import CFG, STG, UNCOND, Guidance, Probe, Term
from stg_lab.recording import Recording
from stg_lab.weak import parse

CFG_NAME, STG_NAME = "CFG", "STG"


def own_guidance(recording: Recording) -> Guidance:
    """What guided a run: its sum, with the CFG that the pipeline did by itself."""
    own = Guidance.from_dict(recording.settings["guidance"], parse)
    scale = recording.settings["guidance_scale"]
    return own if own.has_cfg or scale == 1 else own + CFG(scale)


def with_scale(recording: Recording, vary: Any, scale: float) -> Guidance:
    """A recording's own guidance with another scale for one of its terms.

    Args:
        vary: as `varied` returns it.

    Raises:
        GuidanceError: the term stands there twice, or the scale is none that it can have.
    """
    own = own_guidance(recording)
    spec = recording.weak.get(vary)
    mine = [t for t in own.terms if not isinstance(t, Probe) and _points_from(t, spec)]
    if len(mine) > 1:
        raise GuidanceError(f"{' and '.join(map(str, mine))} both turn {vary}: a sweep needs one scale to change.")
    if mine:
        terms = tuple(replace(t, scale=scale) if t is mine[0] else t for t in own.terms)
    else:
        new = CFG(scale) if spec is None else STG(scale, _model(own, spec))
        terms = (*(t for t in own.terms if not (isinstance(t, Probe) and _points_from(t, spec))), new)
    return replace(own, terms=terms, restarts=None)


def varied(recording: Recording, vary: Any) -> str:
    """The branch whose scale is to change: "uncond" for CFG, or a weak model's.

    Args:
        vary: "CFG", a recorded branch, a weak model, or None where only one comes into question.

    Raises:
        CallError: it was not recorded, or several come into question.
    """
    weak = recording.weak
    choices = ([CFG_NAME] if UNCOND in recording.branches else []) + list(weak)
    if vary is None:
        own = own_guidance(recording)
        acting = [b for b, spec in weak.items() if any(_points_from(t, spec) and _acts(t) for t in own.terms)]
        found = acting if len(acting) == 1 else list(weak) or choices
        if len(found) != 1:
            said = ", ".join(repr(name) for name in choices) or "nothing: it has no branch but the conditional one"
            raise CallError(f"which scale shall change? Say vary=... with one of {said}.")
        vary = found[0]
    by_spec = {spec: branch for branch, spec in weak.items()}
    name = by_spec.get(str(vary), str(vary))
    if name not in choices and name != UNCOND:
        raise CallError(
            f"vary={vary!r} was not recorded.{did_you_mean(name, choices)} This recording has: {', '.join(choices)}."
        )
    return UNCOND if name == CFG_NAME else name


def method(branch: str) -> str:
    """What turns a branch's vector: CFG or STG."""
    return CFG_NAME if branch == UNCOND else STG_NAME


def recorded_scale(recording: Recording, branch: str) -> float | None:
    """The scale that a branch's vector was sampled with; None where it was no single number."""
    own = own_guidance(recording)
    mine = [t for t in own.terms if _points_from(t, recording.weak.get(branch))]
    if not mine:
        return 1.0 if branch == UNCOND else None
    return mine[0].scale if len(mine) == 1 and isinstance(mine[0].scale, int | float) else None


def labels_of(recordings: Sequence[Recording]) -> list[str]:
    """A label a run: the one scale in which they differ, else each one's whole guidance."""
    scales = [_scales(r) for r in recordings]
    keys = list(dict.fromkeys(key for one in scales for key in one))
    off = {key: 1.0 if key.startswith("CFG") else 0.0 for key in keys}
    differ = [key for key in keys if len({one.get(key, off[key]) for one in scales}) > 1]
    if len(differ) != 1 or len({one.get(differ[0], off[differ[0]]) for one in scales}) < len(scales):
        return [r.settings["guidance_text"] for r in recordings]
    return [f"{differ[0].split()[0]} {one.get(differ[0], off[differ[0]]):g}" for one in scales]


def _scales(recording: Recording) -> dict[str, float]:
    """Scale of each term by what the term is otherwise; lists of scales count as what the term is."""
    found: dict[str, float] = {}
    given = own_guidance(recording).to_dict()
    rest = {name: value for name, value in given.items() if name != "terms"}
    for term in given["terms"]:
        kind = STG_NAME if term["method"] == "Probe" else term["method"]
        scale = term["scale"] if isinstance(term["scale"], int | float) else None
        others = {k: v for k, v in term.items() if k not in ("method", "scale") or (k == "scale" and scale is None)}
        found[f"{kind} {others}"] = 0.0 if scale is None else float(scale)
    return found | ({f"other {rest}": 1.0} if any(rest.values()) else {})


def _points_from(term: Term, spec: str | None) -> bool:
    return isinstance(term, CFG) if spec is None else term.weak_model is not None and str(term.weak_model) == spec


def _acts(term: Term) -> bool:
    return not isinstance(term, Probe) and not term.never


def _model(own: Guidance, spec: str) -> Any:
    known = {str(t.weak_model): t.weak_model for t in own.terms if t.weak_model is not None}
    return known[spec] if spec in known else parse(spec)
