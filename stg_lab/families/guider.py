"""What families share whose classifier-free guidance is done by a component, the guider."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stg_lab.errors import UnsupportedPipelineError
from stg_lab.families.base import Family


class Guider(Family):
    """CFG is done by `pipe.guider`, and so is its scale."""

    scale_argument = ""
    scale_name = "pipe.guider.guidance_scale"  # type: ignore[assignment]
    cfg_form = "two calls a step, conditional first, combined by pipe.guider with its own scale: u + scale (c - u)"

    def has_uncond(self, pipe: Any) -> bool:
        guider = pipe.guider
        if type(guider).__name__ != "ClassifierFreeGuidance" or (guider._start, guider._stop) != (0.0, 1.0):
            raise UnsupportedPipelineError(
                f"the pipeline's guider is {type(guider).__name__} from {guider._start:g} to {guider._stop:g} of the steps; the "
                "lab knows ClassifierFreeGuidance at all steps. Type pipe.guider = ClassifierFreeGuidance(guidance_scale=6.0) "
                "and leave windows and other guidance to the lab, for example lab.CFG(6, stop=0.5)."
            )
        return guider.num_conditions > 1

    def wants_uncond(self, pipe: Any, call: Mapping[str, Any]) -> bool:
        return self.has_uncond(pipe)

    def scale(self, pipe: Any, denoiser: str) -> float:
        return float(pipe.guider.guidance_scale) if self.has_uncond(pipe) else 1.0

    def how_to_scale(self, scale: str) -> str:
        return f"Type pipe.guider = pipe.guider.new(guidance_scale={scale})."

    def how_to_uncond(self) -> str:
        return "Type pipe.guider = pipe.guider.new(guidance_scale=6.0)."

    def beside_cfg(self, pipe: Any) -> str:
        on = [
            f"{name}={value}"
            for name in ("guidance_rescale", "use_original_formulation")
            if (value := getattr(pipe.guider, name))
        ]
        if not on:
            return ""
        return (
            f"{', '.join(on)}. Type pipe.guider = pipe.guider.new(guidance_rescale=0.0, use_original_formulation=False)"
        )
