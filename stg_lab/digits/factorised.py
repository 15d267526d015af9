"""`digits-factorised`: a stock `LattePipeline`, attention within a frame and along time in turns, and its training.

x_t = sqrt(abar_t) x0 + sqrt(1 - abar_t) eps, target eps, squared error (Ho et al. 2020, eq. 14), sampled by DDIM.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDIMScheduler, LattePipeline, LatteTransformer3DModel
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import T5Config, T5EncoderModel

from stg_lab.digits import world
from stg_lab.digits.codec import FrameCodec
from stg_lab.digits.objective import Card, Objective, mixed_precision, shifted
from stg_lab.digits.pipeline import MAX_TOKENS, PIXEL_MEAN, PIXEL_STD, Architecture, build_tokenizer, text_sizes
from stg_lab.digits.recipe import Recipe
from stg_lab.digits.teacher import Teacher

_ON_THE_WAY_OF_TEXT = (
    "caption_projection.linear_1.weight",
    "caption_projection.linear_2.weight",
    "attn2.to_v.weight",
    "attn2.to_out.0.weight",
)
#: Tokens that `LattePipeline` pads every caption to; the number is written in its code.
PADDED = 120


def build_factorised(architecture: Architecture, *, seed: int = 0) -> Any:
    """An untrained `digits-factorised`, a `LattePipeline`: 9 frames of 32 x 32 as 9 x 8 x 8 tokens.

    Args:
        architecture: `blocks` counts layers, each a spatial and a temporal block.
        seed: decides the weights.
    """
    torch.manual_seed(seed)
    a = architecture
    codec = FrameCodec(pixel_mean=PIXEL_MEAN, pixel_std=PIXEL_STD, sample_size=world.SIZE, sample_frames=world.FRAMES)
    channels, width = codec.config.latent_channels, a.heads * a.head_dim
    transformer: Any = LatteTransformer3DModel(
        num_attention_heads=a.heads, attention_head_dim=a.head_dim, num_layers=a.blocks, patch_size=2,
        in_channels=channels, out_channels=2 * channels,  # the pipeline drops the second half, a learned variance
        sample_size=world.SIZE // codec.factor, video_length=world.FRAMES,
        caption_channels=a.text_dim, cross_attention_dim=width, attention_bias=True, activation_fn="gelu-approximate",
        norm_type="ada_norm_single", num_embeds_ada_norm=1000, norm_elementwise_affine=False, norm_eps=1e-6,
    )  # fmt: skip
    return LattePipeline(
        tokenizer=build_tokenizer(),
        text_encoder=_text_encoder(a).eval(),
        vae=codec,
        transformer=transformer.eval(),
        scheduler=build_scheduler(),
    )


def build_scheduler() -> DDIMScheduler:
    """DDIM on the linear betas of Ho et al. (2020), which are Latte's own.

    Their last state has a signal-to-noise ratio of 4e-5, which is as good as pure noise for clips of this size and yet
    leaves a noise prediction something to say (zero terminal SNR would not). Steps are spaced "trailing", from that very
    state to the clean clip (Lin et al. 2024, section 3.3); latents are no pixels in [-1, 1], so nothing is clipped.
    """
    return DDIMScheduler(
        beta_start=1e-4, beta_end=0.02, beta_schedule="linear", clip_sample=False, timestep_spacing="trailing"
    )


def _text_encoder(a: Architecture) -> T5EncoderModel:
    """A small T5 whose pad tokens all come out alike, however many there are.

    Four buckets of relative position tell "before", "here" and "after" apart, no distances. Pad tokens stand after all
    real ones and are themselves masked, so that nothing tells one from the next.
    """
    return T5EncoderModel(T5Config(**text_sizes(a), relative_attention_num_buckets=4, use_cache=False))


@dataclass
class Text:
    """Captions as the pipeline would hand them to its transformer, with many equal pad tokens written as one.

    n equal tokens in an attention act exactly like one with log n added to its logit. So the first pad token stands for
    all `PADDED - n` of them, at the cost of `MAX_TOKENS`.
    """

    tokens: Int[Tensor, "batch token"]
    mask: Int[Tensor, "batch token"]  # 1 for real tokens
    kept: Bool[Tensor, " batch"]  # whether pad tokens keep what the encoder made of them; else they are zeros
    bias: Float[Tensor, "batch token"]  # added to the logits of the cross-attention

    @classmethod
    def of(
        cls, tokenizer: Any, captions: Sequence[str], pads: Int[Tensor, " batch"], kept: Bool[Tensor, " batch"]
    ) -> Text:
        """Captions, each followed by `pads` pad tokens."""
        text = tokenizer(list(captions), padding="max_length", max_length=MAX_TOKENS, return_tensors="pt")
        mask = text.attention_mask
        bias = torch.zeros(mask.shape).masked_fill(mask == 0, -torch.inf)
        first = mask.sum(1, keepdim=True)  # where the first pad token stands
        return cls(text.input_ids, mask, kept, bias.scatter(1, first, pads[:, None].float().log()))

    def encoded(self, encoder: Any, device: torch.device) -> Float[Tensor, "batch token channel"]:
        """The text encoder's output, with zeros where the pipeline puts zeros."""
        mask = self.mask.to(device)
        shown = (mask.bool() | self.kept.to(device)[:, None])[..., None]
        return encoder(self.tokens.to(device), mask).last_hidden_state * shown


@dataclass
class Batch:
    """One update's data."""

    x0: Float[Tensor, "batch channel frame height width"]
    noise: Float[Tensor, "batch channel frame height width"]
    timestep: Int[Tensor, " batch"]
    text: Text
    unseen: Float[Tensor, "batch channel height width"] | None = None  # noise that only a teacher sees


class Factorised(Objective):
    """`LattePipeline` with spatial and temporal blocks, and the text encoder that is trained with it."""

    name = "factorised"

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.teacher = Teacher(recipe.teacher, self.pipe.vae.factor) if recipe.teacher else None

    def build(self) -> Any:
        pipe = build_factorised(self.recipe.architecture, seed=self.recipe.seed)
        with torch.no_grad():
            for name, weight in pipe.transformer.named_parameters():
                if name.endswith(_ON_THE_WAY_OF_TEXT):
                    weight.mul_(self.recipe.text_gain)
        return pipe

    def parts(self, pipe: Any) -> dict[str, nn.Module]:
        return {"transformer": pipe.transformer, "text": pipe.text_encoder}

    def blocks(self, denoiser: Any) -> list[nn.Module]:
        pairs = zip(denoiser.transformer_blocks, denoiser.temporal_transformer_blocks, strict=True)
        return [block for pair in pairs for block in pair]

    def in_blocks(self, name: str, parameter: nn.Parameter) -> bool:
        return super().in_blocks(name, parameter) and not name.endswith("scale_shift_table")

    def data(self, update: int, split: str = "train") -> Batch:
        stage = self.recipe.stage_at(update)
        clips, g = self.clips(update, split)
        times = torch.rand(stage.batch, 1, generator=g) if stage.frames == 1 else None
        video = world.render(clips, frames=stage.frames, times=times)  # [batch, frame, h, w, 3]
        pixels = video.flatten(0, 1).permute(0, 3, 1, 2) * 2 - 1
        z = self.pipe.vae.encode(pixels).latent_dist.mode()
        x0 = z.unflatten(0, (stage.batch, stage.frames)).transpose(1, 2)
        timestep = self.timesteps(stage.batch, g)
        noise = torch.randn(x0.shape, generator=g)
        captions, unseen = clips.captions, None
        if self.teacher is not None:
            unseen, swapped = torch.randn(x0[:, :, 0].shape, generator=g), torch.rand(stage.batch, generator=g)
            other = (torch.arange(stage.batch) + 1) % stage.batch
            shown = torch.where(swapped < self.recipe.swapped, other, torch.arange(stage.batch))
            captions = [captions[i] for i in shown.tolist()]
        # Among 115 pad tokens, a fresh cross-attention gives six words a twentieth. Pictures come first: they get words alone.
        text = self.text(captions, g, alone=1.0 if stage.frames == 1 else 0.5)
        return Batch(x0, noise, timestep, text, unseen)

    def timesteps(self, batch: int, generator: torch.Generator) -> Int[Tensor, " batch"]:
        """Timesteps, uniform but for the recipe's shift towards noise."""
        steps = self.pipe.scheduler.config.num_train_timesteps
        uniform = torch.randint(0, steps, (batch,), generator=generator).double() / steps
        floor = steps * shifted(uniform, self.recipe.timestep_shift) + 1e-6  # without a shift, exactly what was drawn
        return floor.long()

    def text(self, captions: Sequence[str], generator: torch.Generator, alone: float) -> Text:
        """Captions, some of them dropped, in every form that the pipeline gives them.

        A caption on its own (a share `alone` of them) is cut to its real tokens; in a batch it is padded with zeros to
        `PADDED`. The negative prompt is cut or padded to the same length, but its pad tokens are what the text encoder
        makes of them.
        """
        dropped, single, negative = torch.rand(3, len(captions), generator=generator)
        dropped, single = dropped < self.recipe.caption_dropout, single < alone
        negative = dropped & (negative < 0.75)  # for the rest, "" is the prompt itself
        own = torch.tensor([len(self.pipe.tokenizer(c).input_ids) for c in captions])
        real = torch.where(dropped, 1, own)  # the end mark is all that is left of an empty caption
        length = torch.where(single, torch.where(negative, own, real), PADDED)
        shown = ["" if d else c for c, d in zip(captions, dropped.tolist(), strict=True)]
        return Text.of(self.pipe.tokenizer, shown, length - real, negative)

    def loss(self, forward: Callable[..., Any], batch: Batch, device: torch.device) -> Float[Tensor, " batch"]:
        """Squared error of the predicted noise, per clip, times `weight`."""
        x0, noise, t = batch.x0.to(device), batch.noise.to(device), batch.timestep.to(device)
        target = self.target(batch, device)
        text = batch.text.encoded(self.pipe.text_encoder, device)
        bias = batch.text.bias.to(device)[:, None].repeat_interleave(
            x0.shape[2], 0
        )  # the transformer wants it per frame
        with mixed_precision(device):
            output = forward(
                hidden_states=self.pipe.scheduler.add_noise(x0, noise, t),
                timestep=t,
                encoder_hidden_states=text,
                encoder_attention_mask=bias,
                return_dict=False,
            )[0]
        predicted = output.chunk(2, dim=1)[0].float()
        return self.weight(t) * (predicted - target).square().mean(dim=(1, 2, 3, 4))

    def target(self, batch: Batch, device: torch.device) -> Float[Tensor, "batch channel frame height width"]:
        """The noise to predict: the clip's own, or what is left of x_t beside the clip that the recipe's teacher expects."""
        x0, noise, text = batch.x0.to(device), batch.noise.to(device), batch.text
        if self.teacher is None or batch.unseen is None:
            return noise
        abar = self.pipe.scheduler.alphas_cumprod.to(device)[batch.timestep.to(device)]
        expected = self.teacher.x0(
            x0, noise, batch.unseen.to(device), abar, text.tokens.to(device), text.mask.to(device)
        )
        return noise + (abar / (1 - abar)).sqrt()[:, None, None, None, None] * (x0 - expected)

    def weight(self, timestep: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """1 / abar_t, which makes the error that of a predicted velocity (Salimans and Ho 2022), but at most `heaviest`.

        The plain loss hardly asks for the clip's coarse shape: where noise is strong, what is wrong with x0 is a small
        part of eps. Measured: 300 updates of a small model on pictures, squared error of x0 on held-out scans.

        | abar | plain | min-SNR (Hang et al. 2023), 1 | at most 10 | at most 100 |
        |---|---|---|---|---|
        | 0.52 | 0.077 | 0.077 | 0.093 | 0.142 |
        | 0.19 | 0.21 | 0.18 | 0.20 | 0.28 |
        | 0.046 | 0.53 | 0.45 | 0.42 | 0.48 |
        | 0.0069 | 1.73 | 1.18 | 0.91 | 0.75 |
        """
        abar = self.pipe.scheduler.alphas_cumprod.to(timestep.device)[timestep]
        return (1 / abar).clamp(max=self.recipe.heaviest)

    def sample(self, pipe: Any, clips: world.Clips, *, seeds: Sequence[int], **call: Any) -> Any:
        return pipe(
            clips.captions,
            height=world.SIZE,
            width=world.SIZE,
            video_length=world.FRAMES,
            clean_caption=False,  # it would ask for two packages more, and find nothing to clean
            output_type="np",
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            **call,
        ).frames

    def card(self) -> Card:
        a = self.recipe.architecture
        return Card(
            description="that draws moving handwritten digits: attention within each frame and along time in turns, noise\n"
            "prediction, DDIM, 9 frames of 32 x 32.",
            example="""video = pipe(
    "a red seven moving left",
    height=32,
    width=32,
    video_length=9,
    num_inference_steps=24,
    guidance_scale=4,
    clean_caption=False,
    output_type="np",
).frames""",
            parts=f"""A `LatteTransformer3DModel` with {a.blocks} spatial and {a.blocks} temporal blocks of width {a.heads * a.head_dim}, a
{a.text_layers}-layer `T5EncoderModel` {self.text_encoder_of()}, a word-level tokenizer, and in the VAE's place a lossless codec that works frame
by frame (`stg_lab.digits.codec.FrameCodec`), so that latents are rearranged pixels of about unit variance.""",
            loss="noise-prediction loss, weighted",
        )
