"""What a pipeline is, in words and as a table."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stg_lab.families.base import Family
from stg_lab.families.call_sizes import factors
from stg_lab.families.digits_codec import has_pixel_codec


@dataclass(frozen=True)
class Description:
    """Facts about one pipeline, as rows of (what, value). `str()` gives text; Jupyter shows a table."""

    title: str
    rows: tuple[tuple[str, str], ...]
    layers: dict[str, int]  # blocks by denoiser
    parts: tuple[str, ...]
    axes: tuple[str, ...]

    def __str__(self) -> str:
        width = max(len(name) for name, _ in self.rows)
        return "\n".join([self.title, *(f"  {name:<{width}}  {value}" for name, value in self.rows)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        # Inline styles only: they are all that an untrusted notebook keeps.
        cell = 'style="text-align:left;padding:2px 12px 2px 0;vertical-align:top"'
        rows = "".join(
            f"<tr><th {cell}>{html.escape(name)}</th><td {cell}>{html.escape(value)}</td></tr>"
            for name, value in self.rows
        )
        return f"<div><b>{html.escape(self.title)}</b><table>{rows}</table></div>"


def describe(family: Family, pipe: Any) -> Description:
    """Collect the facts about a pipeline of a known family."""
    denoisers = family.denoisers(pipe)
    layers = {name: len(family.layers(module)) for name, module in denoisers.items()}
    parts = _reached(family, denoisers)
    scheduler = pipe.scheduler
    kind = type(pipe)
    origin = "stock diffusers" if kind.__module__.startswith("diffusers.") else kind.__module__.rpartition(".")[0]
    rows = [("family", f"{family.name} ({kind.__name__}, {origin})")]
    what = "blocks" if family.axes == ("joint",) else "layers of a spatial and a temporal block"
    for name, module in denoisers.items():
        size = sum(p.numel() for p in module.parameters()) / 1e6
        rows.append(
            (
                name,
                f"{type(module).__name__}, {layers[name]} {what}{_numbers(layers[name])}, {size:,.1f} M parameters",
            )
        )
    rows += [
        ("can be skipped", (", ".join(parts) or "nothing by layer") + f"; attention is {' and '.join(family.axes)}"),
        ("guidance", family.cfg_form),
        ("latents", f"({family.layout})"),
        ("scheduler", f"{type(scheduler).__name__}, {scheduler.config.num_train_timesteps} training timesteps"),
    ]
    if getattr(pipe, "vae", None) is not None:
        exact = ", lossless" if has_pixel_codec(pipe) else ""
        rows.append(("decoder", f"{type(pipe.vae).__name__}{_factors(pipe)}{exact}"))
    defaults = family.defaults(pipe)
    if defaults:
        rows.append(("made for", ", ".join(f"{k}={v}" for k, v in defaults.items())))
    if has_pixel_codec(pipe):
        given = ("captions", "a COLOUR DIGIT MOTION, for example 'a red seven moving left'")
        rows.append(given if hasattr(pipe, "tokenizer") else ("pictures", "first frames of the digits world"))
    elif family.sources:
        rows.append(("settings in use", family.sources))
    rows += family.notes(pipe).items()
    return Description(f"{family.name} pipeline", tuple(rows), layers, parts, family.axes)


def _reached(family: Family, denoisers: Mapping[str, Any]) -> tuple[str, ...]:
    """The family's parts that some layer of these denoisers has."""
    blocks = [b for module in denoisers.values() for layer in family.layers(module) for b in layer.values()]

    def has(block: Any, part: str) -> bool:
        kind = next(k for k in ("cross_attention", "attention", "feedforward") if part.startswith(k))
        return any(module is not None for module in family.sublayers(block, kind))

    return tuple(part for part in family.parts if any(part == "block" or has(block, part) for block in blocks))


def _numbers(count: int) -> str:
    return f" (0 to {count - 1})" if count else ""


def _factors(pipe: Any) -> str:
    """How much smaller latents are than pixels, in words."""
    found = dict(zip(("space", "time"), factors(pipe), strict=True))
    said = [f"{factor} in {where}" for where, factor in found.items() if factor is not None]
    return f", factors {', '.join(said)}" if said else ""
