"""Tiny stock pipelines of every family, with random weights at which every part matters, called with embeddings.

Each is built from the classes and the scheduler settings of the real checkpoint, at sizes where a step takes milliseconds.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from diffusers import (
    AllegroPipeline,
    AllegroTransformer3DModel,
    AutoencoderKL,
    AutoencoderKLAllegro,
    AutoencoderKLCogVideoX,
    AutoencoderKLCosmos,
    AutoencoderKLHunyuanVideo,
    AutoencoderKLHunyuanVideo15,
    AutoencoderKLLTX2Audio,
    AutoencoderKLLTX2Video,
    AutoencoderKLLTXVideo,
    AutoencoderKLMochi,
    AutoencoderKLTemporalDecoder,
    AutoencoderKLWan,
    ClassifierFreeGuidance,
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    CogVideoXImageToVideoPipeline,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
    CosmosTextToWorldPipeline,
    CosmosTransformer3DModel,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    HunyuanVideo15Pipeline,
    HunyuanVideo15Transformer3DModel,
    HunyuanVideoPipeline,
    HunyuanVideoTransformer3DModel,
    Kandinsky5T2VPipeline,
    Kandinsky5Transformer3DModel,
    LattePipeline,
    LatteTransformer3DModel,
    LTX2Pipeline,
    LTX2VideoTransformer3DModel,
    LTXImageToVideoPipeline,
    LTXPipeline,
    LTXVideoTransformer3DModel,
    MochiPipeline,
    MochiTransformer3DModel,
    SanaVideoPipeline,
    SanaVideoTransformer3DModel,
    SD3Transformer2DModel,
    SkyReelsV2Pipeline,
    SkyReelsV2Transformer3DModel,
    StableDiffusion3Pipeline,
    StableVideoDiffusionPipeline,
    UNetSpatioTemporalConditionModel,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanPipeline,
    WanTransformer3DModel,
)
from diffusers.pipelines.ltx2 import LTX2TextConnectors, LTX2Vocoder
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel, CLIPVisionModelWithProjection

from kit import opensora as open_sora
from kit.pipelines import FLOW, Rig, generators, randomise, tiny_wan
from stg_lab.families import family_of
from stg_lab.opensora import AutoencoderKLOpenSora, OpenSoraPipeline, STDiT3Transformer3DModel

STEPS = 3


class Member(Rig):
    """A tiny pipeline with the call that it is made with; embeddings stand in for prompts."""

    name = ""
    shares_noise = ""  # why a sample of a batch is not the same alone, where that is so
    scheduler_calls = 1  # how often a step calls `scheduler.step`; the last one takes it
    exactly = True  # whether CFG rebuilt from the branches is the pipeline's own bit for bit
    decoded_apart = ""  # why the pipeline's own output is not the decoded latents of a recording, where that is so
    telling = STEPS  # at how many of its steps a changed prediction shows

    def arguments(self, changes: dict[str, Any]) -> dict[str, Any]:
        return {"num_inference_steps": STEPS, "output_type": "latent", **self.call, **changes}

    def stock(self, *, seed: int = 0, count: int = 1, **changes: Any) -> Any:
        output = self.pipe(**{"generator": generators(seed, count), **self.arguments(changes)})
        return output.frames

    def off(self) -> dict[str, Any]:
        """Changes that turn CFG off."""
        return {family_of(self.pipe).scale_argument: 1.0}

    def scales(self) -> Any:
        """The CFG scale, shaped to multiply recorded predictions with."""
        family = family_of(self.pipe)
        scale = family.scales(self.pipe, next(iter(family.denoisers(self.pipe))))
        return family.unpack(scale, self.pipe) if isinstance(scale, Tensor) else scale

    def to_bfloat16(self) -> None:
        """The pipeline as it is when it is loaded so."""
        self.pipe.to(torch.bfloat16)

    def unpacked(self, latents: Tensor) -> Tensor:
        """Latents that the pipeline returned, as recordings have them."""
        return family_of(self.pipe).unpack(latents, self.pipe).float()

    def predicted(self, output: Tensor) -> Tensor:
        """A piece of the denoiser's output, as recordings have predictions."""
        return self.unpacked(output)

    def at_step(self, output: Tensor, recording: Any, step: int) -> Tensor:
        """The same, where that takes the step that it is about."""
        return self.predicted(output)

    def identity(self, attention: nn.Module) -> Callable[..., Tensor] | None:
        """A forward of a self-attention whose map is the identity, where its kernel is not torch's own."""
        return None

    def returned(self, final: Tensor) -> Tensor:
        """The final latents of a recording, as the pipeline returns them, but for their layout."""
        return final

    def decodable(self, final: Tensor) -> Tensor:
        """The final latents of a recording, as the pipeline decodes them, but for their layout."""
        return final

    def two(self) -> dict[str, Any]:
        """Arguments for a batch of two different prompts (or pictures)."""
        text = {k: v for k, v in self.call.items() if "_embeds" in k or "_mask" in k}
        doubled = {k: torch.cat([v, v if "_mask" in k else v.flip(-1)]) for k, v in text.items()}
        if "prompt" in self.call:
            doubled["prompt"] = [self.call["prompt"], "a blue two growing"]
        if "image" in self.call:
            doubled["image"] = [self.call["image"], self.call["image"].rotate(180)]
        return doubled


def noise(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def embeds(
    tokens: int,
    width: int,
    *,
    mask: bool | None = None,
    names: tuple[str, str] = ("prompt_embeds", "prompt_attention_mask"),
) -> dict[str, Tensor]:
    """Positive and negative prompt embeddings `(1, tokens, width)`, and masks if asked for."""
    given = {names[0]: noise(1, tokens, width, seed=1), f"negative_{names[0]}": noise(1, tokens, width, seed=2)}
    if mask is not None:
        kind = torch.bool if mask else torch.int64
        ones = torch.ones(1, tokens, dtype=kind)
        given |= {names[1]: ones, f"negative_{names[1]}": ones.clone()}
        given[names[1]][:, -1] = 0  # padding
    return given


def prepared(module: nn.Module, seed: int = 0) -> Any:
    randomise(module, seed)
    return module.eval()


def picture(height: int, width: int) -> Any:
    return Image.fromarray((np.indices((height, width)).sum(0)[..., None] * [3, 5, 2]).astype(np.uint8))


def wan() -> Member:
    return Member(
        tiny_wan(),
        {"prompt": "a red seven moving left", "height": 16, "width": 16, "num_frames": 5, "max_sequence_length": 8},
    )


class OnePicture(Member):
    """Wan image-to-video takes one picture for all samples."""

    def two(self) -> dict[str, Any]:
        return {k: v for k, v in super().two().items() if k != "image"}


class FirstFrame(OnePicture):
    """TI2V-5B: the picture is the first latent frame, and what is predicted for it does not matter."""

    def predicted(self, output: Tensor) -> Tensor:
        whole = self.unpacked(output)
        whole[:, :, 0] = 0
        return whole


def wan_image(pipeline: type = WanImageToVideoPipeline, *, expand: bool = False) -> Member:
    """2.1 with CLIP embeddings of the picture, or (`expand`) as TI2V-5B, which is both image-to-video and text-to-video."""
    parts = {name: tiny_wan().components[name] for name in ("tokenizer", "text_encoder", "scheduler")}
    transformer = WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=16 if expand else 16 + 4 + 16,
        out_channels=16, text_dim=16, freq_dim=16, ffn_dim=32, num_layers=3, rope_max_seq_len=32,
        image_dim=None if expand else 8, added_kv_proj_dim=None if expand else 24,
    )  # fmt: skip
    vae = AutoencoderKLWan(base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1)
    pipe_parts = {**parts, "vae": prepared(vae), "transformer": prepared(transformer), "expand_timesteps": expand}
    call = {
        **embeds(512, 16),
        "height": 32,
        "width": 64,
        "num_frames": 9,
    }  # the transformer knows the text by its 512 tokens
    if pipeline is WanPipeline:
        return Member(pipeline(**pipe_parts), call)
    if not expand:
        config = CLIPVisionConfig(
            hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=16
        )
        processor = CLIPImageProcessor(crop_size=32, size=32)
        pipe_parts |= {"image_encoder": prepared(CLIPVisionModel(config)), "image_processor": processor}
    return (FirstFrame if expand else OnePicture)(pipeline(**pipe_parts), {**call, "image": picture(32, 64)})


def mochi() -> Member:
    transformer = MochiTransformer3DModel(
        patch_size=2, num_attention_heads=2, attention_head_dim=8, num_layers=3, pooled_projection_dim=16, in_channels=12,
        qk_norm="rms_norm", text_embed_dim=16, time_embed_dim=4, activation_fn="swiglu", max_sequence_length=16,
    )  # fmt: skip
    vae = AutoencoderKLMochi(
        latent_channels=12, out_channels=3, encoder_block_out_channels=(32, 32, 32, 32),
        decoder_block_out_channels=(32, 32, 32, 32), layers_per_block=(1, 1, 1, 1, 1),
    )  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(invert_sigmas=True)
    pipe = MochiPipeline(scheduler, prepared(vae), None, None, prepared(transformer))
    return Member(pipe, {**embeds(6, 16, mask=True), "height": 16, "width": 32, "num_frames": 7})


def cogvideox(scheduler: Callable[..., Any] = CogVideoXDDIMScheduler, pipeline: type = CogVideoXPipeline) -> Member:
    image = pipeline is CogVideoXImageToVideoPipeline
    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=8 if image else 4, out_channels=4, time_embed_dim=2, text_embed_dim=32,
        num_layers=3, sample_width=4, sample_height=2, sample_frames=9, patch_size=2, temporal_compression_ratio=4,
        max_text_seq_length=6, use_rotary_positional_embeddings=False,
    )  # fmt: skip
    vae = AutoencoderKLCogVideoX(
        in_channels=3, out_channels=3, block_out_channels=(8, 8, 8, 8), latent_channels=4, layers_per_block=1,
        norm_num_groups=2, temporal_compression_ratio=4,
        down_block_types=("CogVideoXDownBlock3D",) * 4, up_block_types=("CogVideoXUpBlock3D",) * 4,
    )  # fmt: skip
    settings = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    pipe = pipeline(None, None, prepared(vae), prepared(transformer), scheduler(**settings))
    call = {**embeds(6, 32), "height": 16, "width": 32, "num_frames": 9}
    return Member(pipe, {**call, "image": picture(16, 32)} if image else call)


def latte() -> Member:
    transformer = LatteTransformer3DModel(
        sample_size=4, num_layers=2, patch_size=2, attention_head_dim=8, num_attention_heads=2, caption_channels=16,
        in_channels=4, out_channels=8, cross_attention_dim=16, attention_bias=True, activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000, norm_type="ada_norm_single", norm_elementwise_affine=False, norm_eps=1e-6, video_length=3,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(8,) * 4, norm_num_groups=2, latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip
    scheduler = DDIMScheduler(beta_start=1e-4, beta_end=0.02, beta_schedule="linear", clip_sample=False)
    pipe = LattePipeline(None, None, prepared(vae), prepared(transformer), scheduler)
    call = {
        **embeds(6, 16),
        "height": 32,
        "width": 64,
        "video_length": 3,
        "negative_prompt": None,
        "clean_caption": False,
    }
    return Member(pipe, call)


class Velocity(Member):
    """Open-Sora: the denoiser predicts x0 - noise, the scheduler steps with its negative, and half of the output is of no use."""

    def predicted(self, output: Tensor) -> Tensor:
        return super().predicted(-output[:, : self.pipe.transformer.config.in_channels])


def opensora() -> Member:
    transformer, vae = STDiT3Transformer3DModel(**open_sora.TRANSFORMER), AutoencoderKLOpenSora(**open_sora.VAE)
    pipe = OpenSoraPipeline(prepared(transformer), prepared(vae), FlowMatchEulerDiscreteScheduler())
    words = {name: value for name, value in embeds(6, 16, mask=False).items() if "negative" not in name}
    return Velocity(pipe, {**words, "height": 32, "width": 56, "num_frames": 17})  # half a patch is left over in width


def svd() -> Member:
    unet = UNetSpatioTemporalConditionModel(
        sample_size=8, in_channels=8, out_channels=4, block_out_channels=(32, 64), layers_per_block=1,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        num_attention_heads=(2, 2), cross_attention_dim=8, projection_class_embeddings_input_dim=24,
        addition_time_embed_dim=8, num_frames=3,
    )  # fmt: skip
    vae = AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32), down_block_types=("DownEncoderBlock2D",) * 2, latent_channels=4,
    )  # fmt: skip
    encoder = CLIPVisionModelWithProjection(
        CLIPVisionConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, image_size=224,
                         patch_size=56, projection_dim=8)
    )  # fmt: skip
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction",
        use_karras_sigmas=True, timestep_type="continuous", sigma_min=0.002, sigma_max=700.0, timestep_spacing="leading",
        steps_offset=1,
    )  # fmt: skip
    pipe = StableVideoDiffusionPipeline(
        prepared(vae), prepared(encoder), prepared(unet), scheduler, CLIPImageProcessor(crop_size=224, size=224)
    )
    call = {"image": picture(16, 32), "height": 16, "width": 32, "num_frames": 3, "max_guidance_scale": 3.0}
    made = Member(pipe, call)
    made.shares_noise = "the pipeline draws noise for the picture from the first sample's generator"
    return made


class Packed(Member):
    """LTX: latents that are returned as tokens, which only whoever made the call can unpack."""

    sizes = (3, 4, 8)  # in latent pixels

    def unpacked(self, latents: Tensor) -> Tensor:
        return self.pipe._unpack_latents(latents, *self.sizes).float()


class Pictured(Packed):
    """LTX image-to-video: the picture's frame is given, and the pipeline drops what is predicted for it."""

    def predicted(self, output: Tensor) -> Tensor:
        whole = self.unpacked(output)
        whole[:, :, 0] = 0
        return whole


class Sounding(Packed):
    """LTX-2: latents come back unpacked and as the decoder wants them."""

    def unpacked(self, latents: Tensor) -> Tensor:
        return latents.float() if latents.ndim == 5 else super().unpacked(latents)

    def returned(self, final: Tensor) -> Tensor:
        vae = self.pipe.vae
        return self.pipe._denormalize_latents(final, vae.latents_mean, vae.latents_std, vae.config.scaling_factor)


class Distilled(Member):
    """HunyuanVideo: the true CFG scale is known to a call alone."""

    def scales(self) -> float:
        return self.call["true_cfg_scale"]


class Guided(Member):
    """HunyuanVideo 1.5: a component of the pipeline does CFG, and has its scale."""

    def off(self) -> dict[str, Any]:
        self.pipe.guider = self.pipe.guider.new(guidance_scale=1.0)
        return {}


def skewed(vae: Any) -> Any:
    """Statistics of the latents that are not neutral."""
    count = len(vae.latents_mean)
    vae.latents_mean.copy_(torch.linspace(-0.5, 0.5, count))
    vae.latents_std.copy_(torch.linspace(0.5, 1.5, count))
    return vae


def ltx(pipeline: type = LTXPipeline) -> Member:
    transformer = LTXVideoTransformer3DModel(
        in_channels=8, out_channels=8, num_attention_heads=2, attention_head_dim=8, cross_attention_dim=16, num_layers=3,
        caption_channels=16,
    )  # fmt: skip
    widths, blocks = (8, 8, 8, 8), (1, 1, 1, 1, 1)
    scaling = (True, True, False, False)
    vae = AutoencoderKLLTXVideo(
        latent_channels=8, block_out_channels=widths, decoder_block_out_channels=widths, layers_per_block=blocks,
        decoder_layers_per_block=blocks, spatio_temporal_scaling=scaling, decoder_spatio_temporal_scaling=scaling,
        patch_size=2,
    )  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, base_shift=0.95, max_shift=2.05, base_image_seq_len=1024, shift_terminal=0.1
    )
    pipe = pipeline(scheduler, skewed(prepared(vae)), None, None, prepared(transformer))
    call = {**embeds(6, 16, mask=True), "height": 32, "width": 64, "num_frames": 9, "guidance_scale": 3.0}
    return Packed(pipe, call) if pipeline is LTXPipeline else Pictured(pipe, {**call, "image": picture(32, 64)})


def ltx2() -> Member:
    transformer = LTX2VideoTransformer3DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=8, cross_attention_dim=16,
        audio_in_channels=4, audio_out_channels=4, audio_num_attention_heads=2, audio_attention_head_dim=4,
        audio_cross_attention_dim=8, num_layers=3, caption_channels=16, rope_double_precision=False, perturbed_attn=True,
    )  # fmt: skip
    connectors = LTX2TextConnectors(
        caption_channels=16, text_proj_in_factor=2, video_connector_num_attention_heads=2,
        video_connector_attention_head_dim=8, video_connector_num_layers=1, video_connector_num_learnable_registers=None,
        audio_connector_num_attention_heads=2, audio_connector_attention_head_dim=8, audio_connector_num_layers=1,
        audio_connector_num_learnable_registers=None, connector_rope_base_seq_len=32, rope_double_precision=False,
    )  # fmt: skip
    vae = AutoencoderKLLTX2Video(
        latent_channels=4, block_out_channels=(8,), decoder_block_out_channels=(8,), layers_per_block=(1,),
        decoder_layers_per_block=(1, 1), spatio_temporal_scaling=(True,), decoder_spatio_temporal_scaling=(True,),
        decoder_inject_noise=(False, False), downsample_type=("spatial",), upsample_residual=(False,),
        upsample_factor=(1,), down_block_types=("LTX2VideoDownBlock3D",), upsample_type=("spatiotemporal",),
    )  # fmt: skip
    audio_vae = AutoencoderKLLTX2Audio(
        base_channels=4, ch_mult=(1,), num_res_blocks=1, resolution=32, latent_channels=2, mel_bins=8
    )
    vocoder = LTX2Vocoder(
        in_channels=16, hidden_channels=8, upsample_kernel_sizes=[4, 4], upsample_factors=[2, 2], resnet_kernel_sizes=[3],
        resnet_dilations=[[1]],
    )  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, base_shift=0.95, max_shift=2.05, base_image_seq_len=1024, shift_terminal=0.1
    )
    modules = [prepared(m) for m in (vae, audio_vae, connectors, transformer, vocoder)]
    vae, audio_vae, connectors, transformer, vocoder = modules
    pipe = LTX2Pipeline(scheduler, skewed(vae), audio_vae, None, None, connectors, transformer, vocoder)
    plain = {"stg_scale": 0.0, "modality_scale": 1.0, "guidance_rescale": 0.0}
    of_sound = {"audio_guidance_scale": None, "audio_stg_scale": None, "audio_modality_scale": None}
    call = {**embeds(6, 32, mask=False), "height": 32, "width": 64, "num_frames": 5, "guidance_scale": 3.0}
    return Sounding(pipe, {**call, **plain, **of_sound, "spatio_temporal_guidance_blocks": None})


def hunyuan() -> Member:
    transformer = HunyuanVideoTransformer3DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=10, num_layers=2, num_single_layers=2,
        num_refiner_layers=1, guidance_embeds=True, text_embed_dim=16, pooled_projection_dim=8, rope_axes_dim=(2, 4, 4),
    )  # fmt: skip
    vae = AutoencoderKLHunyuanVideo(
        latent_channels=4, block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4
    )
    pipe = HunyuanVideoPipeline(
        None, None, prepared(transformer), prepared(vae), FlowMatchEulerDiscreteScheduler(shift=7.0), None, None
    )
    call = {**embeds(6, 16, mask=True), "height": 32, "width": 64, "num_frames": 9, "true_cfg_scale": 3.0}
    pooled = {"pooled_prompt_embeds": noise(1, 8, seed=3), "negative_pooled_prompt_embeds": noise(1, 8, seed=4)}
    return Distilled(pipe, {**call, **pooled})


def hunyuan15() -> Member:
    transformer = HunyuanVideo15Transformer3DModel(
        in_channels=9, out_channels=4, num_attention_heads=2, attention_head_dim=10, num_layers=3, num_refiner_layers=1,
        text_embed_dim=16, text_embed_2_dim=8, image_embed_dim=8, rope_axes_dim=(2, 4, 4), target_size=64, task_type="t2v",
    )  # fmt: skip
    vae = AutoencoderKLHunyuanVideo15(
        latent_channels=4, block_out_channels=(8, 8, 8, 8, 8), layers_per_block=1,
    )  # fmt: skip
    pipe = HunyuanVideo15Pipeline(
        None, None, prepared(transformer), prepared(vae), FlowMatchEulerDiscreteScheduler(shift=7.0), None, None,
        ClassifierFreeGuidance(guidance_scale=3.0),
    )  # fmt: skip
    pipe.vision_num_semantic_tokens = 2
    words = embeds(6, 16, mask=True, names=("prompt_embeds", "prompt_embeds_mask"))
    glyphs = embeds(4, 8, mask=True, names=("prompt_embeds_2", "prompt_embeds_mask_2"))
    return Guided(pipe, {**words, **glyphs, "height": 32, "width": 64, "num_frames": 9})


class Still(Member):
    """A pipeline that makes pictures."""

    def stock(self, *, seed: int = 0, count: int = 1, **changes: Any) -> Any:
        output = self.pipe(**{"generator": generators(seed, count), **self.arguments(changes)})
        return output.images if changes.get("output_type") is None else output.images[:, None]


class StillTokens(Still, Distilled):
    """Flux: packed, and the true CFG scale is known to a call alone."""

    def unpacked(self, latents: Tensor) -> Tensor:
        height, width = self.call["height"], self.call["width"]
        return self.pipe._unpack_latents(latents, height, width, self.pipe.vae_scale_factor)[:, :, None].float()


def picture_vae() -> Any:
    return prepared(
        AutoencoderKL(
            block_out_channels=(8, 8), norm_num_groups=2, latent_channels=4, scaling_factor=1.5, shift_factor=0.1,
            down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        )
    )  # fmt: skip


def pooled(width: int) -> dict[str, Tensor]:
    return {"pooled_prompt_embeds": noise(1, width, seed=3), "negative_pooled_prompt_embeds": noise(1, width, seed=4)}


def flux() -> Member:
    transformer = FluxTransformer2DModel(
        in_channels=16, num_layers=2, num_single_layers=2, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=16, pooled_projection_dim=8, guidance_embeds=True, axes_dims_rope=(2, 2, 4),
    )  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
    pipe = FluxPipeline(scheduler, picture_vae(), None, None, None, None, prepared(transformer))
    return StillTokens(pipe, {**embeds(6, 16), **pooled(8), "height": 16, "width": 24, "true_cfg_scale": 3.0})


def sd3() -> Member:
    transformer = SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=3, attention_head_dim=8,
        num_attention_heads=2, joint_attention_dim=16, caption_projection_dim=16, pooled_projection_dim=8,
        pos_embed_max_size=16, dual_attention_layers=(0,), qk_norm="rms_norm",
    )  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    pipe = StableDiffusion3Pipeline(prepared(transformer), scheduler, picture_vae(), None, None, None, None, None, None)
    return Still(pipe, {**embeds(6, 16), **pooled(8), "height": 16, "width": 24, "guidance_scale": 3.0})


def skyreels() -> Member:
    transformer = SkyReelsV2Transformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=16,
        freq_dim=16, ffn_dim=32, num_layers=3, rope_max_seq_len=32,
    )  # fmt: skip
    pipe = SkyReelsV2Pipeline(None, None, prepared(transformer), wan_vae(), UniPCMultistepScheduler(**FLOW))
    return Member(pipe, {**embeds(6, 16), "height": 32, "width": 64, "num_frames": 9})


def wan_vae() -> Any:
    statistics = {"latents_mean": [-0.5, 0.0, 0.2, 0.5], "latents_std": [0.5, 1.0, 1.2, 1.5]}
    return prepared(AutoencoderKLWan(base_dim=3, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, **statistics))


def allegro() -> Member:
    transformer = AllegroTransformer3DModel(
        num_attention_heads=2, attention_head_dim=24, in_channels=4, out_channels=4, num_layers=3, cross_attention_dim=48,
        sample_height=4, sample_width=8, sample_frames=2, caption_channels=16,
    )  # fmt: skip
    vae = AutoencoderKLAllegro(block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=2)
    vae.kernel = vae.stride = (12, 32, 64)  # one tile
    vae.enable_tiling()  # it cannot decode without
    scheduler = EulerAncestralDiscreteScheduler(beta_start=1e-4, beta_end=0.02, beta_schedule="linear")
    pipe = AllegroPipeline(None, None, prepared(vae), prepared(transformer), scheduler)
    call = {**embeds(6, 16, mask=False), "height": 32, "width": 64, "num_frames": 12}
    return Member(pipe, {**call, "negative_prompt": None, "clean_caption": False})


class PartlyWide(Member):
    """Kandinsky 5: some of its modules must stay in float32."""

    def to_bfloat16(self) -> None:
        super().to_bfloat16()
        wide = set(self.pipe.transformer._keep_in_fp32_modules)
        for path, module in self.pipe.transformer.named_modules():
            if wide & set(path.split(".")):
                module.float()


def kandinsky(*, pictured: bool = False) -> Member:
    """Text-to-video, or (`pictured`) the same by a transformer that can take a picture."""
    transformer = Kandinsky5Transformer3DModel(
        in_visual_dim=4, out_visual_dim=4, in_text_dim=16, in_text_dim2=8, time_dim=16, model_dim=24, ff_dim=32,
        num_text_blocks=1, num_visual_blocks=3, axes_dims=(4, 4, 4), visual_cond=pictured,
    )  # fmt: skip
    vae = AutoencoderKLHunyuanVideo(
        latent_channels=4, block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4
    )
    scheduler = FlowMatchEulerDiscreteScheduler(shift=5.0)
    pipe = Kandinsky5T2VPipeline(prepared(transformer), prepared(vae), None, None, None, None, scheduler)
    words = {"prompt_embeds_qwen": noise(1, 6, 16, seed=1), "negative_prompt_embeds_qwen": noise(1, 4, 16, seed=2)}
    pooled = {"prompt_embeds_clip": noise(1, 8, seed=3), "negative_prompt_embeds_clip": noise(1, 8, seed=4)}
    lengths = {"prompt_cu_seqlens": torch.tensor([0, 6]), "negative_prompt_cu_seqlens": torch.tensor([0, 4])}
    return PartlyWide(pipe, {**words, **pooled, **lengths, "height": 32, "width": 64, "num_frames": 9})


class Linear(Member):
    """SanaVideo: attention without a softmax, and without torch's kernel."""

    def identity(self, attention: Any) -> Callable[..., Tensor]:
        return lambda hidden_states, **_: attention.to_out[1](attention.to_out[0](attention.to_v(hidden_states)))


class LinearLearned(Linear):
    """The denoiser predicts a variance as well."""

    def predicted(self, output: Tensor) -> Tensor:
        return super().predicted(output[:, : self.pipe.transformer.config.in_channels])


def sana(*, learned: bool = False) -> Member:
    transformer = SanaVideoTransformer3DModel(
        in_channels=4, out_channels=8 if learned else 4, num_attention_heads=2, attention_head_dim=12, num_layers=3,
        num_cross_attention_heads=2, cross_attention_head_dim=12, cross_attention_dim=24, caption_channels=16, sample_size=30,
    )  # fmt: skip
    pipe = SanaVideoPipeline(None, None, wan_vae(), prepared(transformer), DPMSolverMultistepScheduler(**FLOW))
    call = {**embeds(6, 16, mask=False), "height": 32, "width": 64, "frames": 9, "use_resolution_binning": False}
    return (LinearLearned if learned else Linear)(pipe, {**call, "negative_prompt": None})


class Guardrail:
    """Stands for the one that Cosmos must have."""

    def to(self, device: Any) -> None:
        pass

    def check_text_safety(self, prompt: str) -> bool:
        return True

    def check_video_safety(self, frames: np.ndarray) -> np.ndarray:
        return frames


class OneStepCFG(Member):
    """Cosmos: the scheduler is called twice a step, and recordings have x0 for predictions."""

    scheduler_calls = 2
    telling = STEPS - 1  # at the last one sigma is 0.002, and x0 all but x_t

    def at_step(self, output: Tensor, recording: Any, step: int) -> Tensor:
        now = recording.ds.isel(step=step)
        sigma = torch.tensor(float(now.sigma), dtype=torch.float32)
        return self.pipe.scheduler.precondition_outputs(torch.from_numpy(now.x_t.values), output, sigma).float()


def cosmos() -> Member:
    transformer = CosmosTransformer3DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=16, num_layers=3, mlp_ratio=2,
        text_embed_dim=16, adaln_lora_dim=4, max_size=(4, 32, 32), concat_padding_mask=False,  # the mask needs torchvision
    )  # fmt: skip
    vae = AutoencoderKLCosmos(
        latent_channels=4, encoder_block_out_channels=(8, 8, 8, 8), decode_block_out_channels=(8, 8, 8, 8), num_layers=1,
        attention_resolutions=(8,), resolution=64, latents_mean=np.linspace(-0.5, 0.5, 16).tolist(),
        latents_std=np.linspace(0.5, 1.5, 16).tolist(),
    )  # fmt: skip
    scheduler = EDMEulerScheduler(sigma_data=0.5, final_sigmas_type="sigma_min")
    pipe = CosmosTextToWorldPipeline(None, None, prepared(transformer), prepared(vae), scheduler, Guardrail())
    return OneStepCFG(pipe, {**embeds(6, 16), "height": 32, "width": 64, "num_frames": 17})


ZOO: dict[str, Callable[[], Member]] = {
    "wan": wan,
    "wan-image": wan_image,
    "wan-5b": functools.partial(wan_image, WanPipeline, expand=True),
    "wan-5b-image": functools.partial(wan_image, expand=True),
    "mochi": mochi,
    "cogvideox": cogvideox,
    "cogvideox-dpm": functools.partial(cogvideox, CogVideoXDPMScheduler),
    "cogvideox-image": functools.partial(cogvideox, pipeline=CogVideoXImageToVideoPipeline),
    "latte": latte,
    "opensora": opensora,
    "svd": svd,
    "ltx": ltx,
    "ltx-image": functools.partial(ltx, LTXImageToVideoPipeline),
    "ltx2": ltx2,
    "hunyuan": hunyuan,
    "hunyuan15": hunyuan15,
    "flux": flux,
    "sd3": sd3,
    "skyreels": skyreels,
    "allegro": allegro,
    "kandinsky": kandinsky,
    "kandinsky-picture": functools.partial(kandinsky, pictured=True),
    "sana": sana,
    "sana-learned": functools.partial(sana, learned=True),
    "cosmos": cosmos,
}


def member(name: str) -> Member:
    """A fresh tiny pipeline of a family."""
    return made(ZOO[name], name)


def made(maker: Callable[[], Member], name: str) -> Member:
    """What a maker makes, always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(0)  # constructors draw what `randomise` only adds to
        one = maker()
    one.name = name
    one.pipe.set_progress_bar_config(disable=True)
    return one
