"""Cosmos 1, text-to-world: CFG on one-step predictions, for which the pipeline asks its scheduler at every step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stg_lab.errors import CallError, GuidanceError
from stg_lab.families.base import Family, Grid
from stg_lab.families.caller_frame import running
from stg_lab.guidance import COND, UNCOND


class Worlds(Family):
    """What all versions share: `guidance_scale` is the weight of `c - u` on top of c, one less than the CFG scale of the lab and of
    other pipelines."""

    surely_reused = True
    unbatched = (*Family.unbatched, "fps")
    scale_name = "guidance_scale + 1"  # type: ignore[assignment]

    def blocks(self, denoiser: Any) -> list[Any]:
        return list(denoiser.transformer_blocks)

    def sublayers(self, block: Any, part: str) -> list[nn.Module]:
        return [{"attention": block.attn1, "cross_attention": block.attn2, "feedforward": block.ff}[part]]

    def grid(self, denoiser: Any, args: tuple, kwargs: Mapping[str, Any]) -> Grid:
        latents = kwargs["hidden_states"]
        return Grid(*(size // p for size, p in zip(latents.shape[2:], denoiser.config.patch_size, strict=True)))

    def scale(self, pipe: Any, denoiser: str) -> float:
        return self.asked_scale({"guidance_scale": pipe.guidance_scale})

    def asked_scale(self, call: Mapping[str, Any]) -> float:
        return call["guidance_scale"] + 1.0 if call["guidance_scale"] > 1 else 1.0

    def to_argument(self, scale: float) -> float:
        if 1 < scale <= 2:
            raise GuidanceError(
                f"Cosmos pipelines know no CFG({scale:g}): they add guidance_scale (c - u) to c, so CFG(g) is guidance_scale=g - 1, "
                "and they do so only above 1. Type a CFG scale above 2, or 1 for none."
            )
        return scale - 1 if scale > 2 else 1.0

    def how_to_scale(self, scale: str) -> str:
        return f"Call it with guidance_scale={float(scale) - 1:g}."

    def how_to_uncond(self) -> str:
        return "Add lab.CFG(scale) with a scale above 2."

    def stock(self, pipe: Any, predictions: Mapping[str, Tensor], scale: Any, sample: Tensor, index: int) -> Tensor:
        cond, uncond = predictions[COND], predictions.get(UNCOND)
        return cond if uncond is None else cond + pipe.guidance_scale * (cond - uncond)

    def shown(self, pipe: Any, video: Tensor) -> np.ndarray:
        """A decoded video as arrays, through the pipeline's guardrail, which rounds videos to 8 bits.

        Raises:
            CallError: the guardrail has refused a video.
        """
        frames = pipe.video_processor.postprocess_video(video, output_type="np")
        if pipe.safety_checker is None:
            return frames
        pipe.safety_checker.to(pipe.vae.device)
        checked = [pipe.safety_checker.check_video_safety(one) for one in (frames * 255).astype(np.uint8)]
        pipe.safety_checker.to("cpu")
        if any(one is None for one in checked):
            raise CallError("the Cosmos guardrail has refused a video. Change the prompt or the seed.")
        video = torch.from_numpy(np.stack(checked).astype(np.float32) / 255.0 * 2 - 1).permute(0, 4, 1, 2, 3)
        return pipe.video_processor.postprocess_video(video, output_type="np")


class Cosmos(Worlds):
    """`CosmosTextToWorldPipeline`. What is recorded, guided and stepped with is x0: the pipeline calls `scheduler.step` once to
    turn its predictions into x0, combines them, and calls it again with the sum."""

    name = "Cosmos"
    pipelines = ("CosmosTextToWorldPipeline",)
    prediction_type = "sample_sigma"
    cfg_form = (
        "two calls a step, conditional first; in x0: c + guidance_scale (c - u), which is lab.CFG(guidance_scale + 1); only with a "
        "guidance_scale above 1"
    )

    def at_step(self, prediction: Tensor, pipe: Any, kwargs: Mapping[str, Any]) -> Tensor:
        x_t, scheduler = running(pipe, "latents")["latents"], pipe.scheduler
        return scheduler.precondition_outputs(x_t, prediction, scheduler.sigmas[scheduler.step_index])

    def takes_step(self, given: Mapping[str, Any]) -> bool:
        return given.get("pred_original_sample") is not None

    def stepped_with(self, prediction: Tensor) -> dict[str, Tensor]:
        return {"model_output": prediction, "pred_original_sample": prediction}

    def decode(self, pipe: Any, latents: Tensor) -> np.ndarray:
        vae, mean, std = pipe.vae, pipe.vae.config.latents_mean, pipe.vae.config.latents_std
        z = latents.to(vae.device)
        if mean is not None:
            # Written as the pipeline writes it, so that the bits agree; each latent frame has its own statistics.
            shape = (1, vae.config.latent_channels, -1, 1, 1)
            mean, std = (torch.tensor(x).view(shape)[:, :, : z.shape[2]].to(z) for x in (mean, std))
            z = z * std / pipe.scheduler.config.sigma_data + mean
        else:
            z = z / pipe.scheduler.config.sigma_data
        with torch.no_grad():
            video = vae.decode(z.to(vae.dtype), return_dict=False)[0]
        return self.shown(pipe, video)


class CosmosVideo(Cosmos):
    """`CosmosVideoToWorldPipeline`. Frames that are given are put into x0 of every branch; the model sees them with noise that is
    drawn anew for every pass, and with `input_frames_guidance=False` the unconditional pass is not told which they are."""

    name = "Cosmos video-to-world"
    pipelines = ("CosmosVideoToWorldPipeline",)

    def at_step(self, prediction: Tensor, pipe: Any, kwargs: Mapping[str, Any]) -> Tensor:
        call = running(pipe, "current_cond_indicator", "conditioning_latents")
        given, x0 = call["current_cond_indicator"], super().at_step(prediction, pipe, kwargs)
        return given * call["conditioning_latents"] + (1 - given) * x0


class Cosmos2(Worlds):
    """`Cosmos2VideoToWorldPipeline` and `Cosmos2TextToImagePipeline`. The network's output is turned into x0, frames that are given
    are put in, CFG acts on x0, and the scheduler is handed `(x_t - x0) / sigma`; the lab guides that, branch by branch, which is
    the same up to rounding. Sigma falls from 80."""

    name = "Cosmos 2"
    pipelines = ("Cosmos2VideoToWorldPipeline",)
    prediction_type = "epsilon_sigma"
    cfg_form = (
        "two calls a step, conditional first; in x0: c + guidance_scale (c - u), which is lab.CFG(guidance_scale + 1); only with a "
        "guidance_scale above 1. What is stepped with is (x_t - x0) / sigma"
    )

    def at_step(self, prediction: Tensor, pipe: Any, kwargs: Mapping[str, Any]) -> Tensor:
        call = running(pipe, "latents", "current_sigma", "cond_indicator", "conditioning_latents")
        x_t, sigma = call["latents"], call["current_sigma"]
        t = sigma / (sigma + 1)
        # Written as the pipeline writes it, so that as many bits as can agree.
        x0 = ((1 - t) * x_t + -t * prediction.float()).to(prediction.dtype)
        x0 = call["cond_indicator"] * call["conditioning_latents"] + (1 - call["cond_indicator"]) * x0
        return (x_t - x0) / sigma

    def stock(self, pipe: Any, predictions: Mapping[str, Tensor], scale: Any, sample: Tensor, index: int) -> Tensor:
        return (
            predictions[COND] if UNCOND not in predictions else super().stock(pipe, predictions, scale, sample, index)
        )

    def set_timesteps(self, pipe: Any, scheduler: Any, call: Mapping[str, Any], shape: tuple[int, ...]) -> None:
        scheduler.set_timesteps(sigmas=torch.linspace(0, 1, call["num_inference_steps"], dtype=torch.float64))

    def decode(self, pipe: Any, latents: Tensor) -> np.ndarray:
        z, config = latents.to(pipe.vae.device), pipe.vae.config
        mean, std = (torch.tensor(x).view(1, -1, 1, 1, 1).to(z) for x in (config.latents_mean, config.latents_std))
        with torch.no_grad():
            video = pipe.vae.decode(
                (z * std / pipe.scheduler.config.sigma_data + mean).to(pipe.vae.dtype), return_dict=False
            )[0]
        return self.shown(pipe, video)

    def notes(self, pipe: Any) -> dict[str, str]:
        return {"given frames": "they are put into x0 of every branch, so guidance does not change them"}


class Cosmos25(Worlds):
    """`Cosmos2_5_PredictBasePipeline`. The model predicts the velocity; for frames that are given the true one is put in its place,
    branch by branch."""

    name = "Cosmos 2.5"
    pipelines = ("Cosmos2_5_PredictBasePipeline",)
    cfg_form = (
        "two calls a step, conditional first: c + guidance_scale (c - u), which is lab.CFG(guidance_scale + 1); only with a "
        "guidance_scale above 1"
    )

    def at_step(self, prediction: Tensor, pipe: Any, kwargs: Mapping[str, Any]) -> Tensor:
        call = running(pipe, "gt_velocity", "cond_mask")
        return call["gt_velocity"] + prediction * (1 - call["cond_mask"])

    def decode(self, pipe: Any, latents: Tensor) -> np.ndarray:
        from diffusers.pipelines.cosmos.pipeline_cosmos2_5_predict import CosmosSafetyChecker

        z = latents.to(pipe.vae.device)
        mean, inverse = pipe.latents_mean.to(z), pipe.latents_std.to(z)
        with torch.no_grad():
            video = pipe.vae.decode((z / inverse + mean).to(pipe.vae.dtype), return_dict=False)[0]
        guarded = isinstance(pipe.safety_checker, CosmosSafetyChecker)  # this pipeline asks no other
        return self.shown(pipe, video) if guarded else pipe.video_processor.postprocess_video(video, output_type="np")

    def notes(self, pipe: Any) -> dict[str, str]:
        return {"given frames": "their velocity is the true one in every branch, so guidance does not change them"}
