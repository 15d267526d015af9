"""A trained `digits-joint` as teacher of another embedded model: what is to be predicted, without the luck of one clip.

The squared error of a denoiser is least at E[x0 | x_t, caption]. A clip is one draw around that mean, and where noise is
strong the draw is most of the error that is left. A model that already knows the mean of the same world can say it instead.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import WanPipeline
from jaxtyping import Float
from torch import Tensor

from stg_lab.digits.objective import mixed_precision


class Teacher:
    """`digits-joint`, asked for E[x0 | x_t, caption] in latents of a `FrameCodec`.

    Both codecs only rearrange pixels that are scaled alike, so that the same noisy clip can be shown to both models. There is
    one exception: `PixelCodec` holds the first frame twice, each copy under noise of its own. One copy gets the student's
    noise, the other noise that the student never sees. The mean of the teacher's answers over that noise is
    E[E[x0 | both copies] | one copy] = E[x0 | one copy], which is what the student has to learn.

    Args:
        folder: of the saved pipeline.
        factor: of the student's codec, pixels per latent pixel.
    """

    def __init__(self, folder: str | Path, factor: int = 2) -> None:
        self.pipe = WanPipeline.from_pretrained(folder)
        for part in (self.pipe.transformer, self.pipe.text_encoder):
            part.eval().requires_grad_(False)
        self.factor = factor

    @torch.no_grad()
    def x0(
        self,
        clean: Float[Tensor, "batch channel frame height width"],
        noise: Float[Tensor, "batch channel frame height width"],
        unseen: Float[Tensor, "batch channel height width"],
        abar: Float[Tensor, " batch"],
        tokens: Tensor,
        mask: Tensor,
    ) -> Float[Tensor, "batch channel frame height width"]:
        """The mean clip that x_t = sqrt(abar) clean + sqrt(1 - abar) noise leaves to be expected, in the student's latents.

        Args:
            clean, noise: in the student's latents.
            unseen: noise of the second copy of the first frame, in the same.
            abar: the student's noise level, sigma / (1 - sigma) = sqrt((1 - abar) / abar) for the teacher.
            tokens, mask: of the captions, `(batch, token)`; both models read the same tokens.
        """
        device = clean.device
        self.pipe.transformer.to(device), self.pipe.text_encoder.to(device)
        own_noise, other = self._to_teacher(noise), self._to_teacher(unseen[:, :, None])
        second = slice(own_noise.shape[1] // 2, None)  # channels of a group's second frame
        own_noise[:, second, 0] = other[:, second, 0]
        sigma = 1 / (1 + (abar / (1 - abar)).sqrt())
        s = sigma[:, None, None, None, None]
        noisy = (1 - s) * self._to_teacher(clean) + s * own_noise
        text = self.pipe.text_encoder(tokens, mask).last_hidden_state * mask[..., None]
        with mixed_precision(device):
            v = self.pipe.transformer(
                hidden_states=noisy, timestep=sigma * 1000, encoder_hidden_states=text, return_dict=False
            )[0]
        return self._to_student(noisy - s * v.float())

    def _to_teacher(self, z: Tensor) -> Tensor:
        frames = F.pixel_shuffle(z.transpose(1, 2), self.factor)  # [batch, frame, 3, h, w]
        return self.pipe.vae.encode(frames.transpose(1, 2)).latent

    def _to_student(self, z: Tensor) -> Tensor:
        frames = self.pipe.vae.decode(z).sample.transpose(1, 2)
        return F.pixel_unshuffle(frames, self.factor).transpose(1, 2)
