"""The temporal half of Open-Sora 1.2's VAE: frames that the image VAE has encoded, to a quarter as many.

Convolutions look back in time only. Module and parameter names are those of the released checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


class CausalConv3d(nn.Module):
    """Zeros in front in time, around in space; `stride` is that in time."""

    def __init__(self, channels: int, out: int, kernel: int = 3, *, stride: int = 1, bias: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels, out, kernel, stride=(stride, 1, 1), bias=bias)
        around = kernel // 2
        self.padding = (around, around, around, around, kernel - stride, 0)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, self.padding))


class ResBlock(nn.Module):
    def __init__(self, channels: int, out: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels)
        self.conv1 = CausalConv3d(channels, out, bias=False)
        self.norm2 = nn.GroupNorm(groups, out)
        self.conv2 = CausalConv3d(out, out, bias=False)
        if channels != out:
            self.conv3 = CausalConv3d(channels, out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.conv1(F.silu(self.norm1(x)))
        hidden = self.conv2(F.silu(self.norm2(hidden)))
        return hidden + (self.conv3(x) if hasattr(self, "conv3") else x)


def res_blocks(channels: int, out: int, count: int, groups: int) -> nn.ModuleList:
    return nn.ModuleList(ResBlock(out if i else channels, out, groups) for i in range(count))


class Encoder(nn.Module):
    """Stages of residual blocks, with a stride of 2 in time after those that `halved` names."""

    def __init__(
        self, channels: int, out: int, widths: Sequence[int], halved: Sequence[bool], count: int, groups: int
    ) -> None:
        super().__init__()
        self.conv_in = CausalConv3d(channels, widths[0], bias=False)
        before = (widths[0], *widths[:-1])
        self.block_res_blocks: Any = nn.ModuleList(
            res_blocks(a, b, count, groups) for a, b in zip(before, widths, strict=True)
        )
        self.conv_blocks = nn.ModuleList(
            CausalConv3d(width, width, stride=2) if half else nn.Identity()
            for width, half in zip(widths, halved, strict=False)
        )
        self.res_blocks = res_blocks(widths[-1], widths[-1], count, groups)
        self.norm1 = nn.GroupNorm(groups, widths[-1])
        self.conv2 = CausalConv3d(widths[-1], out, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for number, stage in enumerate(self.block_res_blocks):
            for block in stage:
                x = block(x)
            if number < len(self.conv_blocks):
                x = self.conv_blocks[number](x)
        for block in self.res_blocks:
            x = block(x)
        return self.conv2(F.silu(self.norm1(x)))


class Decoder(nn.Module):
    """The encoder backwards: stages are numbered as there, and run from the last to the first."""

    def __init__(
        self, channels: int, out: int, widths: Sequence[int], halved: Sequence[bool], count: int, groups: int
    ) -> None:
        super().__init__()
        self.halved = tuple(halved)
        self.conv1 = CausalConv3d(channels, widths[-1])
        self.res_blocks = res_blocks(widths[-1], widths[-1], count, groups)
        before = (*widths[1:], widths[-1])
        self.block_res_blocks: Any = nn.ModuleList(
            res_blocks(a, b, count, groups) for a, b in zip(before, widths, strict=True)
        )
        self.conv_blocks = nn.ModuleList(
            CausalConv3d(width, 2 * width) if half else nn.Identity()
            for width, half in zip(widths[1:], halved, strict=True)
        )
        self.norm1 = nn.GroupNorm(groups, widths[0])
        self.conv_out = CausalConv3d(widths[0], out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        for block in self.res_blocks:
            x = block(x)
        for number in reversed(range(len(self.block_res_blocks))):
            for block in self.block_res_blocks[number]:
                x = block(x)
            if number and self.halved[number - 1]:
                x = doubled(self.conv_blocks[number - 1](x))
        return self.conv_out(F.silu(self.norm1(x)))


def doubled(x: Tensor) -> Tensor:
    """Neighbouring channels to neighbouring frames."""
    return x.unflatten(1, (-1, 2)).movedim(2, 3).flatten(2, 3)


class TemporalAutoencoder(nn.Module):
    """Encoded frames `(batch, channel, frame, y, x)` to moments with as many channels for mean and log variance, and back."""

    def __init__(
        self,
        channels: int,
        latent_channels: int,
        widths: Sequence[int],
        halved: Sequence[bool],
        num_res_blocks: int,
        groups: int,
    ) -> None:
        super().__init__()
        self.factor = 2 ** sum(halved)
        rest = widths, halved, num_res_blocks, groups
        self.encoder = Encoder(channels, 2 * latent_channels, *rest)
        self.quant_conv = CausalConv3d(2 * latent_channels, 2 * latent_channels, 1)
        self.post_quant_conv = CausalConv3d(latent_channels, latent_channels, 1)
        self.decoder = Decoder(latent_channels, channels, *rest)

    def encode(self, x: Tensor) -> Tensor:
        """Moments. Frames of zeros go in front until their number is divisible by `factor`."""
        return self.quant_conv(self.encoder(F.pad(x, (0, 0, 0, 0, -x.shape[2] % self.factor, 0))))

    def decode(self, z: Tensor, num_frames: int) -> Tensor:
        """`num_frames` frames: those that stand for the zeros in front are dropped."""
        return self.decoder(self.post_quant_conv(z))[:, :, -num_frames % self.factor :]
