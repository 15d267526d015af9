"""STDiT3, the denoiser of Open-Sora 1.2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from torch import Tensor, nn

from stg_lab.errors import CallError
from stg_lab.opensora.layers import (
    CaptionEmbedding,
    FinalLayer,
    FrameRotation,
    NumberEmbedding,
    PatchEmbedding,
    PatchPositions,
    STDiT3Block,
)


class STDiT3Transformer3DModel(ModelMixin, ConfigMixin):
    """Latents, a time and a caption to a velocity, by blocks for space and blocks for time in turns (Open-Sora 1.2).

    It predicts **x0 - noise**, the negative of what diffusers' flow-matching schedulers step with, in the first `in_channels` of its
    output; with `pred_sigma` as many channels follow that nobody uses. The defaults are the released checkpoint's sizes.

    Times, positions and rotary angles are computed in float32, whatever the weights' type. The script that came with the
    checkpoint rounds them to bfloat16, so in bfloat16 its samples are others than these.

    Args:
        depth: pairs of a spatial and a temporal block.
        hidden_size: divisible by 4 and by `num_heads`.
        patch_size: in latent frames, rows and columns.
        in_channels: of the latents.
        caption_channels: features of a word from the text encoder.
        model_max_length: words of a caption, and of the embedding that stands for none.
        qk_norm: normalise queries and keys.
        input_sq_size: edge in pixels of the square whose positions are not stretched.

    Raises:
        CallError: sizes that do not fit together.
    """

    config: Any
    _gradient_checkpointing_func: Any

    _supports_gradient_checkpointing = True
    _no_split_modules: ClassVar[list[str]] = ["STDiT3Block"]
    _repeated_blocks: ClassVar[list[str]] = ["STDiT3Block"]
    _keep_in_fp32_modules: ClassVar[list[str]] = ["rope"]
    _skip_layerwise_casting_patterns: ClassVar[list[str]] = ["embedder", "norm"]

    @register_to_config
    def __init__(
        self,
        depth: int = 28,
        hidden_size: int = 1152,
        num_heads: int = 16,
        patch_size: Sequence[int] = (1, 2, 2),
        in_channels: int = 4,
        pred_sigma: bool = True,
        mlp_ratio: float = 4.0,
        caption_channels: int = 4096,
        model_max_length: int = 300,
        qk_norm: bool = True,
        input_sq_size: int = 512,
    ) -> None:
        super().__init__()
        if hidden_size % 4 or hidden_size % (2 * num_heads):
            raise CallError(
                f"hidden_size is divisible by 4 and by twice the number of heads, got {hidden_size} and {num_heads} heads. "
                "The released model has 1152 and 16."
            )
        frames, rows, columns = patch_size
        self.out_channels = (1 + pred_sigma) * in_channels
        self.gradient_checkpointing = False

        self.x_embedder = PatchEmbedding((frames, rows, columns), in_channels, hidden_size)
        self.t_embedder = NumberEmbedding(hidden_size)
        self.fps_embedder = NumberEmbedding(hidden_size)
        self.t_block = nn.Sequential(nn.SiLU(), nn.Linear(hidden_size, 6 * hidden_size))
        self.y_embedder = CaptionEmbedding(caption_channels, hidden_size, model_max_length)
        self.pos_embed = PatchPositions(hidden_size, input_sq_size)
        self.rope = FrameRotation(hidden_size // num_heads)
        sizes = hidden_size, num_heads, mlp_ratio, qk_norm
        self.spatial_blocks = nn.ModuleList(STDiT3Block(*sizes) for _ in range(depth))
        self.temporal_blocks = nn.ModuleList(STDiT3Block(*sizes, temporal=True) for _ in range(depth))
        self.final_layer = FinalLayer(hidden_size, frames * rows * columns * self.out_channels)
        self._initialise()

    def _initialise(self) -> None:
        """As the released model began: temporal blocks that add nothing, and no word about frames per second."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        first: Any = self.fps_embedder.mlp[0]
        nn.init.normal_(first.weight, std=0.02)
        silent: list[Any] = [self.fps_embedder.mlp[2]]
        blocks: Any = self.temporal_blocks
        for block in blocks:
            silent += [block.attn.proj, block.cross_attn.proj, block.mlp.fc2]
        for layer in silent:
            nn.init.zeros_(layer.weight)

    def forward(
        self,
        hidden_states: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        encoder_attention_mask: Tensor | None = None,
        fps: float | Tensor = 24,
        height: float | Tensor = 240,
        width: float | Tensor = 426,
        frame_mask: Tensor | None = None,
        return_dict: bool = True,
    ) -> Any:
        """Predict the velocity x0 - noise.

        Args:
            hidden_states: noisy latents `(batch, channel, frame, y, x)`.
            timestep: 1000 for pure noise, 0 for none, fractions allowed; `(batch,)`, or one for all.
            encoder_hidden_states: captions `(batch, word, feature)`; the checkpoint's own form `(batch, 1, word, feature)` too.
            encoder_attention_mask: which words there are, `(batch, word)`; with fewer rows they are repeated. None for all.
            fps: frames per second, 120 for pictures; `(rows,)`, or one for all.
            height, width: of the video in pixels, not of the latents; one for all.
            frame_mask: `(batch, frame)`, False for frames that are given, which are taken to have no noise.

        Returns:
            An output whose `.sample` is float32 `(batch, out_channels, frame, y, x)`, or a tuple of that.

        Raises:
            CallError: rows that do not fit the batch, or samples of several sizes.
        """
        batch, frames = len(hidden_states), hidden_states.shape[2]
        x = self.x_embedder(hidden_states.to(self.x_embedder.proj.weight.dtype))
        grid = x.shape[2:]
        places = self.pos_embed(*grid[1:], _same(height, "height"), _same(width, "width"), x.device)
        x = x.flatten(3).permute(0, 2, 3, 1) + places.to(x.dtype)  # (batch, frame, place, channel)

        rate = self.fps_embedder(_rows(fps, batch, "fps", x.device))
        times = _rows(timestep, batch, "timestep", x.device)
        t, given = self.t_embedder(times) + rate, None
        modulation = self.t_block(t)[:, None]  # the same for all frames
        if frame_mask is not None:
            given = self.t_embedder(torch.zeros_like(times)) + rate
            modulation = torch.where(frame_mask[:, :, None], modulation, self.t_block(given)[:, None])

        x = self._blocks(
            x, self._words(encoder_hidden_states, encoder_attention_mask), modulation.unflatten(-1, (6, -1))
        )
        velocity = self._unpatched(self.final_layer(x, t, given, frame_mask), grid)
        velocity = velocity[:, :, :frames, : hidden_states.shape[3], : hidden_states.shape[4]].float()
        return Transformer2DModelOutput(sample=velocity) if return_dict else (velocity,)

    def _words(self, captions: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        captions = captions.squeeze(1) if captions.ndim == 4 else captions
        words = self.y_embedder(captions.to(self.x_embedder.proj.weight.dtype))
        if mask is None:
            return words, None
        seen = _rows(mask.reshape(len(mask), -1), len(words), "encoder_attention_mask", words.device)
        return words, (seen != 0)[:, None, None]

    def _blocks(self, x: Tensor, words: tuple[Tensor, Tensor | None], modulation: Tensor) -> Tensor:
        """All blocks, on `(batch, frame, place, channel)`."""
        frames = x.shape[1]
        rotary = self.rope(frames)
        hidden_states = x.flatten(1, 2)
        for pair in zip(self.spatial_blocks, self.temporal_blocks, strict=True):
            for block, turned in zip(pair, (None, rotary), strict=True):
                given = hidden_states, words[0], modulation, frames, words[1], turned
                if torch.is_grad_enabled() and self.gradient_checkpointing:
                    hidden_states = self._gradient_checkpointing_func(block, *given)
                else:
                    hidden_states = block(*given)
        return hidden_states.unflatten(1, (frames, -1))

    def _unpatched(self, values: Tensor, grid: Sequence[int]) -> Tensor:
        """Values of patches `(batch, frame, place, value)` to `(batch, channel, frame, y, x)`."""
        patches = values.reshape(len(values), *grid, *self.config.patch_size, self.out_channels)
        whole = patches.permute(0, 7, 1, 4, 2, 5, 3, 6)  # every size beside the size of its patches
        return whole.flatten(6, 7).flatten(4, 5).flatten(2, 3)


def _same(size: float | Tensor, name: str) -> float:
    """One number for the batch, whose samples share their positions."""
    if not isinstance(size, Tensor):
        return size
    if (size != size.flatten()[0]).any():
        raise CallError(f"the videos of a batch have one size, got {name} {size.tolist()}. Call once for each size.")
    return size.flatten()[0].item()


def _rows(value: float | Tensor, batch: int, name: str, device: torch.device) -> Tensor:
    """A value for every row of the batch; fewer are repeated as a whole, as the halves of classifier-free guidance are."""
    rows = torch.atleast_1d(torch.as_tensor(value, device=device))
    if batch % len(rows):
        raise CallError(f"{name} has {len(rows)} rows for a batch of {batch}. Give one for all, or one for each.")
    return rows.repeat(batch // len(rows), *[1] * (rows.ndim - 1))
