"""A small pipeline of no family whose loop can be bent: what it steps with, what steps, and what it does between steps."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler
from torch import Tensor

from kit.pipelines import tiny_wan


def plain_cfg(cond: Tensor, uncond: Tensor, scale: float, x_t: Tensor, sigma: float) -> Tensor:
    """What stock pipelines step with."""
    return uncond + scale * (cond - uncond)


def kept(step: int, latents: Tensor) -> Tensor:
    """What stock pipelines do between steps."""
    return latents


class Loop(DiffusionPipeline):
    """Text-to-video as diffusers' own loops are written: two denoiser calls a step, then `scheduler.step`.

    Attributes of `bent`:
        combine: what the scheduler is handed, of cond, uncond, scale, x_t and sigma.
        elsewhere: "" to step with the own scheduler, "copies" with copies of it, "own" with arithmetic.
        between: changes the latents after each step.
        sections: how many loops one call runs.
        frames: an argument of the denoiser with a row for each frame of each sample of [uncond, cond], which are one call then.
    """

    def __init__(self, transformer: Any, scheduler: Any) -> None:
        super().__init__()
        self.register_modules(transformer=transformer, scheduler=scheduler)
        self.bent = SimpleNamespace(combine=plain_cfg, elsewhere="", between=kept, sections=1, frames=None)
        self._guidance_scale = 1.0

    @property
    def guidance_scale(self) -> float:
        return self._guidance_scale

    @torch.no_grad()
    def __call__(
        self,
        prompt_embeds: Tensor,
        negative_prompt_embeds: Tensor,
        num_inference_steps: int = 3,
        guidance_scale: float = 1.0,
        generator: Any = None,
        output_type: str = "latent",
        callback_on_step_end: Any = None,
    ) -> Any:
        self._guidance_scale = guidance_scale
        found = []
        for _ in range(self.bent.sections):
            self.scheduler.set_timesteps(num_inference_steps)
            latents = torch.randn(1, self.transformer.config.in_channels, 3, 4, 4, generator=generator)
            found.append(
                self.loop(latents, prompt_embeds, negative_prompt_embeds, guidance_scale, callback_on_step_end)
            )
        return SimpleNamespace(frames=found[0] if self.bent.sections == 1 else torch.cat(found, dim=2))

    def loop(self, latents: Tensor, text: Tensor, negative: Tensor, guidance_scale: float, callback: Any) -> Tensor:
        stepper = copy.deepcopy(self.scheduler) if self.bent.elsewhere == "copies" else self.scheduler
        timesteps, sigmas = self.scheduler.timesteps, self.scheduler.sigmas.tolist()
        with self.progress_bar(total=len(timesteps)) as progress_bar:
            for i, t in enumerate(timesteps):
                timestep = t.expand(len(latents))
                if self.bent.frames is not None:  # one call with the batch [uncond, cond], and an argument by frame
                    both = self.transformer(
                        torch.cat([latents] * 2),
                        t.expand(2),
                        torch.cat([negative, text]),
                        self.bent.frames,
                        return_dict=False,
                    )[0]
                    uncond, cond = both.chunk(2)
                    prediction = uncond + guidance_scale * (cond - uncond)
                else:
                    prediction = cond = self.transformer(latents, timestep, text, return_dict=False)[0]
                if guidance_scale > 1 and self.bent.frames is None:
                    uncond = self.transformer(latents, timestep, negative, return_dict=False)[0]
                    prediction = self.bent.combine(cond, uncond, guidance_scale, latents, sigmas[i])
                if self.bent.elsewhere == "own":
                    latents = latents + (sigmas[i + 1] - sigmas[i]) * prediction
                else:
                    latents = stepper.step(prediction, t, latents, return_dict=False)[0]
                latents = self.bent.between(i, latents)
                if callback is not None:
                    latents = callback(self, i, t, {"latents": latents}).pop("latents", latents)
                progress_bar.update()
        return latents


def loop(scheduler: Any = None, **bent: Any) -> tuple[Loop, dict[str, Any]]:
    """The pipeline, bent, and the arguments of a call of it; "generator" is to be added."""
    pipe = Loop(tiny_wan().transformer, scheduler or FlowMatchEulerDiscreteScheduler(shift=3.0))
    for name, value in bent.items():
        setattr(pipe.bent, name, value)
    pipe.set_progress_bar_config(disable=True)
    words = (torch.randn(1, 6, 16, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    text, negative = words
    return pipe, {"prompt_embeds": text, "negative_prompt_embeds": negative, "guidance_scale": 4.0}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
