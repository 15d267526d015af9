"""Wan 2.1 and 2.2, text-to-video and image-to-video: full 3D attention over video tokens, CFG as two calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stg_lab.errors import CallError
from stg_lab.families.base import Family, Grid
from stg_lab.families.caller_frame import running
from stg_lab.families.digits_codec import codec_defaults, codec_preview
from stg_lab.families.halfway import Halfway
from stg_lab.preview import Preview

#: What siblings say of themselves, for `lab.describe`.
SEGMENTS = (
    "each is a run of its own within the call, with the guidance of all and a recording of its own (trace.recordings)"
)


class Wan(Family):
    """`WanPipeline` with one transformer (2.1, TI2V-5B) or two (2.2 A14B, split by noise level)."""

    name = "Wan"
    pipelines: tuple[str, ...] = ("WanPipeline",)
    surely_reused = True
    cfg_form = "two calls a step, conditional first: u + scale (c - u)"
    sources = (
        "diffusers' community STG pipeline for Wan skips blocks 3, 8, 16; the authors' example skips block 2 at scale 2"
    )

    def blocks(self, denoiser: Any) -> list[Any]:
        return list(denoiser.blocks)

    def sublayers(self, block: Any, part: str) -> list[nn.Module]:
        return [{"attention": block.attn1, "cross_attention": block.attn2, "feedforward": block.ffn}[part]]

    def grid(self, denoiser: Any, args: tuple, kwargs: Mapping[str, Any]) -> Grid:
        latents = args[0] if args else kwargs["hidden_states"]
        patch = denoiser.config.patch_size
        return Grid(*(size // p for size, p in zip(latents.shape[2:], patch, strict=True)))

    def without_caption(self, pipe: Any, args: tuple, kwargs: Mapping[str, Any]) -> tuple[tuple, dict[str, Any]]:
        text = kwargs["encoder_hidden_states"]
        empty, _ = pipe.encode_prompt(
            "",
            do_classifier_free_guidance=False,
            max_sequence_length=text.shape[1],
            device=text.device,
            dtype=text.dtype,
        )
        return args, {**kwargs, "encoder_hidden_states": empty.expand(text.shape[0], -1, -1)}

    def scale(self, pipe: Any, denoiser: str) -> float:
        if not pipe.do_classifier_free_guidance:
            return 1.0
        second = getattr(pipe, "_guidance_scale_2", None) if denoiser == "transformer_2" else None
        return float(pipe.guidance_scale if second is None else second)

    def defaults(self, pipe: Any) -> dict[str, Any]:
        return codec_defaults(pipe)

    def latent_shape(self, pipe: Any, call: Mapping[str, Any]) -> tuple[int, ...] | None:
        """The pipeline rounds what does not fit: frames to one more than a multiple, height and width down to patches."""
        space, time = pipe.vae_scale_factor_spatial, pipe.vae_scale_factor_temporal
        denoiser: Any = next(iter(self.denoisers(pipe).values()))
        patch = denoiser.config.patch_size[1:]
        frames = call["num_frames"] if call["num_frames"] % time == 1 else call["num_frames"] // time * time + 1
        sizes = ((call[name] // (space * p)) * space * p for name, p in zip(("height", "width"), patch, strict=True))
        height, width = sizes
        return super().latent_shape(pipe, {**call, "num_frames": frames, "height": height, "width": width})

    def decode(self, pipe: Any, latents: Tensor) -> np.ndarray:
        vae = pipe.vae
        z = latents.to(vae.device, vae.dtype)
        mean, inverse = statistics(vae, z)
        z = z / inverse + mean  # written as the pipeline writes it, so that the bits agree
        with torch.no_grad():
            video = vae.decode(z, return_dict=False)[0]
        return pipe.video_processor.postprocess_video(video, output_type="np")

    def preview(self, pipe: Any) -> Preview | None:
        return codec_preview(pipe)


class WanVideo(Halfway, Wan):
    """`WanVideoToVideoPipeline`: starts from a noised video at `strength` of the noise levels."""

    name = "Wan video-to-video"
    pipelines = ("WanVideoToVideoPipeline",)


class WanVACE(Wan):
    """`WanVACEPipeline`. Blocks beside the trunk turn the control video into hints, which are added behind some of the layers; a
    weak pass has the hints of its conditional pass, also behind a layer that it skips. Frames of reference pictures are sampled
    in front of the video and dropped; they are guided, and recordings leave them out."""

    name = "Wan VACE"
    pipelines = ("WanVACEPipeline",)

    def notes(self, pipe: Any) -> dict[str, str]:
        denoiser: Any = next(iter(self.denoisers(pipe).values()))
        layers = denoiser.config.vace_layers
        return {
            "control": f"hints are added behind layers {', '.join(map(str, layers))}; skipping a layer leaves its hint"
        }

    def recorded(self, x: Tensor, pipe: Any, kwargs: Mapping[str, Any], *, predicted: bool) -> Tensor:
        return x[:, :, running(pipe, "num_reference_images")["num_reference_images"] :]

    def returned(self, pipe: Any, latents: Tensor, call: Mapping[str, Any]) -> Tensor:
        pictures = call.get("reference_images")
        while isinstance(pictures, list) and pictures and isinstance(pictures[0], list):
            pictures = pictures[0]  # of the first sample; all have as many
        return latents[:, :, len(pictures) if isinstance(pictures, list) else int(pictures is not None) :]


class WanAnimate(Wan):
    """`WanAnimatePipeline`. The denoiser's input is the latents with the channels of the character and of the frames before;
    pose is added to the tokens, and features of the face behind every fifth layer. The unconditional pass has an empty face, so
    CFG strengthens expressions as well as the prompt. Long videos are sampled in segments, each with a recording of its own."""

    name = "Wan Animate"
    pipelines = ("WanAnimatePipeline",)
    cfg_form = f"{Wan.cfg_form}; off by default (guidance_scale=1), and the unconditional pass has an empty face, too"

    def latent_shape(self, pipe: Any, call: Mapping[str, Any]) -> tuple[int, ...] | None:
        shape = super().latent_shape(pipe, {**call, "num_frames": call["segment_frame_length"]})
        return shape and (*shape[:2], shape[2] + 1, *shape[3:])  # the character's frame is sampled, too

    def notes(self, pipe: Any) -> dict[str, str]:
        every = pipe.transformer.config.inject_face_latents_blocks
        return {
            "face": f"added behind the layers 0, {every}, {2 * every} and so on; skipping a layer leaves it",
            "segments": f"{SEGMENTS}; the first latent frame is the character, sampled and dropped",
        }

    def decode(self, pipe: Any, latents: Tensor) -> np.ndarray:
        """A segment alone, without the frame of the character."""
        return super().decode(pipe, latents[:, :, 1:])

    def returned(self, pipe: Any, latents: Tensor, call: Mapping[str, Any]) -> Tensor:
        mean, inverse = statistics(pipe.vae, latents)  # they come as the decoder wants them, those of the last segment
        return (latents - mean) * inverse


class WanImage(Wan):
    """`WanImageToVideoPipeline`: 2.1 with CLIP embeddings of the picture beside the text, 2.2 without them. The denoiser's
    input is the latents with the channels of a mask and of the encoded picture; text and picture share one cross-attention.

    TI2V-5B (`expand_timesteps`) has no such channels: its first latent frame is the picture, at noise level 0 throughout. The
    pipeline steps that frame too and overwrites it, so recordings hold what the model sees there, and zero for every prediction.
    """

    name = "Wan image-to-video"
    pipelines = ("WanImageToVideoPipeline",)

    def with_latents(
        self, args: tuple, kwargs: Mapping[str, Any], old: Tensor, new: Tensor
    ) -> tuple[tuple, dict[str, Any]]:
        if kwargs["hidden_states"].shape[1] > old.shape[1]:
            return super().with_latents(args, kwargs, old, new)
        picture, latents = kwargs["hidden_states"].tensor_split([1], dim=2)
        _, changed = super().with_latents((), {**kwargs, "hidden_states": latents}, old[:, :, 1:], new[:, :, 1:])
        return args, {**changed, "hidden_states": torch.cat([picture, changed["hidden_states"]], dim=2)}

    def picture(self, denoiser: Any) -> tuple[nn.Module, tuple[slice, slice]] | None:
        channels, given = denoiser.config.out_channels, denoiser.config.in_channels
        if self.has_history(denoiser):
            return None
        return denoiser.patch_embedding, (slice(given - channels, given), slice(channels, given - channels))

    def has_history(self, denoiser: Any) -> bool:
        return (
            denoiser.config.in_channels == denoiser.config.out_channels
        )  # TI2V-5B: the picture is a frame of the latents

    def given_frames(self, pipe: Any, *, at_step: bool = False) -> int:
        return int(pipe.config.expand_timesteps)

    def recorded(self, x: Tensor, pipe: Any, kwargs: Mapping[str, Any], *, predicted: bool) -> Tensor:
        if not self.given_frames(pipe):
            return x
        picture = kwargs["hidden_states"][:, :, :1].to(x.dtype)
        return torch.cat([torch.zeros_like(picture) if predicted else picture, x[:, :, 1:]], dim=2)


class WanEdit(Wan):
    """`LucyEditPipeline` and `ChronoEditPipeline`. The denoiser's input is the latents with the channels of the video, or of the
    picture, that is edited."""

    name = "Wan edit"
    pipelines = ("LucyEditPipeline", "ChronoEditPipeline")
    sources = ""

    def check_call(self, pipe: Any, call: Mapping[str, Any]) -> None:
        if call.get("enable_temporal_reasoning"):
            raise CallError(
                "enable_temporal_reasoning=True drops frames in the middle of the run, so that its steps have different shapes. Leave "
                "it out."
            )


def statistics(vae: Any, latents: Tensor) -> tuple[Tensor, Tensor]:
    """Mean, and one over the standard deviation, of the latents of Wan's VAE, by channel."""
    mean, std = (
        torch.tensor(x).view(1, vae.config.z_dim, 1, 1, 1).to(latents.device, latents.dtype)
        for x in (vae.config.latents_mean, vae.config.latents_std)
    )
    return mean, 1.0 / std
