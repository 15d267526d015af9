"""Modular pipelines: blocks call the denoiser and the scheduler, and the guider names the branches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from stg_lab.errors import UnsupportedPipelineError
from stg_lab.families.caller_frame import batch_name
from stg_lab.families.guider import Guider
from stg_lab.families.hunyuan import HunyuanVideo15
from stg_lab.families.ltx import LTX
from stg_lab.families.wan import Wan
from stg_lab.guidance import COND, UNCOND

NAMES = {"pred_cond": COND, "pred_uncond": UNCOND}


class Modular(Guider):
    """The same models, called by blocks. Guiders other than `ClassifierFreeGuidance` are recorded, each batch under their own name
    for it, and not guided beside."""

    batched = False
    cfg_form = "a call for each batch of pipe.guider, which names it and combines them: ClassifierFreeGuidance is u + scale (c - u)"

    def has_uncond(self, pipe: Any) -> bool:
        guider = pipe.guider
        if type(guider).__name__ == "ClassifierFreeGuidance":
            return super().has_uncond(pipe)
        return bool(guider.num_conditions > 1)

    def computed(
        self, pipe: Any, number: int, kwargs: Mapping[str, Any], prediction: Tensor, uncond: bool
    ) -> tuple[str, ...]:
        name = batch_name(pipe)
        if not name:
            raise UnsupportedPipelineError(
                f"{type(pipe).__name__} called its denoiser for no batch of its guider, so the lab cannot tell what is predicted."
            )
        return (_branch(name),)

    def later_branches(self, pipe: Any) -> tuple[str, ...]:
        return tuple(_branch(name) for name in pipe.guider._input_predictions)

    def scale(self, pipe: Any, denoiser: str) -> float:
        guider = getattr(pipe, "guider_2", None) if denoiser == "transformer_2" else None
        guider = pipe.guider if guider is None else guider
        return float(getattr(guider, "guidance_scale", 1.0)) if self.has_uncond(pipe) else 1.0

    def how_to_scale(self, scale: str) -> str:
        return f"Type pipe.update_components(guider=pipe.guider.new(guidance_scale={scale}))."

    def how_to_uncond(self) -> str:
        return self.how_to_scale("5.0")

    def beside_cfg(self, pipe: Any) -> str:
        if type(pipe.guider).__name__ != "ClassifierFreeGuidance":
            kind = type(pipe.guider).__name__
            return f"its guider is {kind}. Put a plain one there, ClassifierFreeGuidance(guidance_scale=5.0)"
        return super().beside_cfg(pipe)

    def latent_shape(self, pipe: Any, call: Mapping[str, Any]) -> tuple[int, ...] | None:
        """None where the call leaves something to the blocks, which fill it in as they run."""
        told = {"height", "width", "num_frames", "num_inference_steps"} <= {k for k, v in call.items() if v is not None}
        return super().latent_shape(pipe, call) if told else None


class ModularWan(Modular, Wan):
    """`WanModularPipeline`, and what is derived from it: image-to-video and Wan 2.2."""

    name = "Wan, modular"
    pipelines = ("WanModularPipeline",)


class ModularHunyuanVideo15(Modular, HunyuanVideo15):
    """`HunyuanVideo15ModularPipeline`."""

    name = "HunyuanVideo 1.5, modular"
    pipelines = ("HunyuanVideo15ModularPipeline",)


class ModularLTX(Modular, LTX):
    """`LTXModularPipeline`, and what is derived from it."""

    name = "LTX, modular"
    pipelines = ("LTXModularPipeline",)


def _branch(name: str) -> str:
    return NAMES.get(name, name.removeprefix("pred_"))
