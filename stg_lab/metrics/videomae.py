"""Features of VideoMAE (Tong et al. 2022) through transformers, for a Frechet video distance on real videos.

Ge et al. 2024 ("On the content bias in Frechet video distance") found that features of VideoMAE follow motion where those of I3D
follow single frames. The figures are not comparable with published FVDs, whose features are I3D's.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from stg_lab.errors import MetricError
from stg_lab.metrics.pixels import checked
from stg_lab.metrics.sets import frechet_distance

SOURCE = "MCG-NJU/videomae-base"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, which VideoMAE's own preprocessing subtracts


def load_videomae(source: str | Path = SOURCE, device: str = "cpu") -> Any:
    """`transformers.VideoMAEModel` from a folder or the model hub, in eval mode; safetensors only.

    Raises:
        MetricError: the weights are not there and cannot be fetched; the message says what to type.
    """
    from transformers import VideoMAEModel

    try:
        model = VideoMAEModel.from_pretrained(source, use_safetensors=True)
    except Exception as error:  # the libraries below raise many kinds, all about weights that could not be had
        raise MetricError(
            f"VideoMAE's weights could not be loaded from {str(source)!r} ({type(error).__name__}). Fetch them with "
            f"`hf download {SOURCE} --local-dir FOLDER` and give that FOLDER."
        ) from None
    return model.eval().to(device)


def videomae_features(videos: Sequence[ndarray], model: Any, batch: int = 8) -> Float[ndarray, "clip d"]:
    """The mean of VideoMAE's last hidden states of each clip, `(clip, hidden size)`, float64.

    Args:
        videos: clips `(frame, height, width, 3)` in [0, 1]; sizes and lengths may differ. Each is taken at evenly spaced frames
            (16 for the published weights; short clips repeat some), its shorter side resized and its middle cut out.
        model: from `load_videomae`.
        batch: clips at a time.

    Raises:
        MetricError: not videos in [0, 1].
    """
    fitted = [_fitted(checked(video[None])[0], model.config) for video in videos]
    rows = []
    with torch.inference_mode():
        for first in range(0, len(fitted), batch):
            pixels = torch.stack(fitted[first : first + batch]).to(model.device, model.dtype)
            rows.append(model(pixel_values=pixels).last_hidden_state.mean(1).double().cpu())
    return torch.cat(rows).numpy()


def videomae_distance(videos: Sequence[ndarray], reference: Sequence[ndarray], model: Any) -> float:
    """Frechet distance in VideoMAE's features; lower is better. Arguments and errors as for the two that it is made of."""
    return frechet_distance(videomae_features(videos, model), videomae_features(reference, model))


def _fitted(video: ndarray, config: Any) -> Float[Tensor, "frame 3 side side"]:
    """One clip as VideoMAE's own preprocessing makes it: frames, size, normalisation."""
    side = config.image_size if isinstance(config.image_size, int) else config.image_size[0]
    chosen = np.linspace(0, len(video) - 1, config.num_frames).round().astype(int)
    frames = torch.from_numpy(np.ascontiguousarray(video[chosen])).permute(0, 3, 1, 2)
    height, width = frames.shape[2:]
    zoom = side / min(height, width)
    size = (max(side, round(height * zoom)), max(side, round(width * zoom)))
    frames = F.interpolate(frames, size, mode="bilinear", antialias=True)
    top, left = (size[0] - side) // 2, (size[1] - side) // 2
    frames = frames[:, :, top : top + side, left : left + side]
    mean, std = (torch.tensor(x)[:, None, None] for x in (MEAN, STD))
    return (frames - mean) / std
