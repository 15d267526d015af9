"""What is asked of the demo, checked before anything heavy is imported."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from stg_lab.digits.captions import CaptionError
from stg_lab.digits.captions import parse as read_caption
from stg_lab.errors import CallError, GuidanceError, RecordingExistsError
from stg_lab.guidance import CFG, STG, Guidance, as_guidance
from stg_lab.loading import check_name, folder_of
from stg_lab.weak import parse

if TYPE_CHECKING:
    from stg_lab.weak import Weak

STEPS, STG_SCALE, CFG_SCALE = 16, 1.0, 2.0  # with 16 steps and scale 1 the weak models of data/models were chosen
CAPTIONS = 8
ALONE, WITH_STG, WITH_CFG, BOTH = "No guidance", "STG", "CFG", "CFG + STG"  # the columns
RECORDINGS = ("run.zarr", "baseline.zarr", "stg.zarr")


@dataclass(frozen=True)
class Wanted:
    """What is asked of the demo.

    Attributes:
        out: folder to write into.
        model: embedded name, folder or repository id of a text-to-video pipeline.
        prompts: what to show, one video each; none for eight captions of the digits world, drawn with `seed`.
        steps: sampling steps.
        cfg, stg: scales.
        weak: specification of the weak model, such as "skip:block:4"; None for the one recommended for the model.
        seed: of the first video; video i has seed + i, in every column.
        overwrite: replace an earlier demo in `out`.

    Raises:
        LabError: one of them is wrong; see `__post_init__`.
    """

    out: Path
    model: str = "digits-joint"
    prompts: tuple[str, ...] = ()
    steps: int = STEPS
    cfg: float = CFG_SCALE
    stg: float = STG_SCALE
    weak: str | None = None
    seed: int = 0
    overwrite: bool = False
    given: Weak | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        """Tell what is wrong without torch or diffusers.

        Raises:
            GuidanceError: a scale with which a column would equal the one without guidance, or no weak model.
            ModelNotFoundError: no such model.
            CallError: a caption that the digits world cannot show, none where there is no such world, or a seed below 0.
            RecordingExistsError: `out` holds a demo already.
        """
        object.__setattr__(self, "given", None if self.weak is None else parse(self.weak))
        if CFG(self.cfg).never:
            raise GuidanceError("CFG 1 is no guidance: its column would show nothing new. Type for example --cfg 2.")
        if self.stg == 0:
            raise GuidanceError("STG 0 is no guidance: its column would show nothing new. Type for example --stg 1.")
        STG(self.stg, self.given or parse("skip:block:0"))
        if self.seed < 0:
            raise CallError(f"seeds are whole numbers from 0, got {self.seed}. Type for example --seed 0.")
        if not self.overwrite and any((self.out / name).exists() for name in RECORDINGS):
            raise RecordingExistsError(f"{self.out} already holds a demo. Add --overwrite, or choose another --out.")
        check_name(self.model)
        self._check_captions()

    def _check_captions(self) -> None:
        """Models of the digits world know their own captions alone, and others have none of them."""
        if not in_digits_world(self.model):
            if not self.prompts:
                raise CallError(
                    f"{self.model} is not of the digits world, so the demo has no captions for it. Say what to show: "
                    "--prompts 'a cat on a wall' 'a ship at sea'."
                )
            return
        for caption in self.prompts:
            try:
                read_caption(caption)
            except CaptionError as error:
                raise CallError(str(error)) from None

    @property
    def as_counted(self) -> bool:
        """Whether STG acts as it did when repaired videos were counted, but for the weak model."""
        return (self.steps, self.stg) == (STEPS, STG_SCALE)

    def guidances(self, weak: Weak) -> dict[str, Guidance]:
        """The guidance of each column, by its heading. CFG 1 is the pipeline's own way to say none."""
        cfg, stg = CFG(self.cfg), STG(self.stg, weak)
        return {ALONE: as_guidance(CFG(1)), WITH_STG: as_guidance(stg), WITH_CFG: as_guidance(cfg), BOTH: cfg + stg}


def in_digits_world(model: str) -> bool:
    """Whether an embedded or local model shows the digits world, by the codec in its VAE's place."""
    try:
        index = json.loads((folder_of(model) / "model_index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(index, dict) and (index.get("vae") or [None])[0] == "stg_lab.digits.codec"
