"""How frames, latent frames and noise levels of Open-Sora 1.2 belong together: plain numbers, no tensors."""

from __future__ import annotations

import math

from stg_lab.errors import CallError

#: The temporal VAE works clip by clip: 17 frames are 5 latent frames, one for the first frame and one for every four after it.
CLIP_FRAMES = 17
CLIP_LATENTS = 5
#: Frames to a latent frame inside a clip.
TIME_FACTOR = 4
#: The square whose sampling times are not shifted, in pixels.
BASE_PIXELS = 512 * 512
#: What the model was told for videos and for pictures.
VIDEO_FPS, IMAGE_FPS = 24, 120


def latent_frames(num_frames: int) -> int:
    """Latent frames of a video: 1 of a picture, 15 of 51 frames, 30 of 102."""
    clips, rest = divmod(num_frames, CLIP_FRAMES)
    return CLIP_LATENTS * clips + math.ceil(rest / TIME_FACTOR)


def video_frames(latents: int) -> int:
    """Frames of the longest video with so many latent frames; but one latent frame is a picture."""
    clips, rest = divmod(latents, CLIP_LATENTS)
    return 1 if latents == 1 else CLIP_FRAMES * clips + TIME_FACTOR * rest


def time_shift(num_frames: int, height: int, width: int) -> float:
    """How much longer sampling stays at high noise the more pixels there are: r of `t -> r t / (1 + (r - 1) t)`, t in [0, 1].

    It is 2.42 for 51 frames of 240 x 426. Height and width are pixels. A picture counts as one latent frame, a video as its
    whole clips alone, so there is no r for 2 to 16 frames.
    """
    frames = 1 if num_frames == 1 else num_frames // CLIP_FRAMES * CLIP_LATENTS
    return math.sqrt(height * width / BASE_PIXELS) * math.sqrt(frames)


def check_frames(num_frames: int) -> None:
    """Refuse lengths that have no `time_shift`.

    Raises:
        CallError: there is none.
    """
    if num_frames != 1 and num_frames < CLIP_FRAMES:
        raise CallError(
            f"Open-Sora makes videos of {CLIP_FRAMES} frames or more, or pictures, got num_frames={num_frames}. "
            f"Type num_frames={CLIP_FRAMES}, or 1 for a picture; it was trained on 51, 102, 204 and 408."
        )
