"""Weak passes, whole and begun late: every prediction of a run, and whether two runs made the same."""

import torch
from torch import nn

import stg_lab as lab

from .watch import denoisers

BATCH, OWN = lab.Passes(rows="batch"), lab.Passes(rows="own")
WHOLE_BATCH, WHOLE_OWN = lab.Passes(rows="batch", reuse=False), lab.Passes(rows="own", reuse=False)
SKIP_2, ATTENTION_1, FIRST = lab.skip([2]), lab.skip([1], part="attention"), lab.skip([0], part="feedforward")
#: How much of a prediction may be rounding where batches differ.
ROUNDING = 1e-5


def probes(*models):
    return sum((lab.Probe(model) for model in models), start=lab.Guidance())


def predicted(one, guidance, passes=None, **call):
    """All predictions that a run makes and steps with, one after the other, by branch."""
    found = {}
    with lab.attach(one.pipe, guidance=guidance, passes=passes) as trace:
        step = trace.on_step

        def note(given):
            guided = step(given)
            for name, prediction in {**trace.now.predictions, "guided": guided}.items():
                found.setdefault(name, []).append(prediction.clone(memory_format=torch.preserve_format))
            return guided

        trace.on_step = note
        one.stock(**{"num_inference_steps": 2, **call})
    return found


def denoiser(one):
    return denoisers(one.pipe)[0]


def equal(a, b):
    return matches(a, b, torch.equal)


def close(a, b, rounding=ROUNDING):
    return matches(a, b, lambda x, y: (x - y).norm() <= rounding * y.norm())


def matches(a, b, alike):
    return a.keys() == b.keys() and all(
        len(a[name]) == len(b[name]) and all(map(alike, a[name], b[name])) for name in a
    )


#: The lists of blocks, in running order; those of Latte and Open-Sora take turns.
BLOCKS = {
    "wan": ["blocks"],
    "mochi": ["transformer_blocks"],
    "hunyuan": ["transformer_blocks", "single_transformer_blocks"],
    "flux": ["transformer_blocks", "single_transformer_blocks"],
    "svd": ["down_blocks", "mid_block", "up_blocks"],
}


#: Those for space and those for time.
IN_TURNS = {
    "latte": ("transformer_blocks", "temporal_transformer_blocks"),
    "opensora": ("spatial_blocks", "temporal_blocks"),
}


def blocks(module, name):
    if name in IN_TURNS:
        space, time = (getattr(module, attribute) for attribute in IN_TURNS[name])
        return [block for pair in zip(space, time, strict=True) for block in pair]
    parts = [getattr(module, attribute) for attribute in BLOCKS[name]]
    return [block for part in parts for block in (part if isinstance(part, nn.ModuleList) else [part])]
