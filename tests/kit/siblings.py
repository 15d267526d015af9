"""Tiny pipelines of the siblings: image-to-video, video-to-video, control and condition, by models that `kit.zoo` has already.

They are put to fewer tests than the zoo, those that tell whether a class is served at all.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from diffusers import (
    AnimateDiffControlNetPipeline,
    AnimateDiffPipeline,
    AnimateDiffSDXLPipeline,
    AnimateDiffVideoToVideoControlNetPipeline,
    AnimateDiffVideoToVideoPipeline,
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLHunyuanVideo,
    AutoencoderKLQwenImage,
    ChromaPipeline,
    ChromaTransformer2DModel,
    ChronoEditPipeline,
    ClassifierFreeGuidance,
    CogVideoXFunControlPipeline,
    CogVideoXTransformer3DModel,
    CogVideoXVideoToVideoPipeline,
    ControlNetModel,
    Cosmos2_5_PredictBasePipeline,
    Cosmos2VideoToWorldPipeline,
    CosmosTransformer3DModel,
    CosmosVideoToWorldPipeline,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Pipeline,
    Flux2Transformer2DModel,
    HunyuanSkyreelsImageToVideoPipeline,
    HunyuanVideo15ImageToVideoPipeline,
    HunyuanVideo15Transformer3DModel,
    HunyuanVideoFramepackPipeline,
    HunyuanVideoFramepackTransformer3DModel,
    HunyuanVideoImageToVideoPipeline,
    HunyuanVideoTransformer3DModel,
    Kandinsky5I2VPipeline,
    LTX2ConditionPipeline,
    LTX2ImageToVideoPipeline,
    LTX2InContextPipeline,
    LTXConditionPipeline,
    LTXPipeline,
    LucyEditPipeline,
    MotifVideoImage2VideoPipeline,
    MotifVideoPipeline,
    MotifVideoTransformer3DModel,
    MotionAdapter,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SanaImageToVideoPipeline,
    SkyReelsV2DiffusionForcingImageToVideoPipeline,
    SkyReelsV2DiffusionForcingPipeline,
    SkyReelsV2DiffusionForcingVideoToVideoPipeline,
    SkyReelsV2ImageToVideoPipeline,
    SkyReelsV2Transformer3DModel,
    UNet2DConditionModel,
    UNetMotionModel,
    UniPCMultistepScheduler,
    WanAnimatePipeline,
    WanAnimateTransformer3DModel,
    WanTransformer3DModel,
    WanVACEPipeline,
    WanVACETransformer3DModel,
    WanVideoToVideoPipeline,
)
from diffusers.modular_pipelines import WanBlocks
from diffusers.modular_pipelines.hunyuan_video1_5.modular_blocks_hunyuan_video1_5 import HunyuanVideo15Blocks
from diffusers.modular_pipelines.ltx.modular_blocks_ltx import LTXBlocks
from diffusers.pipelines.ltx2.pipeline_ltx2_condition import LTX2VideoCondition
from torch import Tensor
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    SiglipImageProcessor,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from kit import zoo
from kit.pipelines import FLOW, generators
from kit.zoo import Distilled, Guided, Linear, Member, PartlyWide, Still, embeds, picture, pooled, prepared
from stg_lab.families.flux2 import statistics as patch_statistics
from stg_lab.families.wan import statistics


def clip(frames: int, height: int, width: int) -> list[Any]:
    """A little film."""
    return [picture(height, width).rotate(90 * i) for i in range(frames)]


def clip_vision() -> dict[str, Any]:
    """A CLIP that reads pictures."""
    config = CLIPVisionConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=16
    )
    processor = CLIPImageProcessor(crop_size=32, size=32)
    return {"image_encoder": prepared(CLIPVisionModel(config)), "image_processor": processor}


def siglip_vision() -> dict[str, Any]:
    config = SiglipVisionConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=16
    )
    processor = SiglipImageProcessor(size={"height": 32, "width": 32})
    return {"image_encoder": prepared(SiglipVisionModel(config)), "feature_extractor": processor}


# ---- Wan ----

WAN = {
    "patch_size": (1, 2, 2), "num_attention_heads": 2, "attention_head_dim": 12, "text_dim": 16, "freq_dim": 16,
    "ffn_dim": 32, "num_layers": 3, "rope_max_seq_len": 32,
}  # fmt: skip
WAN_CALL = {"height": 32, "width": 64, "num_frames": 9}


def wan_video() -> Member:
    """Starts from a noised video, half-way."""
    transformer = WanTransformer3DModel(**WAN, in_channels=4, out_channels=4)
    pipe = WanVideoToVideoPipeline(None, None, prepared(transformer), zoo.wan_vae(), UniPCMultistepScheduler(**FLOW))
    call = {**embeds(6, 16), "height": 32, "width": 64, "video": clip(9, 32, 64)}
    return Member(pipe, {**call, "strength": 0.8, "num_inference_steps": 4})


class OneGenerator(Member):
    """A pipeline that takes one generator for all samples."""

    def stock(self, *, seed: int = 0, count: int = 1, **changes: Any) -> Any:
        return super().stock(count=count, generator=generators(seed, 1)[0], **changes)


def wan_vace(*, reference: bool = False) -> Member:
    transformer = WanVACETransformer3DModel(
        **WAN, in_channels=4, out_channels=4, vace_layers=[0, 2], vace_in_channels=2 * 4 + 64
    )
    pipe = WanVACEPipeline(None, None, zoo.wan_vae(), UniPCMultistepScheduler(**FLOW), prepared(transformer))
    call = {**embeds(6, 16), **WAN_CALL, "video": clip(9, 32, 64)}
    if reference:
        return Referring(pipe, {**call, "reference_images": [picture(32, 64)]})
    return OneGenerator(pipe, call)


class Referring(OneGenerator):
    """Wan VACE with a reference picture: its frame is sampled in front of the video."""

    def unpacked(self, latents: Tensor) -> Tensor:
        return latents[:, :, 1:].float()


class Animated(Member):
    """Wan Animate: latents come back as the decoder wants them."""

    def returned(self, final: Tensor) -> Tensor:
        mean, inverse = statistics(self.pipe.vae, final)
        return final / inverse + mean


def wan_animate() -> Member:
    transformer = WanAnimateTransformer3DModel(
        **WAN, in_channels=12, latent_channels=4, out_channels=4, image_dim=8,
        motion_encoder_channel_sizes={"4": 4, "8": 4, "16": 4}, motion_encoder_size=16, motion_style_dim=4, motion_dim=2,
        motion_encoder_dim=4, face_encoder_hidden_dim=8, face_encoder_num_heads=2, inject_face_latents_blocks=3,
    )  # fmt: skip
    seeing = clip_vision()
    pipe = WanAnimatePipeline(
        None, None, zoo.wan_vae(), UniPCMultistepScheduler(**FLOW), seeing["image_processor"], seeing["image_encoder"],
        prepared(transformer),
    )  # fmt: skip
    call = {**embeds(6, 16), "height": 32, "width": 64, "segment_frame_length": 9, "guidance_scale": 3.0}
    return Animated(
        pipe, {**call, "image": picture(32, 64), "pose_video": clip(9, 32, 64), "face_video": clip(9, 16, 16)}
    )


def lucy() -> Member:
    transformer = WanTransformer3DModel(**WAN, in_channels=8, out_channels=4)
    pipe = LucyEditPipeline(None, None, zoo.wan_vae(), UniPCMultistepScheduler(**FLOW), prepared(transformer))
    return Member(pipe, {**embeds(6, 16), **WAN_CALL, "video": clip(9, 32, 64)})


def chrono() -> Member:
    transformer = WanTransformer3DModel(**WAN, in_channels=12, out_channels=4, image_dim=8, added_kv_proj_dim=24)
    seeing = clip_vision()
    pipe = ChronoEditPipeline(
        None, None, seeing["image_encoder"], seeing["image_processor"], prepared(transformer), zoo.wan_vae(),
        UniPCMultistepScheduler(**FLOW),
    )  # fmt: skip
    return Member(pipe, {**embeds(512, 16), **WAN_CALL, "image": picture(32, 64)})


def skyreels_image() -> Member:
    transformer = SkyReelsV2Transformer3DModel(
        **WAN, in_channels=4 + 4 + 4, out_channels=4, image_dim=8, added_kv_proj_dim=24
    )
    seeing = clip_vision()
    pipe = SkyReelsV2ImageToVideoPipeline(
        None, None, seeing["image_encoder"], seeing["image_processor"], prepared(transformer), zoo.wan_vae(),
        UniPCMultistepScheduler(**FLOW),
    )  # fmt: skip
    return Member(pipe, {**embeds(512, 16), **WAN_CALL, "image": picture(32, 64)})


def forcing(pipeline: type = SkyReelsV2DiffusionForcingPipeline) -> Member:
    transformer = SkyReelsV2Transformer3DModel(**WAN, in_channels=4, out_channels=4, inject_sample_info=True)
    pipe = pipeline(None, None, prepared(transformer), zoo.wan_vae(), UniPCMultistepScheduler(**FLOW))
    call = {**embeds(6, 16), **WAN_CALL, "prompt": None}
    if pipeline is SkyReelsV2DiffusionForcingPipeline:
        return Member(pipe, call)
    if pipeline is SkyReelsV2DiffusionForcingImageToVideoPipeline:
        return FirstKept(pipe, {**call, "image": picture(32, 64)})
    history = {"overlap_history": 5, "base_num_frames": 17}  # 2 latent frames of the video are given, and 3 made
    return Continued(pipe, {**call, "num_frames": 17, "video": clip(5, 32, 64), **history})


class Continued(Member):
    """The end of a video is given."""

    decoded_apart = "the pipeline returns the given video in front of what it has made"

    def predicted(self, output: Tensor) -> Tensor:
        whole = self.unpacked(output)
        whole[:, :, :2] = 0
        return whole


class FirstKept(Member):
    """The picture's frame is given."""

    def predicted(self, output: Tensor) -> Tensor:
        whole = self.unpacked(output)
        whole[:, :, 0] = 0
        return whole


# ---- HunyuanVideo ----

HUNYUAN = {
    "num_attention_heads": 2, "attention_head_dim": 10, "num_layers": 2, "num_single_layers": 2, "num_refiner_layers": 1,
    "text_embed_dim": 16, "pooled_projection_dim": 8, "rope_axes_dim": (2, 4, 4),
}  # fmt: skip


def hunyuan_vae() -> Any:
    return prepared(
        AutoencoderKLHunyuanVideo(
            latent_channels=4, block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4
        )
    )


def hunyuan_call() -> dict[str, Any]:
    call = {**embeds(6, 16, mask=True), "height": 32, "width": 64, "num_frames": 9, "true_cfg_scale": 3.0}
    return {**call, **pooled(8), "image": picture(32, 64)}


class Replaced(Distilled):
    """HunyuanVideo image-to-video with token replacement: the picture's frame is given."""

    def predicted(self, output: Tensor) -> Tensor:
        whole = self.unpacked(output)
        whole[:, :, 0] = 0
        return whole


class Concatenated(Distilled):
    """HunyuanVideo image-to-video with the picture in channels of its own: the first latent frame is sampled and dropped."""

    def returned(self, final: Tensor) -> Tensor:
        return final[:, :, 1:]


def hunyuan_image(kind: str) -> Member:
    transformer = HunyuanVideoTransformer3DModel(
        **HUNYUAN, in_channels=9 if kind == "latent_concat" else 4, out_channels=4, image_condition_type=kind,
        guidance_embeds=kind == "token_replace",
    )  # fmt: skip
    pipe = HunyuanVideoImageToVideoPipeline(
        None, None, prepared(transformer), hunyuan_vae(), FlowMatchEulerDiscreteScheduler(shift=7.0), None, None, None
    )
    return (Replaced if kind == "token_replace" else Concatenated)(pipe, hunyuan_call())


def hunyuan_skyreels() -> Member:
    transformer = HunyuanVideoTransformer3DModel(**HUNYUAN, in_channels=8, out_channels=4, guidance_embeds=True)
    pipe = HunyuanSkyreelsImageToVideoPipeline(
        None, None, prepared(transformer), hunyuan_vae(), FlowMatchEulerDiscreteScheduler(shift=7.0), None, None
    )
    return Distilled(pipe, hunyuan_call())


class Sections(Distilled):
    """FramePack: what is returned has the picture's frame in front."""

    decoded_apart = "the pipeline decodes a section with its neighbours; lab.decode shows it alone"

    def stock(self, **changes: Any) -> Any:
        found = super().stock(**changes)
        return found[-1] if isinstance(found, list) else found

    def unpacked(self, latents: Tensor) -> Tensor:
        return latents[:, :, 1:].float() if latents.shape[2] == 4 else latents.float()


def framepack() -> Member:
    transformer = HunyuanVideoFramepackTransformer3DModel(
        **HUNYUAN, in_channels=4, out_channels=4, guidance_embeds=True, has_image_proj=True, image_proj_dim=8,
        has_clean_x_embedder=True,
    )  # fmt: skip
    seeing = siglip_vision()
    pipe = HunyuanVideoFramepackPipeline(
        None, None, prepared(transformer), hunyuan_vae(), FlowMatchEulerDiscreteScheduler(shift=7.0), None, None,
        seeing["image_encoder"], seeing["feature_extractor"],
    )  # fmt: skip
    return Sections(pipe, {**hunyuan_call(), "latent_window_size": 3})


def hunyuan15_image() -> Member:
    transformer = HunyuanVideo15Transformer3DModel(
        in_channels=9, out_channels=4, num_attention_heads=2, attention_head_dim=10, num_layers=3, num_refiner_layers=1,
        text_embed_dim=16, text_embed_2_dim=8, image_embed_dim=8, rope_axes_dim=(2, 4, 4), target_size=64, task_type="i2v",
    )  # fmt: skip
    other = zoo.hunyuan15()
    parts = {k: v for k, v in other.pipe.components.items() if k != "transformer"}
    pipe = HunyuanVideo15ImageToVideoPipeline(**parts, transformer=prepared(transformer), **siglip_vision())
    call = {k: v for k, v in other.call.items() if k not in ("height", "width")}
    return Guided(pipe, {**call, "image": picture(64, 64)})


# ---- CogVideoX ----


def cogvideox_video() -> Member:
    other = zoo.cogvideox()
    pipe = CogVideoXVideoToVideoPipeline(**other.pipe.components)
    call = {k: v for k, v in other.call.items() if k != "num_frames"}
    return Member(pipe, {**call, "video": clip(9, 16, 32), "strength": 0.8, "num_inference_steps": 4})


def cogvideox_control() -> Member:
    other = zoo.cogvideox()
    config = {**other.pipe.transformer.config, "in_channels": 8, "out_channels": 4}
    pipe = CogVideoXFunControlPipeline(
        **{**other.pipe.components, "transformer": prepared(CogVideoXTransformer3DModel.from_config(config))}
    )
    call = {k: v for k, v in other.call.items() if k != "num_frames"}
    return Member(pipe, {**call, "control_video": clip(9, 16, 32)})


# ---- LTX ----


class SoundingPictured(zoo.Sounding):
    """LTX-2 image-to-video: the picture's frame is given."""

    def predicted(self, output: Tensor) -> Tensor:
        whole = self.unpacked(output)
        whole[:, :, 0] = 0
        return whole


class Conditioned(zoo.Sounding):
    """LTX-2 condition: frames that are given are mixed into x0, and stand behind the video where they are not its first."""

    def at_step(self, output: Tensor, recording: Any, step: int) -> Tensor:
        tokens = math.prod(self.sizes)
        whole, x_t = self.unpacked(output[:, :tokens]), recording.ds.isel(step=step)
        x_t, sigma = torch.from_numpy(x_t.x_t.values), torch.tensor(float(x_t.sigma))
        given = (x_t - recording.ds.final.values)[:, :, :1] / sigma  # its first frame is kept to the end
        return torch.cat([given, whole[:, :, 1:]], dim=2)


def ltx2_image() -> Member:
    other = zoo.ltx2()
    pipe = LTX2ImageToVideoPipeline(**{k: v for k, v in other.pipe.components.items() if k != "audio_scheduler"})
    return SoundingPictured(pipe, {**other.call, "image": picture(32, 64), "image_crf": 0})


def ltx2_condition(pipeline: type = LTX2ConditionPipeline) -> Member:
    other = zoo.ltx2()
    frames = [LTX2VideoCondition(picture(32, 64), 0, 1.0, crf=0), LTX2VideoCondition(picture(32, 64), 1, 1.0, crf=0)]
    parts = other.pipe.components
    if pipeline is LTX2InContextPipeline:
        parts.pop("duration_head")
    return Conditioned(pipeline(**parts), {**other.call, "conditions": frames})


class Beside(zoo.Packed):
    """LTX condition: tokens that are given stand in front of the video's, and latents come back unpacked."""

    def unpacked(self, latents: Tensor) -> Tensor:
        return latents.float() if latents.ndim == 5 else super().unpacked(latents[:, -math.prod(self.sizes) :])


def ltx_condition() -> Member:
    other = zoo.ltx()
    parts = {**other.pipe.components, "scheduler": FlowMatchEulerDiscreteScheduler()}
    call = {**other.call, "image": picture(32, 64), "frame_index": 8}
    return Beside(LTXConditionPipeline(**parts), call)


# ---- AnimateDiff ----


LEVELS = {"block_out_channels": (8, 8), "layers_per_block": 1, "norm_num_groups": 2}
DOWN = {"down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "cross_attention_dim": 16, "attention_head_dim": 2}
#: Of Stable Diffusion XL, beside that.
LARGE = {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 4,
    "projection_class_embeddings_input_dim": 8 + 24,
}


def animatediff(pipeline: type = AnimateDiffPipeline, *, control: bool = False) -> Member:
    large = pipeline is AnimateDiffSDXLPipeline
    unet = UNet2DConditionModel(
        **LEVELS, **DOWN, **(LARGE if large else {}), sample_size=8, up_block_types=("UpBlock2D", "CrossAttnUpBlock2D")
    )
    adapter = MotionAdapter(
        block_out_channels=(8, 8), motion_layers_per_block=1, motion_norm_num_groups=2, motion_num_attention_heads=2
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 8), norm_num_groups=2, latent_channels=4, scaling_factor=1.5,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    parts = {
        "vae": prepared(vae),
        "text_encoder": None,
        "tokenizer": None,
        "unet": prepared(UNetMotionModel.from_unet2d(prepared(unet), prepared(adapter, 1)), 2),
        "motion_adapter": adapter,
        "scheduler": DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="linear", clip_sample=False),
    }
    call = {**embeds(6, 16), "height": 16, "width": 32}
    if large:
        parts |= {"text_encoder_2": None, "tokenizer_2": None}
        call |= {**pooled(8), "guidance_scale": 3.0}
    if control:
        net = ControlNetModel(**LEVELS, **DOWN, conditioning_embedding_out_channels=(4, 4))
        parts["controlnet"] = prepared(net)
        call["conditioning_frames"] = clip(3, 16, 32)
    if "Video" in pipeline.__name__:
        call |= {"video": clip(3, 16, 32), "strength": 0.8, "num_inference_steps": 4}
    else:
        call["num_frames"] = 3
    return Member(pipeline(**parts), call)


# ---- pictures ----


class StillLatents(Still):
    """Packed tokens come back."""

    def unpacked(self, latents: Tensor) -> Tensor:
        height, width = self.call["height"], self.call["width"]
        found = self.pipe._unpack_latents(latents, height, width, self.pipe.vae_scale_factor)
        return (found if found.ndim == 5 else found[:, :, None]).float()


PICTURE = {"height": 16, "width": 24}


def chroma() -> Member:
    transformer = ChromaTransformer2DModel(
        in_channels=16, num_layers=2, num_single_layers=2, attention_head_dim=8, num_attention_heads=2, joint_attention_dim=16,
        axes_dims_rope=(2, 2, 4), approximator_num_channels=8, approximator_hidden_dim=8, approximator_layers=1,
    )  # fmt: skip
    pipe = ChromaPipeline(
        FlowMatchEulerDiscreteScheduler(shift=3.0), zoo.picture_vae(), None, None, prepared(transformer)
    )
    return StillLatents(pipe, {**embeds(6, 16, mask=True), **PICTURE, "guidance_scale": 3.0})


def qwen() -> Member:
    transformer = QwenImageTransformer2DModel(
        in_channels=16, out_channels=4, num_layers=3, attention_head_dim=8, num_attention_heads=2, joint_attention_dim=16,
        axes_dims_rope=(2, 2, 4),
    )  # fmt: skip
    statistics = {"latents_mean": [-0.5, 0.0, 0.2, 0.5], "latents_std": [0.5, 1.0, 1.2, 1.5]}
    vae = AutoencoderKLQwenImage(base_dim=8, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, **statistics)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
    pipe = QwenImagePipeline(scheduler, prepared(vae), None, None, prepared(transformer))
    words = embeds(6, 16, mask=False, names=("prompt_embeds", "prompt_embeds_mask"))
    positive = {k: v for k, v in words.items() if "negative" not in k}
    return StillLatents(pipe, {**positive, "height": 32, "width": 48})


class Patches(Still):
    """Flux.2: tokens of patches."""

    def unpacked(self, latents: Tensor) -> Tensor:
        if latents.ndim == 4:
            return latents[:, :, None].float()
        patches = latents.mT.unflatten(2, (self.call["height"] // 4, -1))
        return self.pipe._unpatchify_latents(patches)[:, :, None].float()

    def returned(self, final: Tensor) -> Tensor:
        if isinstance(self.pipe, Flux2Pipeline):
            return final
        patches = self.pipe._patchify_latents(final[:, :, 0].contiguous())
        mean, std = patch_statistics(self.pipe.vae, patches)
        return self.pipe._unpatchify_latents(patches * std + mean)[:, :, None]

    def off(self) -> dict[str, Any]:
        return {"guidance_scale": 1.0}


def flux2(pipeline: type = Flux2Pipeline) -> Member:
    transformer = Flux2Transformer2DModel(
        in_channels=16, num_layers=2, num_single_layers=2, attention_head_dim=8, num_attention_heads=2, joint_attention_dim=16,
        axes_dims_rope=(2, 2, 2, 2), timestep_guidance_channels=8, guidance_embeds=pipeline is Flux2Pipeline,
    )  # fmt: skip
    vae = AutoencoderKLFlux2(
        block_out_channels=(8, 8), norm_num_groups=2, latent_channels=4, layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    prepared(vae).bn.running_mean.copy_(torch.linspace(-0.5, 0.5, 16))
    vae.bn.running_var.copy_(torch.linspace(0.5, 1.5, 16))
    pipe = pipeline(
        FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True), vae, None, None, prepared(transformer)
    )
    words = {k: v for k, v in embeds(6, 16).items() if pipeline is not Flux2Pipeline or "negative" not in k}
    return Patches(pipe, {**words, **PICTURE, "guidance_scale": 3.0})


# ---- others ----


class OneStep(Member):
    """Cosmos 2: the scheduler is handed `(x_t - x0) / sigma`, of which the lab has each branch up to rounding."""

    exactly = False

    def at_step(self, output: Tensor, recording: Any, step: int) -> Tensor:
        now = recording.ds.isel(step=step)
        x_t, sigma = torch.from_numpy(now.x_t.values), torch.tensor(float(now.sigma))
        t = sigma / (sigma + 1)
        found = (x_t - ((1 - t) * x_t + -t * output.float())) / sigma
        given = recording.prediction("cond").isel(step=step).values[:, :, :1]  # the same in every branch
        return torch.cat([torch.from_numpy(given), found[:, :, 1:]], dim=2)


COSMOS = {
    "in_channels": 5, "out_channels": 4, "num_attention_heads": 2, "attention_head_dim": 16, "num_layers": 3, "mlp_ratio": 2,
    "text_embed_dim": 16, "adaln_lora_dim": 4, "max_size": (4, 32, 32), "concat_padding_mask": False, "extra_pos_embed_type": None,
}  # fmt: skip


def cosmos_video() -> Member:
    other = zoo.cosmos()
    config = {**other.pipe.transformer.config, "in_channels": 5}
    parts = {**other.pipe.components, "transformer": prepared(CosmosTransformer3DModel.from_config(config))}
    parts["safety_checker"] = zoo.Guardrail()
    return StartedStep(CosmosVideoToWorldPipeline(**parts), {**other.call, "image": picture(32, 64)})


class StartedStep(zoo.OneStepCFG):
    """Cosmos 1 video-to-world: the frames that are given are put into x0."""

    def at_step(self, output: Tensor, recording: Any, step: int) -> Tensor:
        given = recording.prediction("cond").isel(step=step).values[:, :, :1]
        return torch.cat([torch.from_numpy(given), super().at_step(output, recording, step)[:, :, 1:]], dim=2)


def cosmos2() -> Member:
    scheduler = FlowMatchEulerDiscreteScheduler(use_karras_sigmas=True)
    pipe = Cosmos2VideoToWorldPipeline(
        None, None, prepared(CosmosTransformer3DModel(**COSMOS)), zoo.wan_vae(), scheduler, zoo.Guardrail()
    )
    return OneStep(pipe, {**embeds(6, 16), **WAN_CALL, "image": picture(32, 64)})


def cosmos25() -> Member:
    pipe = Cosmos2_5_PredictBasePipeline(
        None, None, prepared(CosmosTransformer3DModel(**COSMOS)), zoo.wan_vae(), UniPCMultistepScheduler(**FLOW),
        zoo.Guardrail(),
    )  # fmt: skip
    return Member(pipe, {**embeds(6, 16), **WAN_CALL})


def motif(pipeline: type = MotifVideoPipeline) -> Member:
    transformer = MotifVideoTransformer3DModel(
        in_channels=9, out_channels=4, num_attention_heads=2, attention_head_dim=10, num_layers=2, num_single_layers=2,
        num_decoder_layers=1, text_embed_dim=16, rope_axes_dim=(2, 4, 4), enable_text_cross_attention_dual=True,
        enable_text_cross_attention_single=True,
    )  # fmt: skip
    pipe = pipeline(
        FlowMatchEulerDiscreteScheduler(shift=3.0), zoo.wan_vae(), None, None, prepared(transformer),
        ClassifierFreeGuidance(guidance_scale=3.0), None,
    )  # fmt: skip
    call = {**embeds(6, 16, mask=False), **WAN_CALL}
    return Guided(pipe, call if pipeline is MotifVideoPipeline else {**call, "prompt": None, "image": picture(32, 64)})


class FirstFrameLast(PartlyWide):
    """Kandinsky 5 image-to-video: the picture's frame is given, and the first frames are normalised when all is sampled."""

    def returned(self, final: Tensor) -> Tensor:
        channels_last = final.permute(0, 2, 3, 4, 1).contiguous()
        return self.pipe.normalize_first_frame(channels_last).permute(0, 4, 1, 2, 3)

    def decodable(self, final: Tensor) -> Tensor:
        return self.returned(final)

    def predicted(self, output: Tensor) -> Tensor:
        whole = self.unpacked(output)
        whole[:, :, 0] = 0
        return whole


def kandinsky_image() -> Member:
    other = zoo.kandinsky(pictured=True)
    pipe = Kandinsky5I2VPipeline(**other.pipe.components)
    return FirstFrameLast(pipe, {**other.call, "num_frames": 25, "image": picture(32, 64)})  # 7 latent frames


class LinearFirst(Linear):
    """Sana image-to-video: the picture's frame is given."""

    def predicted(self, output: Tensor) -> Tensor:
        whole = self.unpacked(output)
        whole[:, :, 0] = 0
        return whole


def sana_image() -> Member:
    other = zoo.sana()
    pipe = SanaImageToVideoPipeline(**other.pipe.components)
    return LinearFirst(pipe, {**other.call, "image": picture(32, 64)})


# ---- modular pipelines ----


class ByBlocks(Guided):
    """A modular pipeline: it is asked for one of the things that its blocks make."""

    def stock(self, *, seed: int = 0, count: int = 1, **changes: Any) -> Any:
        call = self.arguments(changes)
        wanted = "latents" if call.pop("output_type") == "latent" else "videos"
        return self.pipe(**call, output_type="np", generator=generators(seed, 1)[0], output=wanted)


def wan_modular() -> Member:
    words, blocks = zoo.wan().pipe, WanBlocks().init_pipeline()
    transformer = prepared(WanTransformer3DModel(**WAN, in_channels=4, out_channels=4))
    blocks.update_components(
        tokenizer=words.tokenizer, text_encoder=words.text_encoder, transformer=transformer, vae=zoo.wan_vae(),
        scheduler=UniPCMultistepScheduler(**FLOW), guider=ClassifierFreeGuidance(guidance_scale=3.0),
    )  # fmt: skip
    return ByBlocks(blocks, {"prompt": "a red seven moving left", "max_sequence_length": 8, **WAN_CALL})


def by_blocks(other: Member, blocks: Any, kind: type = ByBlocks, **parts: Any) -> Member:
    """A modular pipeline of the same parts, which is given embeddings."""
    blocks.sub_blocks.pop("text_encoder")
    pipe, parts = blocks.init_pipeline(), {**other.pipe.components, **parts}
    pipe.update_components(**{name: parts[name] for name in pipe._component_specs if name in parts})
    return kind(pipe, {name: value for name, value in other.call.items() if name != "guidance_scale"})


class PackedByBlocks(ByBlocks, zoo.Packed):
    """LTX as a modular pipeline: latents come back unpacked."""

    def unpacked(self, latents: Tensor) -> Tensor:
        if latents.ndim == 5:
            return latents.float()
        return LTXPipeline._unpack_latents(latents, *self.sizes).float()


def ltx_modular() -> Member:
    guider = ClassifierFreeGuidance(guidance_scale=3.0)
    return by_blocks(zoo.ltx(), LTXBlocks(), PackedByBlocks, guider=guider)


def hunyuan15_modular() -> Member:
    return by_blocks(zoo.hunyuan15(), HunyuanVideo15Blocks())


SIBLINGS: dict[str, Callable[[], Member]] = {
    "wan-video": wan_video,
    "wan-vace": wan_vace,
    "wan-vace-reference": functools.partial(wan_vace, reference=True),
    "wan-animate": wan_animate,
    "lucy": lucy,
    "chrono": chrono,
    "skyreels-image": skyreels_image,
    "skyreels-forcing": forcing,
    "skyreels-forcing-video": functools.partial(forcing, SkyReelsV2DiffusionForcingVideoToVideoPipeline),
    "skyreels-forcing-image": functools.partial(forcing, SkyReelsV2DiffusionForcingImageToVideoPipeline),
    "hunyuan-image-concat": functools.partial(hunyuan_image, "latent_concat"),
    "hunyuan-image-replace": functools.partial(hunyuan_image, "token_replace"),
    "hunyuan-skyreels": hunyuan_skyreels,
    "framepack": framepack,
    "hunyuan15-image": hunyuan15_image,
    "cogvideox-video": cogvideox_video,
    "cogvideox-control": cogvideox_control,
    "ltx-condition": ltx_condition,
    "ltx2-image": ltx2_image,
    "ltx2-condition": ltx2_condition,
    "ltx2-context": functools.partial(ltx2_condition, LTX2InContextPipeline),
    "animatediff": animatediff,
    "animatediff-xl": functools.partial(animatediff, AnimateDiffSDXLPipeline),
    "animatediff-control": functools.partial(animatediff, AnimateDiffControlNetPipeline, control=True),
    "animatediff-video": functools.partial(animatediff, AnimateDiffVideoToVideoPipeline),
    "animatediff-video-control": functools.partial(
        animatediff, AnimateDiffVideoToVideoControlNetPipeline, control=True
    ),
    "motif": motif,
    "motif-image": functools.partial(motif, MotifVideoImage2VideoPipeline),
    "chroma": chroma,
    "qwen": qwen,
    "flux2": flux2,
    "flux2-klein": functools.partial(flux2, Flux2KleinPipeline),
    "cosmos-video": cosmos_video,
    "cosmos2": cosmos2,
    "cosmos25": cosmos25,
    "wan-modular": wan_modular,
    "ltx-modular": ltx_modular,
    "hunyuan15-modular": hunyuan15_modular,
    "kandinsky-image": kandinsky_image,
    "sana-image": sana_image,
}


def sibling(name: str) -> Member:
    """A fresh tiny pipeline of a sibling."""
    return zoo.made(SIBLINGS[name], name)
