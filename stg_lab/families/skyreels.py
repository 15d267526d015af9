"""SkyReels-V2, text-to-video: Wan's architecture and Wan's loop."""

from __future__ import annotations

from stg_lab.families.wan import Wan


class SkyReelsV2(Wan):
    """`SkyReelsV2Pipeline`. The diffusion-forcing pipelines are another matter: each of their latent frames has a noise level,
    and a copy of the scheduler, of its own.

    Checkpoints with `num_frame_per_block` above 1 mask their self-attention causally, by blocks of frames, so that it cannot be
    edited by place.
    """

    name = "SkyReels-V2"
    pipelines = ("SkyReelsV2Pipeline",)
    sources = ""


class SkyReelsV2Image(SkyReelsV2):
    """`SkyReelsV2ImageToVideoPipeline`. The denoiser's input is the latents with the channels of a mask and of the encoded
    picture; text and CLIP embeddings of the picture share one cross-attention."""

    name = "SkyReels-V2 image-to-video"
    pipelines = ("SkyReelsV2ImageToVideoPipeline",)
