"""Makes the parts of the documentation that come from code: `python docs/make.py` writes docs/weak_models.md and its figure.

Every cell of the table is a run: the weak model recorded for two steps on a tiny pipeline of that kind.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))  # the tiny pipelines of the tests

from kit.pipelines import randomise  # noqa: E402
from kit.zoo import Member, member  # noqa: E402

import stg_lab as lab  # noqa: E402

KINDS = {"full 3D": "wan", "joint text": "mochi", "factorised": "latte", "U-Net": "svd"}

#: What one types, and what other tools and papers call it.
MODELS: list[tuple[str, str]] = [
    (
        "lab.skip([1])",
        "STG-R; SLG (SD3.5, ComfyUI, Wan2GP, diffusers' SkipLayerGuidance); LTX-Video `transformer_block`",
    ),
    ("lab.skip([1], strength=0.5)", ""),
    ('lab.skip([1], part="attention")', "STG-A; PAG; LTX-Video `attention_values`; LTX-2's own STG"),
    ('lab.skip([1], part="attention_video")', ""),
    (
        'lab.skip([1], part="attention_diagonal")',
        "STG-A of the authors' first Mochi code; diffusers' joint PAG processor",
    ),
    ('lab.skip([1], part="attention", strength=0.5)', "SoftPAG"),
    ('lab.skip([1], part="attention", heads=[0])', "HeadHunter (its heads, chosen by you)"),
    ('lab.skip([1], part="attention", axis="spatial")', "spatial skip of eq. 20, SPAG (factorised models)"),
    ('lab.skip([1], part="attention", axis="temporal")', "temporal skip of eq. 20, TPAG (factorised models)"),
    ('lab.skip([1], part="attention_zero")', ""),
    ('lab.skip([1], part="cross_attention_zero")', ""),
    ('lab.skip([1], part="feedforward")', ""),
    ("lab.blur([1])", "SEG with infinite sigma"),
    ('lab.blur([1], sigma=1.0, axis="joint")', "SEG in 3-D"),
    ("lab.window([1], frames=0)", ""),
    ('lab.window([1], axis="spatial", reach=0)', "M-SWG (a window around every token)"),
    ("lab.temper([1], temperature=2)", "ERG, the half in the image model"),
    ("lab.ema([1], decay=0.9)", "EMAG (its layers, chosen by you)"),
    ("lab.swap([1])", "SSG"),
    ("lab.early_exit(1)", "Internal Guidance without its trained head"),
    ("lab.shuffle([1])", "TPG"),
    ('lab.shuffle([1], axis="temporal")', ""),
    ("lab.drop(1)", "S²-Guidance"),
    ('lab.checkpoint("path/to/earlier")', "Autoguidance"),
    ('lab.skip([1], prompt="negative")', "weak pass of conventions B (Wan SLG nodes) and C (authors' Wan pipeline)"),
]


def weak_model(text: str, one: Member) -> Any:
    """What a row types; the checkpoint is the same pipeline with other weights."""
    if "checkpoint" not in text:
        return eval(text, {"lab": lab})  # our own rows
    other = member(one.name)
    name = "unet" if hasattr(other.pipe, "unet") else "transformer"
    randomise(getattr(other.pipe, name), seed=7)
    return lab.checkpoint(other.pipe)


def cell(text: str, one: Member, note: Callable[[str], int]) -> str:
    """Whether a weak model runs on a tiny pipeline: yes, or the number of the note that says why not."""
    try:
        with lab.attach(one.pipe, guidance=lab.Probe(weak_model(text, one)), record=True):
            one.stock(num_inference_steps=2)
    except lab.GuidanceError as error:
        return f"– [{note(str(error).splitlines()[0])}]"
    return "✓"


def table() -> str:
    """The table and its notes as markdown."""
    notes: list[str] = []

    def note(text: str) -> int:
        if text not in notes:
            notes.append(text)
        return notes.index(text) + 1

    members = {kind: member(name) for kind, name in KINDS.items()}
    head = f"| weak model | {' | '.join(KINDS)} | known as |\n|---|{'---|' * len(KINDS)}---|"
    rows = [
        f"| `{text}` | {' | '.join(cell(text, one, note) for one in members.values())} | {known} |"
        for text, known in MODELS
    ]
    return "\n".join([head, *rows, "", *(f"{i}. {text}" for i, text in enumerate(notes, 1))])


PAGE = """# Weak models

A guidance vector points from a weak model's prediction to the conditional one. This page is written by `docs/make.py`: every
✓ is a run of that weak model on a tiny stock pipeline of that kind, every – the message that the lab gives there.

The kinds: **full 3D** is one attention over all video tokens with text apart (Wan); **joint text** is one attention over video
and text (Mochi, CogVideoX, HunyuanVideo); **factorised** is a block for space and one for time (Latte, Open-Sora); **U-Net** is the same
with convolutions and levels (Stable Video Diffusion).

{table}

![One-step predictions of nine branches of one run, and the guidance vectors]({figure})

*One step of one run of `digits-joint` (seed 0): every branch was recorded at every step, only the first weak model acted.
Spatial and temporal skips restrict the attention of blocks 3 to 5 to a token's own position, or its own frame.*
"""


def figure() -> None:
    """Eight weak models in one run of the embedded model."""
    pipe = lab.load("digits-joint")
    pipe.set_progress_bar_config(disable=True)
    middle = [3, 4, 5]
    guidance = lab.CFG(4) + lab.STG(1, lab.skip([4]))
    for weak in (
        lab.skip([4], part="attention"),
        lab.skip(middle, part="attention", axis="spatial"),
        lab.skip(middle, part="attention", axis="temporal"),
        lab.skip([4], part="feedforward"),
        lab.blur(middle),
        lab.shuffle([4], axis="temporal"),
        lab.drop(1, seed=1),
    ):
        guidance = guidance + lab.Probe(weak)
    run = lab.sample(pipe, guidance=guidance, seed=0, prompt="a red seven moving left", num_inference_steps=24)
    lab.figures.weak_models(run, step=8).savefig(HERE / "weak_models.png", dpi=150)


if __name__ == "__main__":
    figure()
    (HERE / "weak_models.md").write_text(PAGE.format(table=table(), figure="weak_models.png"), encoding="utf-8")
