"""Text to video with Open-Sora 1.2, as a diffusers pipeline."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.pipelines.pixart_alpha.pipeline_pixart_alpha import PixArtAlphaPipeline
from diffusers.schedulers import FlowMatchEulerDiscreteScheduler
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from diffusers.video_processor import VideoProcessor
from torch import Tensor
from transformers import PreTrainedTokenizerBase, T5EncoderModel

from stg_lab.errors import CallError
from stg_lab.opensora.lengths import IMAGE_FPS, TIME_FACTOR, VIDEO_FPS, check_frames, latent_frames, time_shift
from stg_lab.opensora.transformer import STDiT3Transformer3DModel
from stg_lab.opensora.vae import AutoencoderKLOpenSora


@dataclass
class OpenSoraPipelineOutput(BaseOutput):
    """Videos as `output_type` says: arrays or tensors `(batch, frame, ...)`, lists of pictures, or latents."""

    frames: Any


class OpenSoraPipeline(DiffusionPipeline):
    """Open-Sora 1.2: rectified flow on the latents of `AutoencoderKLOpenSora`, guided by a T5 v1.1 XXL caption.

    Guidance is one call with the batch [uncond, cond]: u + scale (c - u). There is no negative prompt; u has an embedding that was
    trained for no caption, of which it sees as many words as the caption has. The scheduler is one for flow matching.

    Without a text encoder and tokenizer it is called with `prompt_embeds`.
    """

    config: Any
    transformer: Any
    vae: Any
    scheduler: Any
    text_encoder: Any
    tokenizer: Any

    model_cpu_offload_seq = "text_encoder->transformer->vae"  # type: ignore[assignment]
    _optional_components = ["text_encoder", "tokenizer"]  # noqa: RUF012  (a list, as diffusers has it)
    _callback_tensor_inputs: ClassVar[list[str]] = ["latents", "prompt_embeds"]

    # Captions were cleaned by PixArt's procedure; without beautifulsoup4 and ftfy it only makes them lower case, and says so.
    bad_punct_regex = PixArtAlphaPipeline.bad_punct_regex
    _clean_caption = PixArtAlphaPipeline._clean_caption
    _text_preprocessing: Any = PixArtAlphaPipeline._text_preprocessing

    def __init__(
        self,
        transformer: STDiT3Transformer3DModel,
        vae: AutoencoderKLOpenSora,
        scheduler: FlowMatchEulerDiscreteScheduler,
        text_encoder: T5EncoderModel | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(
            transformer=transformer, vae=vae, scheduler=scheduler, text_encoder=text_encoder, tokenizer=tokenizer
        )
        self.vae_scale_factor_spatial = 2 ** (len(vae.config.block_out_channels) - 1) if vae is not None else 8
        self.vae_scale_factor_temporal = TIME_FACTOR
        self.video_processor = VideoProcessor(vae_scale_factor=self.vae_scale_factor_spatial)

    @property
    def guidance_scale(self) -> float:
        return self._guidance_scale

    @property
    def do_classifier_free_guidance(self) -> bool:
        return self._guidance_scale > 1

    @property
    def num_timesteps(self) -> int:
        return self._num_timesteps

    @property
    def interrupt(self) -> bool:
        return self._interrupt

    def check_inputs(
        self,
        prompt: str | list[str] | None,
        prompt_embeds: Tensor | None,
        prompt_attention_mask: Tensor | None,
        num_frames: int,
        height: int,
        width: int,
        callback_tensors: Sequence[str],
    ) -> None:
        """Refuse what cannot be sampled, before anything is computed.

        Raises:
            CallError: it says what was given, and what to type instead.
        """
        check_frames(num_frames)
        factor = self.vae_scale_factor_spatial
        if height < factor or width < factor:
            raise CallError(
                f"a video has at least {factor} x {factor} pixels, got height={height}, width={width}. Type height=240, width=426."
            )
        if (prompt is None) == (prompt_embeds is None):
            raise CallError("give either a prompt or prompt_embeds (batch, word, feature), one of the two.")
        if prompt is not None and (self.text_encoder is None or self.tokenizer is None):
            raise CallError(
                "this pipeline has no text encoder, so it cannot read a prompt. Give it a T5 v1.1 XXL encoder, "
                'pipe.register_modules(text_encoder=..., tokenizer=...) or lab.load(..., text_encoder="FOLDER"), or call it with '
                "prompt_embeds and prompt_attention_mask."
            )
        self._check_embeds(prompt_embeds, prompt_attention_mask)
        if unknown := [name for name in callback_tensors if name not in self._callback_tensor_inputs]:
            raise CallError(f"callbacks can be given {', '.join(self._callback_tensor_inputs)}, got {unknown[0]!r}.")

    def _check_embeds(self, embeds: Tensor | None, mask: Tensor | None) -> None:
        if embeds is None:
            return
        words, features = self.transformer.y_embedder.y_embedding.shape
        if embeds.ndim != 3 or embeds.shape[1] > words or embeds.shape[2] != features:
            raise CallError(
                f"prompt_embeds are (batch, word, feature) with {words} words at most and {features} features, got "
                f"{tuple(embeds.shape)}."
            )
        if mask is not None and (mask.shape != embeds.shape[:2] or not mask.any(dim=1).all()):
            raise CallError(
                f"prompt_attention_mask is {tuple(embeds.shape[:2])}, with a word in every row, got {tuple(mask.shape)} with "
                f"{mask.reshape(len(mask), -1).sum(1).tolist()} words."
            )

    def encode_prompt(
        self,
        prompt: str | list[str] | None = None,
        *,
        prompt_embeds: Tensor | None = None,
        prompt_attention_mask: Tensor | None = None,
        num_videos_per_prompt: int = 1,
        clean_caption: bool = True,
        device: torch.device | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Captions as T5 features `(batch, word, feature)`, and which words there are, `(batch, word)`."""
        device = device or self._execution_device
        if prompt_embeds is None:
            given = self.tokenizer(
                self._text_preprocessing(prompt, clean_caption=clean_caption),
                padding="max_length", max_length=self.transformer.config.model_max_length, truncation=True,
                return_attention_mask=True, add_special_tokens=True, return_tensors="pt",
            ).to(device)  # fmt: skip
            prompt_attention_mask = given.attention_mask
            prompt_embeds = self.text_encoder(given.input_ids, attention_mask=prompt_attention_mask)[0]
        if prompt_attention_mask is None:
            prompt_attention_mask = torch.ones(prompt_embeds.shape[:2], dtype=torch.int64)
        given_twice = (prompt_embeds, prompt_attention_mask)
        embeds, mask = (x.to(device).repeat_interleave(num_videos_per_prompt, dim=0) for x in given_twice)
        return embeds, mask

    def no_caption(self, prompt_embeds: Tensor) -> Tensor:
        """The embedding that stands for no caption, in the shape of others."""
        words = prompt_embeds.shape[1]
        return self.transformer.y_embedder.y_embedding[:words].to(prompt_embeds).expand_as(prompt_embeds)

    def spacing(self, scheduler: Any, steps: int, *, num_frames: int, height: int, width: int) -> dict[str, Any]:
        """What `scheduler.set_timesteps` is told: noise levels from 1 down, the closer to it the larger the video (`time_shift`).

        A scheduler that shifts by itself, always or dynamically, is given even ones.
        """
        even = np.array([1 - i / steps for i in range(steps)], np.float32)
        shift = time_shift(num_frames, height, width)
        if scheduler.config.get("use_dynamic_shifting"):
            return {"sigmas": even, "mu": math.log(shift)}
        # In float32 and by this very formula: the last bit of a time is seen in the model's sinusoids, and so in its samples.
        plain = scheduler.config.get("shift", 1.0) == 1
        return {"sigmas": shift * even / (1 + (shift - 1) * even) if plain else even}

    def prepare_latents(
        self, batch: int, num_frames: int, height: int, width: int, device: torch.device, generator: Any, latents: Any
    ) -> Tensor:
        """Noise in float32, or the given latents."""
        factor = self.vae_scale_factor_spatial
        channels = self.transformer.config.in_channels
        shape = (batch, channels, latent_frames(num_frames), height // factor, width // factor)
        if latents is None:
            if isinstance(generator, list) and len(generator) != batch:
                raise CallError(
                    f"give a generator for each of the {batch} videos, or one for all, got {len(generator)}."
                )
            return randn_tensor(shape, generator=generator, device=device, dtype=torch.float32)
        if latents.shape != shape:
            raise CallError(f"latents of this call are {shape}, got {tuple(latents.shape)}.")
        return latents.to(device, torch.float32)

    def decode_latents(self, latents: Tensor, num_frames: int | None = None) -> Tensor:
        """Latents `(batch, channel, frame, y, x)` as video in about [-1, 1], float32 `(batch, channel, frame, y, x)`."""
        z = latents.to(self._execution_device, self.vae.dtype)
        return self.vae.decode(z, num_frames, return_dict=False)[0].float()

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str] | None = None,
        num_frames: int = 51,
        height: int = 240,
        width: int = 426,
        fps: float | None = None,
        num_inference_steps: int = 30,
        guidance_scale: float = 7.0,
        num_videos_per_prompt: int = 1,
        aesthetic_score: float | None = 6.5,
        motion_score: float | None = None,
        camera_motion: str | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Tensor | None = None,
        prompt_embeds: Tensor | None = None,
        prompt_attention_mask: Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        clean_caption: bool = True,
        callback_on_step_end: Callable[..., dict[str, Any]] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> Any:
        """Make videos.

        Args:
            num_frames: 1 for a picture, else 17 or more; trained on 51, 102, 204 and 408.
            height, width: in pixels; trained on 144 x 256, 240 x 426, 360 x 640, 480 x 854, 720 x 1280 and squares of the same areas.
                What is no multiple of 8 is rounded down in the video, not in what the model is told.
            fps: what the model is told; None for 24, or 120 for pictures.
            guidance_scale: of classifier-free guidance; 1 or less turns it off.
            aesthetic_score, motion_score, camera_motion: written at the end of prompts that do not say so themselves; None for
                nothing.
            latents: float32 noise to begin with, `(batch, channel, latent frame, y, x)`.
            prompt_embeds, prompt_attention_mask: in place of prompts, as `encode_prompt` returns them.
            output_type: "pil", "np", "pt" or "latent".
            clean_caption: as captions were cleaned in training; needs beautifulsoup4 and ftfy.

        Returns:
            `OpenSoraPipelineOutput`, or a tuple of its `frames`.

        Raises:
            CallError: arguments that cannot be.
        """
        self.check_inputs(
            prompt, prompt_embeds, prompt_attention_mask, num_frames, height, width, callback_on_step_end_tensor_inputs
        )
        self._guidance_scale, self._interrupt = guidance_scale, False
        device = self._execution_device
        if prompt is not None:
            prompt = [
                with_scores(text, aesthetic_score, motion_score, camera_motion)
                for text in ([prompt] if isinstance(prompt, str) else prompt)
            ]
        prompt_embeds, mask = self.encode_prompt(
            prompt, prompt_embeds=prompt_embeds, prompt_attention_mask=prompt_attention_mask,
            num_videos_per_prompt=num_videos_per_prompt, clean_caption=clean_caption, device=device,
        )  # fmt: skip
        size = {"num_frames": num_frames, "height": height, "width": width}
        latents = self.prepare_latents(len(prompt_embeds), **size, device=device, generator=generator, latents=latents)
        self.scheduler.set_timesteps(**self.spacing(self.scheduler, num_inference_steps, **size), device=device)
        self._num_timesteps = len(self.scheduler.timesteps)
        fps = (IMAGE_FPS if num_frames == 1 else VIDEO_FPS) if fps is None else fps
        told = {"fps": fps, "height": height, "width": width}

        with self.progress_bar(total=num_inference_steps) as bar:
            for i, t in enumerate(self.scheduler.timesteps):
                if self.interrupt:
                    continue
                prediction = self._prediction(latents, t, prompt_embeds, mask, told)
                latents = self.scheduler.step(prediction, t, latents, return_dict=False)[0]
                if callback_on_step_end is not None:
                    known = {"latents": latents, "prompt_embeds": prompt_embeds}
                    given = {name: known[name] for name in callback_on_step_end_tensor_inputs}
                    changed = callback_on_step_end(self, i, t, given)
                    latents = changed.pop("latents", latents)
                    prompt_embeds = changed.pop("prompt_embeds", prompt_embeds)
                bar.update()

        video: Any = latents
        if output_type != "latent":
            video = self.video_processor.postprocess_video(self.decode_latents(latents, num_frames), output_type)
        self.maybe_free_model_hooks()
        return OpenSoraPipelineOutput(frames=video) if return_dict else (video,)

    def _prediction(self, latents: Tensor, t: Tensor, embeds: Tensor, mask: Tensor, told: dict[str, Any]) -> Tensor:
        """The guided prediction as flow-matching schedulers have it: noise - x0, the model's velocity with the other sign."""
        both = self.do_classifier_free_guidance
        captions = torch.cat([self.no_caption(embeds), embeds]) if both else embeds
        output = self.transformer(
            hidden_states=torch.cat([latents] * 2) if both else latents,
            timestep=t.expand(len(captions)),
            encoder_hidden_states=captions,
            encoder_attention_mask=torch.cat([mask] * 2) if both else mask,
            return_dict=False,
            **told,
        )[0]
        prediction = -output[:, : latents.shape[1]]
        if not both:
            return prediction
        uncond, cond = prediction.chunk(2)
        return uncond + self.guidance_scale * (cond - uncond)


def with_scores(prompt: str, aesthetic: float | None, motion: float | None, camera: str | None) -> str:
    """A prompt with what the model was told about training videos: how they look, how much moves, how the camera does."""
    said = {
        "aesthetic score": None if aesthetic is None else f"{aesthetic:.1f}",
        "motion score": None if motion is None else f"{motion:.1f}",
        "camera motion": camera,
    }
    told = [f"{name}: {value}." for name, value in said.items() if value is not None and f"{name}:" not in prompt]
    return " ".join([prompt, *told])
