"""Denoisers by their class, for workflows that hand the lab a module and no pipeline."""

from __future__ import annotations

#: Class name in diffusers -> name of the family whose blocks it has.
DENOISERS = {
    "WanTransformer3DModel": "Wan",
    "WanVACETransformer3DModel": "Wan VACE",
    "WanAnimateTransformer3DModel": "Wan Animate",
    "SkyReelsV2Transformer3DModel": "SkyReels-V2",
    "LTXVideoTransformer3DModel": "LTX",
    "HunyuanVideoTransformer3DModel": "HunyuanVideo",
    "HunyuanVideo15Transformer3DModel": "HunyuanVideo 1.5",
    "MotifVideoTransformer3DModel": "Motif-Video",
    "MochiTransformer3DModel": "Mochi",
    "CogVideoXTransformer3DModel": "CogVideoX",
    "FluxTransformer2DModel": "Flux",
    "Flux2Transformer2DModel": "Flux.2",
    "ChromaTransformer2DModel": "Chroma",
    "QwenImageTransformer2DModel": "Qwen-Image",
    "SD3Transformer2DModel": "Stable Diffusion 3",
}
