"""Which layers and which part of them a `LayerSkipConfig` of diffusers skips, and the way back.

diffusers names a list of blocks by its attribute ("fully qualified name"), the lab numbers layers as the model runs them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from stg_lab.errors import GuidanceError
from stg_lab.interop.windows import Where
from stg_lab.weak.skip import Skip

#: (skip_attention, skip_attention_scores, skip_ff) -> part of a skip.
PARTS = {(True, False, True): "block", (False, True, False): "attention"}

#: The same for what diffusers does not do as it says, with what to type instead.
INSTEAD = {
    (True, False, False): "attention_zero",
    (False, False, True): "feedforward",
    (False, True, True): "feedforward",
}


@dataclass(frozen=True)
class Blocks:
    """Where a list of blocks lies among the layers of a model.

    Attributes:
        axis: of the blocks.
        first: the layer of the first block.
        count: how many there are; None where the model is not known.
    """

    axis: str = "joint"
    first: int = 0
    count: int | None = None

    def layers(self, indices: Iterable[int], name: str) -> tuple[int, ...]:
        """The layers of blocks given by their place in the list.

        Raises:
            GuidanceError: the list is not as long.
        """
        outside = [i for i in indices if self.count is not None and i >= self.count]
        if outside:
            raise GuidanceError(
                f"{name} has {self.count} blocks, 0 to {(self.count or 0) - 1}; there is no {outside[0]}."
            )
        return tuple(self.first + i for i in indices)

    def indices(self, layers: Iterable[int]) -> list[int]:
        """The places in the list of those of the layers that it holds."""
        return [n - self.first for n in layers if self.first <= n < self.first + (self.count or 0)]


def skipped(configs: Iterable[Any], where: Where, *, prompt: str = "caption") -> Skip:
    """The weak model that a list of `LayerSkipConfig` makes.

    Args:
        configs: as the guider keeps them; `indices` may be one number, as the guiders' own shortcuts leave it.
        where: with a pipeline, names of block lists are looked up in it.
        prompt: what the weak pass carries.

    Raises:
        GuidanceError: nothing would be skipped, only the attention or only the feed-forward (diffusers returns their input then,
            which is no skip), a random share of the values, or a list of blocks that is not one of the model's layers.
    """
    configs = list(configs)
    if not configs:
        raise GuidanceError("this guider's list of layer configurations is empty, so nothing would be skipped.")
    by_axis: dict[str, set[int]] = {}
    parts: set[str] = set()
    for config in configs:
        blocks = blocks_of(config.fqn, where.pipe)
        weak = Skip(config.indices, part=part_of(config), axis=blocks.axis)
        weak = replace(weak, layers=blocks.layers(weak.layers, config.fqn))
        parts.add(weak.part)
        by_axis.setdefault(weak.axis, set()).update(weak.layers)
    if len(parts) > 1:
        raise GuidanceError(
            "these layer configurations skip whole blocks in some layers and attention in others, all in one weak pass, which the "
            "lab does not have. Make two terms, lab.STG(1, lab.skip([5])) + lab.STG(1, lab.skip([8], part='attention'))."
        )
    axes = list(by_axis)
    if len(axes) > 1 and (set(axes) != {"spatial", "temporal"} or by_axis["spatial"] != by_axis["temporal"]):
        raise GuidanceError(
            f"these layer configurations skip other layers along each of {', '.join(axes)}, all in one weak pass, which the lab "
            "does not have. Make a term for each."
        )
    axis = axes[0] if len(axes) == 1 else "joint"
    return Skip(tuple(by_axis[axes[0]]), part=parts.pop(), axis=axis, prompt=prompt)


def part_of(config: Any) -> str:
    """The part of a skip that one configuration means.

    Raises:
        GuidanceError: it means none, or diffusers does something else than it says.
    """
    flags = (bool(config.skip_attention), bool(config.skip_attention_scores), bool(config.skip_ff))
    said = "skip_attention={}, skip_attention_scores={}, skip_ff={}".format(*flags)
    if config.dropout != 1:
        raise GuidanceError(
            f"LayerSkipConfig(dropout={config.dropout}) drops single values of the layers' output at random, which is no skip. For "
            f"a skip that goes part of the way type {Skip(config.indices, strength=config.dropout or 1)!r}."
        )
    if flags in PARTS:
        return PARTS[flags]
    if flags in INSTEAD:
        raise GuidanceError(
            f"LayerSkipConfig({said}): diffusers lets a skipped sub-layer return its own input, so that the block adds "
            "gate * norm(h) instead of nothing. For a sub-layer that adds nothing type "
            f"{Skip(config.indices, part=INSTEAD[flags])!r}."
        )
    why = "skips nothing" if not any(flags) else "is refused by diffusers too: it says attention in two ways"
    raise GuidanceError(
        f"LayerSkipConfig({said}) {why}. Type {Skip(config.indices)!r} for whole blocks or "
        f"{Skip(config.indices, part='attention')!r}."
    )


def blocks_of(fqn: str, pipe: Any) -> Blocks:
    """Where the named list of blocks lies among the model's layers.

    Without a pipeline "auto" and "blocks" are the model's layers as the lab counts them, and "temporal_transformer_blocks" is the
    temporal half of a factorised model (Latte); "transformer_blocks" is all layers of some models and a part of others.

    Raises:
        GuidanceError: the name is none of the model's, or "auto" could mean several, or the pipeline must be known.
    """
    if pipe is None:
        known = {"auto": "joint", "blocks": "joint", "temporal_transformer_blocks": "temporal"}
        if fqn in known:
            return Blocks(known[fqn])
        raise GuidanceError(
            f"fqn={fqn!r} is a list of blocks whose place among the layers depends on the model. Say which: "
            "lab.from_guider(guider, steps=24, pipe=pipe)."
        )
    lists = block_lists(pipe)
    if fqn == "auto":
        return _only(lists, type(pipe).__name__)
    if fqn not in lists:
        raise GuidanceError(
            f"fqn={fqn!r} is no list of the layers of {type(pipe).__name__}. It has: {', '.join(lists) or 'none'}."
        )
    return lists[fqn]


def _only(lists: dict[str, Blocks], model: str) -> Blocks:
    """The list that diffusers finds by itself."""
    found = [name for name in lists if "." not in name]
    if len(found) == 1:
        return lists[found[0]]
    if found:
        raise GuidanceError(
            f"fqn='auto': {model} has {' and '.join(found)}, of which diffusers takes the one that a set happens to give first. "
            "Name one, or type lab.STG(scale, lab.skip([5]))."
        )
    raise GuidanceError(
        f"fqn='auto': {model} has no list of transformer blocks that diffusers would find. Type lab.STG(scale, lab.skip([5]))."
    )


def block_lists(pipe: Any) -> dict[str, Blocks]:
    """The lists of a pipeline's denoiser that hold blocks of its layers, by their names in it."""
    from stg_lab.families import family_of  # late: settings are read and written without torch

    family = family_of(pipe)
    denoiser = next(iter(family.denoisers(pipe).values()))
    layers = family.layers(denoiser)
    found = {}
    for name, module in denoiser.named_modules():
        held = list(module) if type(module).__name__ == "ModuleList" else []
        for axis in ("joint", "spatial", "temporal") if held else ():
            blocks = [layer.get(axis) for layer in layers]
            first = next((i for i, block in enumerate(blocks) if block is held[0]), None)
            if first is not None and blocks[first : first + len(held)] == held:
                found[name] = Blocks(axis, first, len(held))
    return found


def configured(weak: Skip, pipe: Any) -> list[dict[str, Any]]:
    """The arguments of the `LayerSkipConfig`s for a skip of blocks or of attention.

    Raises:
        GuidanceError: the axis needs the pipeline, or not all of the layers are in its lists of blocks.
    """
    flags = next(flags for flags, part in PARTS.items() if part == weak.part)
    named = dict(zip(("skip_attention", "skip_attention_scores", "skip_ff"), flags, strict=True))
    if pipe is None:
        if weak.axis == "joint":
            return [{"indices": list(weak.layers), "fqn": "auto", **named}]
        raise GuidanceError(
            f"{weak}: along which list of blocks that is depends on the model. Say which: lab.export(..., pipe=pipe)."
        )
    lists = {name: b for name, b in block_lists(pipe).items() if weak.axis in ("joint", b.axis)}
    held = {name: b.indices(weak.layers) for name, b in lists.items()}
    missing = set(weak.layers) - {n for name, b in lists.items() for n in b.layers(held[name], name)}
    if missing:
        raise GuidanceError(
            f"{weak}: {type(pipe).__name__} has no list of blocks for diffusers that holds layer {min(missing)} along this axis. "
            f"It has: {', '.join(f'{name} ({b.count} blocks)' for name, b in lists.items()) or 'none'}."
        )
    return [{"indices": indices, "fqn": name, **named} for name, indices in held.items() if indices]
