"""The parts of STDiT3: embeddings, attention within a frame or along time, cross-attention to the caption, and the block.

Module and parameter names are those of the released checkpoint.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.embeddings import get_timestep_embedding
from diffusers.models.normalization import RMSNorm
from torch import Tensor, nn

#: Sinusoids that stand for a number (a time, frames per second).
SINUSOIDS = 256
#: The longest wavelength of every kind of position, over 2 pi.
MAX_PERIOD = 10000.0
EPS = 1e-6

Rotation = tuple[Tensor, Tensor]


class PatchEmbedding(nn.Module):
    """Latents `(batch, channel, frame, y, x)` to patches `(batch, channel, frame, y, x)`; what is no whole patch is filled up with
    zeros at the far end, and the tokens of those patches are tokens like others."""

    def __init__(self, patch_size: tuple[int, int, int], in_channels: int, hidden_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv3d(in_channels, hidden_size, kernel_size=patch_size, stride=patch_size)

    def forward(self, latents: Tensor) -> Tensor:
        time, height, width = (-size % patch for size, patch in zip(latents.shape[2:], self.patch_size, strict=True))
        return self.proj(F.pad(latents, (0, width, 0, height, 0, time)))


class NumberEmbedding(nn.Module):
    """Numbers `(batch,)` to `(batch, channel)`: cosines and sines in float32, then two layers."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.mlp: Any = nn.Sequential(nn.Linear(SINUSOIDS, hidden_size), nn.SiLU(), nn.Linear(hidden_size, hidden_size))

    def forward(self, numbers: Tensor) -> Tensor:
        waves = get_timestep_embedding(numbers, SINUSOIDS, flip_sin_to_cos=True, downscale_freq_shift=0)
        return self.mlp(waves.to(self.mlp[0].weight.dtype))


class Mlp(nn.Module):
    def __init__(self, width: int, hidden: int, out: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, out)

    def forward(self, hidden_states: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(hidden_states), approximate="tanh"))


class CaptionEmbedding(nn.Module):
    """T5 features to the width of the blocks; `y_embedding` stands for no caption, in the place of such features."""

    y_embedding: Tensor  # (word, feature)

    def __init__(self, features: int, hidden_size: int, words: int) -> None:
        super().__init__()
        self.y_proj = Mlp(features, hidden_size, hidden_size)
        self.register_buffer("y_embedding", torch.randn(words, features) / features**0.5)

    def forward(self, features: Tensor) -> Tensor:
        return self.y_proj(features)


class PatchPositions(nn.Module):
    """Where each patch lies in its frame, as `(y * x, channel)`: half of the channels for its column, half for its row.

    Positions are stretched so that a video of any size spans about what the square of `input_sq_size` pixels does.
    """

    def __init__(self, hidden_size: int, input_sq_size: int) -> None:
        super().__init__()
        self.each = hidden_size // 2
        self.input_sq_size = input_sq_size

    def forward(self, rows: int, columns: int, height: int, width: int, device: torch.device | None = None) -> Tensor:
        """
        Args:
            rows, columns: of patches.
            height, width: of the video in pixels.
        """
        scale = (height * width) ** 0.5 / self.input_sq_size
        base = round((rows * columns) ** 0.5)
        down, across = (self._waves(torch.arange(n, device=device) / scale * (base / n)) for n in (rows, columns))
        grid = (across[None].expand(rows, -1, -1), down[:, None].expand(-1, columns, -1))
        return torch.cat(grid, dim=-1).flatten(0, 1)

    def _waves(self, positions: Tensor) -> Tensor:
        exponents = torch.arange(0, self.each, 2, device=positions.device).float() / self.each
        angles = positions[:, None] * (1 / MAX_PERIOD**exponents)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class FrameRotation(nn.Module):
    """Rotary positions along time, whose `freqs` lie in the checkpoint. They and the angles stay in float32 in a model of
    narrower weights: in bfloat16 queries would end up elsewhere by more than its own rounding."""

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        exponents = torch.arange(0, head_dim, 2).float() / head_dim
        self.freqs = nn.Parameter(1 / MAX_PERIOD**exponents, requires_grad=False)

    def _apply(self, fn, recurse=True):  # type: ignore[no-untyped-def]
        exact = self.freqs.detach()
        super()._apply(fn, recurse)
        if torch.finfo(self.freqs.dtype).bits < torch.finfo(exact.dtype).bits:
            self.freqs = nn.Parameter(exact.to(self.freqs.device), requires_grad=False)
        return self

    def forward(self, frames: int) -> Rotation:
        """Cosine and sine `(frame, pair of channels)`."""
        angles = torch.arange(frames, device=self.freqs.device)[:, None] * self.freqs.float()
        return angles.cos(), angles.sin()


def rotated(x: Tensor, rotation: Rotation) -> Tensor:
    """Neighbouring channels of `x`, `(batch, head, frame, channel)`, turned as pairs."""
    cos, sin = rotation
    first, second = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack([first * cos - second * sin, second * cos + first * sin], dim=-1)
    return turned.flatten(-2).to(x.dtype)


class SelfAttention(nn.Module):
    """Attention in rows of tokens, `(row, token, channel)`: a frame each, or a place over time, which has a `rotation`."""

    def __init__(self, hidden_size: int, num_heads: int, qk_norm: bool) -> None:
        super().__init__()
        head_dim = hidden_size // num_heads
        self.num_heads = num_heads
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.q_norm = RMSNorm(head_dim, eps=EPS) if qk_norm else nn.Identity()
        self.k_norm = RMSNorm(head_dim, eps=EPS) if qk_norm else nn.Identity()
        self.proj = nn.Linear(hidden_size, hidden_size)

    def forward(self, hidden_states: Tensor, rotation: Rotation | None = None) -> Tensor:
        query, key, value = self.qkv(hidden_states).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        query, key = self.q_norm(query), self.k_norm(key)
        if rotation is not None:
            query, key = rotated(query, rotation), rotated(key, rotation)
        out = F.scaled_dot_product_attention(query, key, value)
        return self.proj(out.transpose(1, 2).flatten(2))


class CrossAttention(nn.Module):
    """Attention of video tokens to the words of their own caption that `mask` lets through."""

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_linear = nn.Linear(hidden_size, hidden_size)
        self.kv_linear = nn.Linear(hidden_size, 2 * hidden_size)
        self.proj = nn.Linear(hidden_size, hidden_size)

    def forward(self, hidden_states: Tensor, words: Tensor, mask: Tensor | None = None) -> Tensor:
        """
        Args:
            hidden_states: `(batch, token, channel)`.
            words: `(batch, word, channel)`.
            mask: booleans that broadcast to `(batch, head, token, word)`.
        """
        query = self.q_linear(hidden_states).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        key, value = self.kv_linear(words).unflatten(-1, (2, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.proj(out.transpose(1, 2).flatten(2))


class STDiT3Block(nn.Module):
    """Self-attention within each frame, or (`temporal`) of each place along time; cross-attention to the caption; feed-forward."""

    def __init__(
        self, hidden_size: int, num_heads: int, mlp_ratio: float, qk_norm: bool, *, temporal: bool = False
    ) -> None:
        super().__init__()
        self.temporal = temporal
        self.norm1 = nn.LayerNorm(hidden_size, EPS, elementwise_affine=False)
        self.attn = SelfAttention(hidden_size, num_heads, qk_norm)
        self.cross_attn = CrossAttention(hidden_size, num_heads)
        self.norm2 = nn.LayerNorm(hidden_size, EPS, elementwise_affine=False)
        self.mlp = Mlp(hidden_size, int(hidden_size * mlp_ratio), hidden_size)
        self.scale_shift_table = nn.Parameter(torch.randn(6, hidden_size) / hidden_size**0.5)

    def forward(
        self,
        hidden_states: Tensor,
        words: Tensor,
        modulation: Tensor,
        frames: int,
        words_mask: Tensor | None = None,
        rotary: Rotation | None = None,
    ) -> Tensor:
        """
        Args:
            hidden_states: `(batch, token, channel)`, frame by frame.
            words: `(batch, word, channel)`.
            modulation: `(batch, frame, 6, channel)`, or with one frame for all.
            frames: how many there are.
            words_mask: see `CrossAttention`.
            rotary: of the frames, for temporal blocks.
        """
        by_frame = (self.scale_shift_table + modulation)[:, :, None]  # one place for all of a frame
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = by_frame.unbind(3)
        x = hidden_states.unflatten(1, (frames, -1))
        x = x + gate * self._attend(self.norm1(x) * (1 + scale) + shift, rotary)
        x = x + self.cross_attn(x.flatten(1, 2), words, words_mask).view_as(x)
        x = x + gate_mlp * self.mlp(self.norm2(x) * (1 + scale_mlp) + shift_mlp)
        return x.flatten(1, 2)

    def _attend(self, x: Tensor, rotary: Rotation | None) -> Tensor:
        """Of `(batch, frame, place, channel)`."""
        if not self.temporal:
            return self.attn(x.flatten(0, 1)).view_as(x)
        over_time = x.transpose(1, 2)
        out = self.attn(over_time.flatten(0, 1), rotary)
        return out.unflatten(0, over_time.shape[:2]).transpose(1, 2)


class FinalLayer(nn.Module):
    """Tokens to the values of their patches."""

    def __init__(self, hidden_size: int, values: int) -> None:
        super().__init__()
        self.norm_final = nn.LayerNorm(hidden_size, EPS, elementwise_affine=False)
        self.scale_shift_table = nn.Parameter(torch.randn(2, hidden_size) / hidden_size**0.5)
        self.linear = nn.Linear(hidden_size, values)

    def forward(self, x: Tensor, t: Tensor, given: Tensor | None = None, frame_mask: Tensor | None = None) -> Tensor:
        """
        Args:
            x: `(batch, frame, place, channel)`.
            t: embedding of the time, `(batch, channel)`.
            given: the same of time 0, for frames that are given.
            frame_mask: `(batch, frame)`, False for those.
        """
        x = self._modulated(x, t)
        if given is not None and frame_mask is not None:
            # Given frames are modulated twice: so the released weights were trained.
            x = torch.where(frame_mask[:, :, None, None], x, self._modulated(x, given))
        return self.linear(x)

    def _modulated(self, x: Tensor, t: Tensor) -> Tensor:
        shift, scale = (self.scale_shift_table + t[:, None])[:, :, None, None].unbind(1)
        return self.norm_final(x) * (1 + scale) + shift
