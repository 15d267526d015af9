"""Small stock pipelines with random weights, and plain calls of them that know nothing of the lab."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler, WanPipeline
from torch import nn

import stg_lab as lab
from stg_lab.digits.pipeline import Architecture, build_joint

PROMPT = "a red seven moving left"
SMALL = {"height": 16, "width": 16, "num_frames": 5, "max_sequence_length": 8}  # 3 x 4 x 4 tokens
TINY = Architecture(blocks=3, heads=2, head_dim=12, text_dim=16, text_layers=1)

FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}
SCHEDULERS = {
    "euler": lambda: FlowMatchEulerDiscreteScheduler(shift=3.0),
    "unipc": lambda: UniPCMultistepScheduler(**FLOW),  # as the published Wan checkpoints have it
    "dpm": lambda: DPMSolverMultistepScheduler(**FLOW),
}


def randomise(module: nn.Module, seed: int = 0) -> None:
    """Weights at which every part of every block matters: no zero initialisation, no neutral scale, no zero bias."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=g)
            if parameter.ndim >= 2:
                parameter.copy_(noise * parameter[0].numel() ** -0.5)
            else:
                parameter.add_(0.1 * noise)
        for name, parameter in module.named_parameters():
            if name.endswith("scale_shift_table"):
                parameter.copy_(torch.randn(parameter.shape, generator=g))


def tiny_wan(scheduler: str = "euler", *, two: bool = False, dtype: torch.dtype = torch.float32) -> WanPipeline:
    """A stock `WanPipeline` of three small blocks; `two` makes it a Wan 2.2 with a second transformer."""
    pipe = build_joint(TINY)
    pipe.scheduler = SCHEDULERS[scheduler]()
    randomise(pipe.transformer)
    if two:
        second = copy.deepcopy(pipe.transformer)
        randomise(second, seed=1)
        pipe = WanPipeline(**{**pipe.components, "transformer_2": second}, boundary_ratio=0.8)
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(dtype)


def generators(seed: int, count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed + i) for i in range(count)]


@dataclass
class Rig:
    """A pipeline with the arguments that it is called with here."""

    pipe: Any
    call: dict[str, Any] = field(default_factory=dict)

    def arguments(self, changes: dict[str, Any]) -> dict[str, Any]:
        return {"prompt": PROMPT, "num_inference_steps": 4, "output_type": "latent", **self.call, **changes}

    def stock(self, *, seed: int = 0, **changes: Any) -> Any:
        """What the pipeline itself returns: latents, unless `output_type` is changed."""
        call = self.arguments(changes)
        prompts = len(call["prompt"]) if isinstance(call["prompt"], list) else 1
        count = prompts * call.get("num_videos_per_prompt", 1)
        return self.pipe(**{"generator": generators(seed, count), **call}).frames

    def sample(self, guidance: Any = None, **changes: Any) -> lab.Run:
        """The same through the lab."""
        return lab.sample(self.pipe, guidance=guidance, **self.arguments(changes))

    def copy(self) -> Rig:
        """For tests that change the pipeline."""
        return Rig(copy.deepcopy(self.pipe), self.call)

    @property
    def steps(self) -> int:
        return self.arguments({})["num_inference_steps"]
