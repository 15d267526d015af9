"""Pipelines that cannot be guided, by class name, with the reason and what to do instead."""

from __future__ import annotations

_FORCING = (
    "each of its latent frames has a noise level and a copy of the scheduler of its own, so no step of pipe.scheduler is the "
    "video's, and there is nothing that the lab could record or guide. SkyReelsV2Pipeline and SkyReelsV2ImageToVideoPipeline step "
    "all frames together"
)
_UPSAMPLING = "it enlarges latents in one pass, without a denoiser, so there is nothing to guide. Guide the pipeline that made them"

REFUSED = {
    "SkyReelsV2DiffusionForcingPipeline": _FORCING,
    "SkyReelsV2DiffusionForcingImageToVideoPipeline": _FORCING,
    "SkyReelsV2DiffusionForcingVideoToVideoPipeline": _FORCING,
    "AnimateDiffPAGPipeline": (
        "it makes a perturbed pass of its own as a third row of the batch. Take AnimateDiffPipeline with the same components, and "
        "PAG of the lab: lab.STG(3, lab.skip([5], part='attention', axis='spatial'))"
    ),
    "LTXLatentUpsamplePipeline": _UPSAMPLING,
    "LTX2LatentUpsamplePipeline": _UPSAMPLING,
}
