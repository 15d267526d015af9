"""Pipelines that cannot be guided, by class name, with the reason and what to do instead."""

from __future__ import annotations

_UPSAMPLING = "it enlarges latents in one pass, without a denoiser, so there is nothing to guide. Guide the pipeline that made them"

REFUSED = {
    "AnimateDiffPAGPipeline": (
        "it makes a perturbed pass of its own as a third row of the batch. Take AnimateDiffPipeline with the same components, and "
        "PAG of the lab: lab.STG(3, lab.skip([5], part='attention', axis='spatial'))"
    ),
    "LTXLatentUpsamplePipeline": _UPSAMPLING,
    "LTX2LatentUpsamplePipeline": _UPSAMPLING,
}
