"""Families from outside the package: what is checked before one is taken in, and the table of all."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stg_lab.errors import FamilyError, did_you_mean
from stg_lab.families.base import Family
from stg_lab.given import shown

#: Everything that a family may say it can skip, and the values that some of its attributes can have.
PARTS = (
    "block",
    "attention",
    "attention_video",
    "attention_diagonal",
    "attention_zero",
    "cross_attention_zero",
    "feedforward",
)
ALLOWED = {"axes": (("joint",), ("spatial", "temporal")), "text_tokens": ("none", "first", "last")}


def check_family(family: Any, known: Iterable[Family]) -> None:
    """Raise `FamilyError` for what is no whole family, or collides with one of those known.

    See `register_family`.
    """
    if isinstance(family, type) and issubclass(family, Family):
        raise FamilyError(
            f"{family.__name__} is a class; give an object of it: lab.register_family({family.__name__}())."
        )
    if not isinstance(family, Family):
        raise FamilyError(
            f"a family is an object of a class derived from stg_lab.families.Family, got {shown(family)}. "
            "docs/adding_a_family.md has a whole one."
        )
    kind = type(family).__name__
    if not isinstance(family.name, str) or not family.name:
        raise FamilyError(f'{kind} has no name. Say what people call it: name = "My model".')
    names = family.pipelines
    if not isinstance(names, tuple) or not names or not all(isinstance(n, str) and n.isidentifier() for n in names):
        raise FamilyError(f'{kind}.pipelines names pipeline classes, got {names!r}. Type pipelines = ("MyPipeline",).')
    _check_values(family, kind)
    _check_methods(family, kind)
    for other in known:
        taken = [name for name in names if name in other.pipelines]
        if taken or other.name == family.name:
            what = f"pipelines of {', '.join(taken)}" if taken else f"the name {family.name!r}"
            raise FamilyError(
                f"{what} belong{'' if taken else 's'} to the family {other.name} already. To put yours in its place: "
                f"lab.register_family({kind}(), replace=True)."
            )


def _check_values(family: Family, kind: str) -> None:
    if not isinstance(family.parts, tuple) or not family.parts:
        raise FamilyError(f'{kind}.parts is a tuple of what can be skipped, got {family.parts!r}: parts = ("block",).')
    for part in family.parts:
        if part not in PARTS:
            raise FamilyError(
                f"{kind}.parts has {part!r}, which the lab cannot skip.{did_you_mean(str(part), PARTS)} It knows: {', '.join(PARTS)}."
            )
    for name, allowed in ALLOWED.items():
        if getattr(family, name) not in allowed:
            raise FamilyError(
                f"{kind}.{name} is {getattr(family, name)!r}; it can be one of: {', '.join(map(repr, allowed))}."
            )
    joint = [part for part in ("attention_video", "attention_diagonal") if part in family.parts]
    if joint and family.text_tokens == "none":
        raise FamilyError(
            f"{kind} says that its self-attention has no text, and offers {joint[0]!r}, which is about text there. Say where "
            'text lies, text_tokens = "first" or "last", or leave the part out.'
        )


def _check_methods(family: Family, kind: str) -> None:
    def given(name: str) -> bool:
        return getattr(type(family), name) is not getattr(Family, name)

    if not given("blocks"):
        raise FamilyError(
            f"{kind} does not say which its blocks are. Define blocks(self, denoiser): the residual blocks, in running order."
        )
    if family.axes != ("joint",) and not given("layers"):
        raise FamilyError(
            f"{kind} has blocks for space and for time, but does not say which belong together. Define layers(self, denoiser): "
            'a list of {"spatial": block, "temporal": block}.'
        )
    if family.parts != ("block",) and not given("sublayers"):
        raise FamilyError(
            f"{kind} offers {', '.join(p for p in family.parts if p != 'block')}, but does not say where those are. Define "
            'sublayers(self, block, part), or offer blocks alone: parts = ("block",).'
        )


def tested(family: Family) -> str:
    """What the package's own tests found on tiny pipelines of a family; they wrote it down in tested.json."""
    found = [row for row in outcomes() if row["pipeline"] in family.pipelines]
    if not found:
        return "not by the lab"
    said: dict[str, list[str]] = {}
    for row in found:
        for cell, outcome in row.items():
            if cell != "pipeline":
                said.setdefault(cell, []).append(outcome)
    works = [cell for cell, given in said.items() if set(given) == {"yes"}]
    why = {cell: next(one for one in given if one != "yes") for cell, given in said.items() if cell not in works}
    return ", ".join(works) + "".join(f"; not {cell}: {reason}" for cell, reason in why.items())


def outcomes() -> list[dict[str, str]]:
    """What the tests of the families found: a row for each tiny pipeline."""
    file = Path(__file__).with_name("tested.json")
    return list(json.loads(file.read_text(encoding="utf-8")).values()) if file.is_file() else []


@dataclass(frozen=True)
class FamilyTable:
    """All families as rows of (name, pipelines, axes, parts, CFG). `str()` gives text; Jupyter shows a table."""

    rows: tuple[tuple[str, ...], ...]

    columns = ("family", "pipelines", "attention is", "can be skipped", "classifier-free guidance", "tested")

    @classmethod
    def of(cls, families: Sequence[Family]) -> FamilyTable:
        return cls(
            tuple(
                (f.name, ", ".join(f.pipelines), " and ".join(f.axes), ", ".join(f.parts), f.cfg_form, tested(f))
                for f in families
            )
        )

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def count(self) -> str:
        """How many classes the families serve, and how many of them the tests ran on."""
        names = {name for row in self.rows for name in row[1].split(", ")}
        ran = names & {row["pipeline"] for row in outcomes()}
        return f"{len(self)} families of {len(names)} pipeline classes; tests ran on {len(ran)} of them"

    def __str__(self) -> str:
        width = max(map(len, self.columns))
        told = [
            "\n".join(
                [row[0], *(f"  {n:<{width}}  {value}" for n, value in zip(self.columns[1:], row[1:], strict=True))]
            )
            for row in self.rows
        ]
        return "\n".join([*told, self.count])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        # Inline styles only: they are all that an untrusted notebook keeps.
        cell = 'style="text-align:left;padding:2px 12px 2px 0;vertical-align:top"'
        head = "".join(f"<th {cell}>{html.escape(name)}</th>" for name in self.columns)
        body = "".join(f"<tr>{''.join(f'<td {cell}>{html.escape(v)}</td>' for v in row)}</tr>" for row in self.rows)
        return f"<table><tr>{head}</tr>{body}</table><p>{self.count}</p>"
