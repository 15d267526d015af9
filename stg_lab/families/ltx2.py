"""LTX-2: video and sound denoised side by side; the pipeline combines its guidance in x0 and has STG of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from stg_lab.errors import GuidanceError
from stg_lab.families.base import Grid
from stg_lab.families.caller_frame import running
from stg_lab.families.ltx import LTX, LTXImage, spread
from stg_lab.guidance import COND, UNCOND

NATIVE_STG, NATIVE_MODALITY = "stg", "modality"  # branches


class LTX2(LTX):
    """`LTX2Pipeline`. What is recorded and guided is the video. The sound takes part in every pass, weak ones too, but is
    stepped by a scheduler of its own, as stock. Passes of the pipeline's own STG and modality guidance are branches as well."""

    name = "LTX-2"
    pipelines: tuple[str, ...] = ("LTX2Pipeline",)
    other_stream = "sound"
    shift = (1024, 0.95, 2.05)
    cfg_form = (
        "one call with the batch [uncond, cond]; in x0: c + (scale - 1) (c - u) + stg_scale (c - stg) + (modality_scale - 1) "
        "(c - modality), then guidance_rescale, then back. The lab's guidance needs stg_scale=0, modality_scale=1, "
        "guidance_rescale=0, and leaves the sound to audio_guidance_scale and its like"
    )
    sources = (
        "the pipeline's own STG is lab.skip([28], part='attention') at scale 1 (stg_scale, spatio_temporal_guidance_blocks). It "
        "does nothing, in silence, in a transformer whose config lacks perturbed_attn (LTX-2.0); lab.skip works there too, and "
        "Lightricks use block 29"
    )

    def sublayers(self, block: Any, part: str) -> list[nn.Module]:
        """Those of the video and those of the sound. The attentions between the two belong to no part."""
        return {
            "attention": [block.attn1, block.audio_attn1],
            "cross_attention": [block.attn2, block.audio_attn2],
            "feedforward": [block.ff, block.audio_ff],
        }[part]

    def without(self, part: str, *args: Any, **kwargs: Any) -> Any:
        if part == "block":
            return kwargs["hidden_states"], kwargs["audio_hidden_states"]
        return super().without(part, *args, **kwargs)

    def places(self, grid: Grid, axis: str, tokens: int) -> Grid:
        """Tokens of sound lie along time alone; the two kinds are told apart by how many there are."""
        return super().places(grid if tokens == grid.size else Grid(tokens, 1, 1), axis, tokens)

    def heads(self, denoiser: Any) -> int:
        return min(int(denoiser.config.num_attention_heads), int(denoiser.config.audio_num_attention_heads))

    def latent_shape(self, pipe: Any, call: Mapping[str, Any]) -> tuple[int, ...] | None:
        if call.get("num_frames") is None and getattr(pipe, "duration_head", None) is not None:
            return None  # the model chooses, when it has read the prompt
        return super().latent_shape(pipe, {**call, "num_frames": call.get("num_frames") or 121})

    def wants_uncond(self, pipe: Any, call: Mapping[str, Any]) -> bool:
        return _own(call, "guidance_scale") > 1

    def step_calls(self, pipe: Any, call: Mapping[str, Any]) -> list[tuple[str, ...]]:
        native = [NATIVE_STG] * (_own(call, "stg_scale") > 0) + [NATIVE_MODALITY] * (_own(call, "modality_scale") > 1)
        return [*super().step_calls(pipe, call), *((name,) for name in native)]

    def perturbed(self, kwargs: Mapping[str, Any]) -> str:
        if kwargs["isolate_modalities"]:
            return NATIVE_MODALITY
        return NATIVE_STG if kwargs["spatio_temporal_guidance_blocks"] else ""

    def beside_cfg(self, pipe: Any) -> str:
        off = {"stg_scale": 0, "modality_scale": 1, "guidance_rescale": 0}
        on = [f"{name}={getattr(pipe, name):g}" for name, value in off.items() if getattr(pipe, name) != value]
        if not on:
            return ""
        return f"{', '.join(on)}. Call it with {', '.join(f'{name}={value}' for name, value in off.items())}"

    def stock(self, pipe: Any, predictions: Mapping[str, Tensor], scale: Any, sample: Tensor, index: int) -> Tensor:
        from diffusers.pipelines.ltx2.pipeline_ltx2 import rescale_noise_cfg

        sigma = pipe.scheduler.sigmas[index]
        weights = {UNCOND: scale - 1, NATIVE_STG: pipe.stg_scale, NATIVE_MODALITY: pipe.modality_scale - 1}
        # Written as the pipeline writes it, so that the bits agree.
        x0 = {name: sample - predictions[name] * sigma for name in (COND, *weights) if name in predictions}
        guided = x0[COND]
        for name, weight in weights.items():
            if name in x0:
                guided = guided + weight * (x0[COND] - x0[name])
        if pipe.guidance_rescale > 0:
            guided = rescale_noise_cfg(guided, x0[COND], guidance_rescale=pipe.guidance_rescale)
        return (sample - guided) / sigma

    def with_latents(
        self, args: tuple, kwargs: Mapping[str, Any], old: Tensor, new: Tensor
    ) -> tuple[tuple, dict[str, Any]]:
        raise GuidanceError(
            "in LTX-2 the sound is denoised beside the video and would stay behind at its own noise level, so a step cannot be "
            "made again. Leave Restart out."
        )

    def returned(self, pipe: Any, latents: Tensor, call: Mapping[str, Any]) -> Tensor:
        vae = pipe.vae  # they come unpacked, and as the decoder wants them
        return pipe._normalize_latents(latents, vae.latents_mean, vae.latents_std, vae.config.scaling_factor)

    def denormalised(self, pipe: Any, latents: Tensor) -> Tensor:
        return super().denormalised(pipe, latents.to(pipe.vae.dtype))  # in this order, as the pipeline does it


class LTX2Image(LTXImage, LTX2):
    """`LTX2ImageToVideoPipeline`. The first latent frame is the picture, at noise level 0 throughout; the scheduler steps the
    others, unpacked. Recordings hold all frames: in the first one the latents are the picture and every prediction is zero."""

    name = "LTX-2 image-to-video"
    pipelines = ("LTX2ImageToVideoPipeline",)
    with_latents = LTX2.with_latents

    def notes(self, pipe: Any) -> dict[str, str]:
        return {
            "guidance_rescale": "the pipeline measures it over the picture's frame, too, whose predictions it drops: with it, as by "
            "default, the lab records, but cannot rebuild what is stepped with"
        }


class LTX2Condition(LTX2):
    """`LTX2ConditionPipeline`. Pictures and clips that are given stand in for the first frames, or are tokens behind the video's; the
    pipeline mixes them into its x0 by their strength, and so does the lab, branch by branch: where the strength is 1 all branches
    agree, and guidance changes nothing."""

    name = "LTX-2 condition"
    pipelines = ("LTX2ConditionPipeline", "LTX2InContextPipeline")
    layout = "batch, token, channel; tokens that are given stand behind the video's"

    def grid(self, denoiser: Any, args: tuple, kwargs: Mapping[str, Any]) -> Grid:
        grid = super().grid(denoiser, args, kwargs)
        if kwargs["hidden_states"].shape[1] == grid.size:
            return grid
        raise GuidanceError(
            "this call has tokens of given frames behind those of the video, so its attention cannot be edited by place. Skip whole "
            "blocks, or one part of them: lab.skip(layers), lab.skip(layers, part='attention')."
        )

    def at_step(self, prediction: Tensor, pipe: Any, kwargs: Mapping[str, Any]) -> Tensor:
        latents, clean, mask, step = _mixed(pipe)
        copies = len(prediction) // len(latents)
        latents, clean, mask = (x.repeat(copies, 1, 1) for x in (latents, clean, mask[: len(latents)]))
        x0 = pipe.convert_velocity_to_x0(latents, prediction, step, pipe.scheduler)
        mixed = pipe.convert_x0_to_velocity(latents, x0 * (1 - mask) + clean * mask, step, pipe.scheduler)
        return torch.where(mask == 0, prediction, mixed)

    def stock(self, pipe: Any, predictions: Mapping[str, Tensor], scale: Any, sample: Tensor, index: int) -> Tensor:
        mask = _mixed(pipe)[2][: len(sample)]
        return torch.where(mask == 1, predictions[COND], super().stock(pipe, predictions, scale, sample, index))

    def recorded(self, x: Tensor, pipe: Any, kwargs: Mapping[str, Any], *, predicted: bool) -> Tensor:
        grid = super().grid(None, (), kwargs)
        return spread(x[:, : grid.size], pipe, grid)

    def notes(self, pipe: Any) -> dict[str, str]:
        return {"conditions": "frames given with strength 1 are kept, and guidance does not change them"}


def _mixed(pipe: Any) -> tuple[Tensor, Tensor, Tensor, int]:
    """Latents, clean latents and mask `(batch, token, channel)` of the running call of a condition pipeline, and its step."""
    call = running(pipe, "latents", "clean_latents", "conditioning_mask", "i")
    return call["latents"], call["clean_latents"], call["conditioning_mask"], call["i"]


def _own(call: Mapping[str, Any], scale: str) -> float:
    """The larger one of a scale of the video and its counterpart of the sound, which falls back to the video's."""
    return max(call[scale], call[f"audio_{scale}"] or call[scale])
