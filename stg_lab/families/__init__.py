"""Model families: what the two seams must know of a pipeline, one file a family.

Adding a family is one file here and one row in `FAMILIES`; `register_family` adds one from outside. The package is also a
function: `lab.families()` is the table of all.
"""

from __future__ import annotations

import os
import sys
import types
import warnings
import weakref
from typing import Any

from stg_lab.errors import UnsupportedPipelineError
from stg_lab.families.allegro import Allegro
from stg_lab.families.animatediff import AnimateDiff, AnimateDiffVideo
from stg_lab.families.base import Family, Grid
from stg_lab.families.cogvideox import CogVideoX, CogVideoXControl, CogVideoXImage, CogVideoXVideo
from stg_lab.families.cosmos import Cosmos, Cosmos2, Cosmos25, CosmosVideo
from stg_lab.families.denoisers import DENOISERS
from stg_lab.families.describe import Description, describe
from stg_lab.families.flux import Chroma, Flux
from stg_lab.families.flux2 import Flux2, Flux2Klein
from stg_lab.families.generic import ADVICE, Generic, can_be_found_out
from stg_lab.families.hunyuan import (
    FramePack,
    HunyuanSkyReels,
    HunyuanVideo,
    HunyuanVideo15,
    HunyuanVideo15Image,
    HunyuanVideoImage,
)
from stg_lab.families.kandinsky import Kandinsky5, Kandinsky5Image
from stg_lab.families.latte import Latte
from stg_lab.families.ltx import LTX, LTXCondition, LTXImage
from stg_lab.families.ltx2 import LTX2, LTX2Condition, LTX2Image
from stg_lab.families.mochi import Mochi
from stg_lab.families.modular import ModularHunyuanVideo15, ModularLTX, ModularWan
from stg_lab.families.motif import Motif
from stg_lab.families.opensora import OpenSora
from stg_lab.families.qwen import QwenImage
from stg_lab.families.refused import REFUSED
from stg_lab.families.registry import FamilyTable, check_family
from stg_lab.families.sana import SanaImage, SanaVideo
from stg_lab.families.sd3 import StableDiffusion3
from stg_lab.families.skyreels import DiffusionForcing, SkyReelsV2, SkyReelsV2Image
from stg_lab.families.svd import StableVideoDiffusion
from stg_lab.families.wan import Wan, WanAnimate, WanEdit, WanImage, WanVACE, WanVideo

FAMILIES: tuple[Family, ...] = (
    Wan(),
    WanImage(),
    WanVideo(),
    WanVACE(),
    WanAnimate(),
    WanEdit(),
    Mochi(),
    CogVideoX(),
    CogVideoXImage(),
    CogVideoXVideo(),
    CogVideoXControl(),
    Latte(),
    OpenSora(),
    StableVideoDiffusion(),
    AnimateDiff(),
    AnimateDiffVideo(),
    LTX(),
    LTXImage(),
    LTXCondition(),
    LTX2(),
    LTX2Image(),
    LTX2Condition(),
    HunyuanVideo(),
    HunyuanVideoImage(),
    FramePack(),
    HunyuanSkyReels(),
    HunyuanVideo15(),
    HunyuanVideo15Image(),
    Motif(),
    SkyReelsV2(),
    SkyReelsV2Image(),
    DiffusionForcing(),
    Allegro(),
    Kandinsky5(),
    Kandinsky5Image(),
    SanaVideo(),
    SanaImage(),
    Cosmos(),
    CosmosVideo(),
    Cosmos2(),
    Cosmos25(),
    ModularWan(),
    ModularLTX(),
    ModularHunyuanVideo15(),
    Flux(),
    Chroma(),
    Flux2(),
    Flux2Klein(),
    QwenImage(),
    StableDiffusion3(),
)

__all__ = [
    "FAMILIES",
    "Description",
    "Family",
    "FamilyTable",
    "Grid",
    "describe_pipeline",
    "family_of",
    "family_of_denoiser",
    "register_family",
]

#: Families from outside, the latest first.
_registered: list[Family] = []
#: What was found out about pipelines of no family.
_found_out: weakref.WeakKeyDictionary[Any, Generic] = weakref.WeakKeyDictionary()


def _known() -> tuple[Family, ...]:
    """All families, those from outside first; a name is known once."""
    return tuple({family.name: family for family in (*FAMILIES[::-1], *_registered[::-1])}.values())[::-1]


def family_of(pipe: Any) -> Family:
    """The family of a pipeline object, found by its class or the nearest of its bases; else one made by looking at it.

    Raises:
        UnsupportedPipelineError: no family knows it, and it has no denoiser to look at or a scheduler whose x0 is not known.
    """
    known = _known()
    for base in type(pipe).__mro__:
        for family in known:
            if base.__name__ in family.pipelines:
                return family
    kind = type(pipe).__name__
    _check_kind(pipe)
    if reason := next((REFUSED[base.__name__] for base in type(pipe).__mro__ if base.__name__ in REFUSED), ""):
        raise UnsupportedPipelineError(f"{kind} cannot be guided: {reason}.")
    if not can_be_found_out(pipe):
        raise UnsupportedPipelineError(
            f"{kind} is of no family that the lab knows; lab.families() lists them. "
            f"Load one of those, for example pipe = lab.load('digits-joint'). {ADVICE}"
        )
    if pipe not in _found_out:
        _found_out[pipe] = Generic(pipe)
        warnings.warn(
            f"{kind} is of no family that the lab knows. The lab takes its longest list of blocks for the layers, tells branches "
            "apart by batch and order, and checks at the first step that CFG rebuilt from them is what the pipeline steps with. "
            f"Nothing can be done by place, and the lab cannot decode. {ADVICE}",
            stacklevel=3,
        )
    return _found_out[pipe]


def family_of_denoiser(denoiser: Any) -> Family:
    """The family of a denoiser by its class, where no pipeline is at hand.

    Raises:
        UnsupportedPipelineError: it is of none.
    """
    denoiser = getattr(denoiser, "_orig_mod", denoiser)
    named = next((DENOISERS[base.__name__] for base in type(denoiser).__mro__ if base.__name__ in DENOISERS), None)
    for family in _known():
        if family.name == named:
            return family
    raise UnsupportedPipelineError(
        f"{type(denoiser).__name__} is no denoiser that the lab knows by its class ({', '.join(DENOISERS)}). With a pipeline at "
        "hand use lab.attach."
    )


def _check_kind(pipe: Any) -> None:
    """Say of what is no pipeline, or not of the kind that the lab serves, what it is."""
    kinds = {base.__name__ for base in type(pipe).__mro__}
    kind = type(pipe).__name__
    if isinstance(pipe, str | os.PathLike):
        raise UnsupportedPipelineError(
            f"{str(pipe)!r} is a name, not a pipeline. Load it first: pipe = lab.load({str(pipe)!r})."
        )
    if isinstance(pipe, type):
        raise UnsupportedPipelineError(
            f"{pipe.__name__} is a class. Give a pipeline object, for example {pipe.__name__}.from_pretrained(...) or lab.load(...)."
        )
    if "ModularPipeline" in kinds or "ModularPipelineBlocks" in kinds:
        raise UnsupportedPipelineError(
            f"{kind} is a modular pipeline of diffusers that the lab does not attach to; it does to those of Wan, LTX and HunyuanVideo 1.5. "
            "Where it has a guider, give it the lab's sum: pipe.update_components(guider=lab.guider(guidance)). Or make a pipeline of the "
            f"same components{_same_model(kind)}."
        )
    if "Module" in kinds and hasattr(pipe, "forward"):
        raise UnsupportedPipelineError(
            f"{kind} is a model. The lab needs the pipeline that calls it, with its scheduler."
        )


def _same_model(kind: str) -> str:
    """What to type instead of a modular pipeline, where diffusers has its like under the usual name."""
    import diffusers

    name = f"{kind.removesuffix('ModularPipeline')}Pipeline"
    return (
        f": diffusers.{name}(**modular.components)"
        if kind.endswith("ModularPipeline") and hasattr(diffusers, name)
        else ""
    )


def register_family(family: Family, *, replace: bool = False) -> None:
    """Make the lab know a family from outside: pipelines of its classes, and of classes derived from them, are its own.

    Args:
        family: an object of a class derived from `stg_lab.families.Family`; docs/adding_a_family.md has a whole one.
        replace: put it in the place of families that know its pipelines or have its name. Running a notebook cell twice
            needs it.

    Raises:
        FamilyError: something is missing or impossible in it, or its pipelines or its name belong to another family.
    """
    check_family(family, () if replace else _known())
    _registered[:] = [family, *(other for other in _registered if other.name != family.name)]


class _Package(types.ModuleType):
    def __call__(self) -> FamilyTable:
        """All families: their pipelines, the axes of their layers, what can be skipped, and how they run CFG."""
        return FamilyTable.of(_known())


sys.modules[__name__].__class__ = _Package


def describe_pipeline(pipe: Any) -> Description:
    """What a pipeline is and what can be skipped in it: family, layers, parts, axes, CFG form, latent layout.

    Prints well in a terminal and shows as a table in Jupyter.

    Raises:
        UnsupportedPipelineError: no family knows it.
    """
    return describe(family_of(pipe), pipe)
