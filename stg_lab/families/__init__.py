"""Model families: what the two seams must know of a pipeline, one file a family.

Adding a family is one file here and one row in `FAMILIES`.
"""

from __future__ import annotations

from typing import Any

from stg_lab.errors import UnsupportedPipelineError
from stg_lab.families.base import Family, Grid
from stg_lab.families.cogvideox import CogVideoX, CogVideoXImage
from stg_lab.families.describe import Description, describe
from stg_lab.families.flux import Flux
from stg_lab.families.hunyuan import HunyuanVideo, HunyuanVideo15
from stg_lab.families.latte import Latte
from stg_lab.families.ltx import LTX, LTXImage
from stg_lab.families.ltx2 import LTX2
from stg_lab.families.mochi import Mochi
from stg_lab.families.sd3 import StableDiffusion3
from stg_lab.families.svd import StableVideoDiffusion
from stg_lab.families.wan import Wan, WanImage

FAMILIES: tuple[Family, ...] = (
    Wan(),
    WanImage(),
    Mochi(),
    CogVideoX(),
    CogVideoXImage(),
    Latte(),
    StableVideoDiffusion(),
    LTX(),
    LTXImage(),
    LTX2(),
    HunyuanVideo(),
    HunyuanVideo15(),
    Flux(),
    StableDiffusion3(),
)

__all__ = ["FAMILIES", "Description", "Family", "Grid", "describe_pipeline", "family_of"]


def family_of(pipe: Any) -> Family:
    """The family of a pipeline object, found by its class or one of its bases.

    Raises:
        UnsupportedPipelineError: no family knows it.
    """
    names = [cls.__name__ for cls in type(pipe).__mro__]
    for family in FAMILIES:
        if any(name in family.pipelines for name in names):
            return family
    known = ", ".join(name for family in FAMILIES for name in family.pipelines)
    raise UnsupportedPipelineError(
        f"{type(pipe).__name__} is of no family that the lab knows ({known}). "
        "Load one of those, for example pipe = lab.load('digits-joint')."
    )


def describe_pipeline(pipe: Any) -> Description:
    """What a pipeline is and what can be skipped in it: family, layers, parts, axes, CFG form, latent layout.

    Prints well in a terminal and shows as a table in Jupyter.

    Raises:
        UnsupportedPipelineError: no family knows it.
    """
    return describe(family_of(pipe), pipe)
