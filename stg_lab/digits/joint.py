"""Training `digits-joint`: flow matching in the codec's latents.

x_s = (1 - s) x0 + s eps, target v = eps - x0, squared error (Lipman et al. 2023, Esser et al. 2024).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from stg_lab.digits import world
from stg_lab.digits.objective import Card, Objective, mixed_precision, noise_levels
from stg_lab.digits.pipeline import MAX_TOKENS, PIXEL_MEAN, PIXEL_STD, build_joint


@dataclass
class Batch:
    """One update's data: normalised latents, noise, noise level and padded token ids."""

    x0: Float[Tensor, "batch channel frame height width"]
    noise: Float[Tensor, "batch channel frame height width"]
    sigma: Float[Tensor, " batch"]
    tokens: Tensor  # (batch, MAX_TOKENS) ids
    mask: Tensor  # (batch, MAX_TOKENS), 1 for real tokens
    padding: int  # how many further pad tokens the text is to look as if it had


class Joint(Objective):
    """`WanPipeline` with full 3D attention, and the text encoder that is trained with it."""

    name = "joint"

    def __init__(self, recipe: Any) -> None:
        super().__init__(recipe)
        self.text_bias = _bias_padding(self.pipe.transformer)

    def build(self) -> Any:
        return build_joint(self.recipe.architecture, seed=self.recipe.seed)

    def parts(self, pipe: Any) -> dict[str, nn.Module]:
        return {"transformer": pipe.transformer, "text": pipe.text_encoder}

    def blocks(self, denoiser: Any) -> list[nn.Module]:
        return list(denoiser.blocks)

    def data(self, update: int, split: str = "train") -> Batch:
        r, stage = self.recipe, self.recipe.stage_at(update)
        clips, g = self.clips(update, split)
        times = torch.rand(stage.batch, 1, generator=g) if stage.frames == 1 else None
        video = world.render(clips, frames=stage.frames, times=times)  # [batch, frame, h, w, 3]
        x0 = self.pipe.vae.encode(video.permute(0, 4, 1, 2, 3) * 2 - 1).latent
        x0 = (x0 - PIXEL_MEAN) / PIXEL_STD
        keep = (torch.rand(stage.batch, generator=g) >= r.caption_dropout).tolist()
        captions = [c if k else "" for c, k in zip(clips.captions, keep, strict=True)]
        text = self.pipe.tokenizer(captions, padding="max_length", max_length=MAX_TOKENS, return_tensors="pt")
        most = r.longest_padding - MAX_TOKENS
        draws = torch.rand(2, generator=g)
        padding = int(most ** draws[0].item()) if draws[1] < 0.5 else 0
        sigma = noise_levels(stage.batch, r, g)
        noise = torch.randn(x0.shape, generator=g)
        return Batch(x0, noise, sigma, text.input_ids, text.attention_mask, padding)

    def loss(self, forward: Callable[..., Any], batch: Batch, device: torch.device) -> Float[Tensor, " batch"]:
        """Squared error of the predicted velocity, per clip."""
        b, d = batch, device
        x0, noise, sigma, mask = b.x0.to(d), b.noise.to(d), b.sigma.to(d), b.mask.to(d)
        text = self.pipe.text_encoder(b.tokens.to(d), mask).last_hidden_state * mask[..., None]
        self.text_bias[..., -1] = float(torch.log1p(torch.tensor(float(b.padding))))
        s = sigma[:, None, None, None, None]
        with mixed_precision(d):
            v = forward(
                hidden_states=(1 - s) * x0 + s * noise,
                timestep=sigma * 1000,
                encoder_hidden_states=text,
                return_dict=False,
            )[0]
        return F.mse_loss(v.float(), noise - x0, reduction="none").mean(dim=(1, 2, 3, 4))

    def sample(self, pipe: Any, clips: world.Clips, *, seeds: Sequence[int], **call: Any) -> Any:
        return pipe(
            clips.captions,
            height=world.SIZE,
            width=world.SIZE,
            num_frames=world.FRAMES,
            max_sequence_length=MAX_TOKENS,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            **call,
        ).frames

    def card(self) -> Card:
        a = self.recipe.architecture
        return Card(
            description="that draws moving handwritten digits: full 3D attention, flow matching, 9 frames of 32 x 32.",
            example="""video = pipe(
    "a red seven moving left",
    height=32,
    width=32,
    num_frames=9,
    max_sequence_length=8,  # of captions, as it was trained; the stock default of 512 brings more padding
    num_inference_steps=24,
    guidance_scale=4,
).frames""",
            parts=f"""A `WanTransformer3DModel` with {a.blocks} blocks of width {a.heads * a.head_dim}, a {a.text_layers}-layer
`UMT5EncoderModel` {self.text_encoder_of()}, a word-level tokenizer, and in the VAE's place a lossless space-time-to-depth codec
(`stg_lab.digits.codec.PixelCodec`), so that latents are rearranged pixels.""",
            loss="flow-matching loss",
        )


def _bias_padding(transformer: Any) -> Tensor:
    """Let one pad token weigh as much as many, in every cross-attention; returns the bias to write into.

    The stock pipeline pads captions with zeros to `max_sequence_length` (512 unless told otherwise) and the model attends
    to all of it unmasked. All pad tokens are equal, so n further ones act exactly like + log(1 + n) on the logit of one.
    Training with random n makes the model indifferent to the padding's length without paying for 512 tokens.
    """
    from diffusers.models.transformers.transformer_wan import WanAttnProcessor

    class Padded(WanAttnProcessor):
        def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, rotary_emb=None):
            bias = attn.text_bias.to(hidden_states.dtype)
            return super().__call__(attn, hidden_states, encoder_hidden_states, bias, rotary_emb)

    bias = torch.zeros(1, 1, 1, MAX_TOKENS, device=next(transformer.parameters()).device)
    for block in transformer.blocks:
        block.attn2.register_buffer("text_bias", bias, persistent=False)
        block.attn2.set_processor(Padded())
    return bias
