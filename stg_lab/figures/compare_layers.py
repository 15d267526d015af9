"""The same noise without each layer in turn: what skipping it is worth, with and without CFG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from stg_lab.families import family_of
from stg_lab.figures.film import Film, Strip, check_frames, draw
from stg_lab.figures.style import Width, inches
from stg_lab.given import Number, Text, Whole, takes
from stg_lab.guidance import CFG, STG, Guidance
from stg_lab.sampling import sample
from stg_lab.sampling.sweep_grid import skips
from stg_lab.sampling.values import check_names
from stg_lab.weak import Weak, described

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@takes(seed=Whole(0), scale=Number(), cfg=Number(1, above=True), part=Text(), frames=Whole(1))
def compare_layers(
    pipe: Any,
    *,
    seed: int = 0,
    scale: float = 1.0,
    cfg: float | None = 2.0,
    layers: Sequence[int] | None = None,
    part: str = "block",
    frames: int | None = None,
    width: Width = "page",
    **call: Any,
) -> Figure:
    """One seed, every layer: the finished videos of STG with each layer skipped in turn, without CFG and with it.

    One video a layer and column is sampled, and one of each column without STG, which stands first. One seed shows what can happen,
    not how often: `lab.search` counts.

    Args:
        pipe: the pipeline.
        seed: of every video.
        scale: of STG.
        cfg: CFG scale of the second column; None for the first column alone.
        layers: block numbers; None for all.
        part: what is skipped, as in `lab.skip`.
        frames: how many frames of each video; by default as many as stay large enough.
        width: "page", "column", or inches. No layer is left out at any width.
        **call: everything else goes to `pipe(...)` unchanged: the prompt, the number of steps.

    Returns:
        A matplotlib figure, for `lab.figures.save` and `lab.figures.animate`.

    Raises:
        CallError, GuidanceError: a layer or part that the model has not, CFG where it computes no unconditional prediction.

    >>> import stg_lab as lab
    >>> pipe = lab.load("digits-joint")
    >>> call = {"prompt": "a red nine standing still", "num_inference_steps": 2}
    >>> figure = lab.figures.compare_layers(pipe, seed=97, layers=[4, 5], **call)
    """
    inches(width)
    check_frames(frames)
    family = family_of(pipe)
    check_names(pipe, call, compare_layers)
    models = list(skips(pipe, family, layers, (part,), ("joint",)).of.values())
    columns = [None] if cfg is None else [None, cfg]
    rows = [(f"STG: {described(str(weak))}", weak) for weak in models]
    strips = [
        Strip(label, tuple(_video(pipe, weak, scale, one, seed, call) for one in columns))
        for label, weak in [("no STG", None), *rows]
    ]
    prompt = call.get("prompt")
    words = f"“{prompt}”, " if isinstance(prompt, str) else ""
    title = f"{words}seed {seed}, STG {scale:g}: finished videos from the same noise"
    heads = tuple("without CFG" if one is None else f"CFG {one:g}" for one in columns)
    return draw(Film(title, strips, heads), width, frames)


def _video(pipe: Any, weak: Weak | None, scale: float, cfg: float | None, seed: int, call: dict[str, Any]) -> Any:
    """`(frame, height, width, 3)` of the first sample."""
    guidance = Guidance((CFG(1.0 if cfg is None else cfg),))
    if weak is not None:
        guidance = guidance + STG(scale, weak)
    return sample(pipe, guidance=guidance, seed=seed, record=False, **call).video[0]
