"""What `sample` returns: the video, the pipeline's own output, and the recording."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stg_lab.errors import CallError, RecordingError
from stg_lab.families import family_of
from stg_lab.files import written
from stg_lab.given import shown, takes
from stg_lab.guidance import Guidance
from stg_lab.recording import Recording
from stg_lab.sheets import sheet_png
from stg_lab.videos import mp4, write_gif


class Run:
    """One finished run.

    Attributes:
        output: what the pipeline itself returned, untouched.
        guidance: the sum that guided it; None for the pipeline's own.
        call: the arguments that the pipeline was called with.
        pipe: the pipeline.
    """

    def __init__(
        self,
        pipe: Any,
        output: Any,
        guidance: Guidance | None,
        call: dict[str, Any],
        recording: Recording | None,
        captions: list[str],
        again: Callable[[], Run],
        loops: Sequence[Recording] = (),
    ) -> None:
        self.pipe, self.output, self.guidance, self.call = pipe, output, guidance, call
        self.captions = captions
        self._recording, self._again = recording, again
        self._later = list(loops[1:])

    @functools.cached_property
    def video(self) -> np.ndarray:
        """The finished videos, float32 `(batch, frame, height, width, 3)` in [0, 1]; latents are decoded when first asked."""
        return to_video(self.pipe, self.output, self.call)

    @property
    def recording(self) -> Recording:
        """Every prediction of every step.

        Raises:
            RecordingError: the run was made with record=False.
        """
        if self._recording is None:
            raise RecordingError("this run was not recorded. Sample with record=True or record='some/folder.zarr'.")
        return self._recording

    @property
    def recordings(self) -> list[Recording]:
        """Where the pipeline samples in several loops within its call, the recording of each; else the one.

        Raises:
            RecordingError: the run was made with record=False.
        """
        return [self.recording, *self._later]

    @functools.cached_property
    def baseline(self) -> Run:
        """The same call from the same seeds with CFG alone; sampled when first asked for, then kept."""
        return self._again()

    @takes()
    def save(self, path: str | Path, *, fps: float = 8) -> Path:
        """Write the finished videos, those of a batch tiled, and say where.

        Args:
            path: ends in ".mp4" or ".gif"; its folder is made.
            fps: frames a second.

        Raises:
            CallError: another ending.
            FileError: the file cannot be written; an older one is as it was.
        """
        path = Path(path)
        if path.suffix not in (".mp4", ".gif"):
            raise CallError(
                f"a run is saved as .mp4 or .gif, got {str(path)!r}. Type for example run.save('out/run.mp4')."
            )
        if path.suffix == ".mp4":
            video = mp4(self.video, fps=fps)
            with written(path) as file:
                file.write_bytes(video)
        else:
            write_gif(self.video, path, fps=fps)
        return path

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise CallError(
            "a Run holds its pipeline and cannot be pickled or copied. What was made lies in its recording: send run.recording.path "
            "and type lab.open(path) there; run.video is a plain array."
        )

    def __repr__(self) -> str:
        how = self.guidance or "the pipeline alone"
        if self.call.get("output_type") == "latent" and "video" not in self.__dict__:
            return f"Run({len(self.captions)} samples, latents not decoded yet, {how})"
        batch, frames, height, width, _ = self.video.shape
        return f"Run({batch} videos of {frames} frames, {height} x {width}, {how})"

    def _repr_html_(self) -> str:
        import base64

        png = base64.b64encode(sheet_png(self.video[:8], self.captions[:8])).decode()
        return f'<div><code>{self!r}</code><br><img src="data:image/png;base64,{png}" style="max-width:100%"></div>'


def to_video(pipe: Any, output: Any, call: Mapping[str, Any]) -> np.ndarray:
    """Whatever a video pipeline returned for a call, as float32 `(batch, frame, height, width, 3)` in [0, 1]."""
    output_type = call.get("output_type") or "np"
    if type(output).__name__ == "PipelineState":  # of a modular pipeline: everything that its blocks have made
        output = (output.get("latents" if output_type == "latent" else "videos"),)
    named = next((name for name in ("frames", "images") if hasattr(output, name)), None)
    frames = getattr(output, named) if named else output[0] if isinstance(output, tuple) else output
    if output_type == "latent":
        return decode(pipe, family_of(pipe).returned(pipe, frames, call))
    if named == "images":  # videos of one frame
        frames = [[picture] for picture in frames] if isinstance(frames, list) else frames[:, None]
    if output_type == "pt":  # (batch, frame, 3, height, width)
        return frames.permute(0, 1, 3, 4, 2).float().cpu().numpy()
    if isinstance(frames, list):  # "pil": lists of pictures
        frames = np.stack([np.stack([np.asarray(picture) / 255.0 for picture in video]) for video in frames])
    return np.asarray(frames, np.float32)


def decode(pipe: Any, latents: Any) -> np.ndarray:
    """Latents through the pipeline's own decoder.

    Args:
        pipe: the pipeline that the latents belong to.
        latents: a tensor, array or DataArray `(sample, channel, frame, y, x)`, for example
            `rec.x0("cond").isel(step=10)`.

    Returns:
        float32 `(sample, frame, height, width, 3)` in [0, 1].

    Raises:
        CallError: no latents of this shape, or complex, infinite or NaN ones.
    """
    try:
        tensor = latents if isinstance(latents, torch.Tensor) else torch.from_numpy(np.asarray(latents))
        good = tensor.ndim == 5 and not tensor.is_complex() and bool(tensor.isfinite().all())
    except (TypeError, ValueError):  # no numbers at all
        good = False
    if not good:
        raise CallError(
            f"latents are finite numbers of shape (sample, channel, frame, y, x), got {shown(latents)}{_why(latents)}. Type for "
            "example lab.decode(pipe, run.recording.ds.final), or lab.decode(pipe, rec.x0('cond').isel(step=10))."
        )
    tensor = tensor if isinstance(latents, torch.Tensor) else tensor.float()
    return family_of(pipe).decode(pipe, tensor)


def _why(latents: Any) -> str:
    """What arrays of other dimensions are, where pipelines return such."""
    why = {
        3: ": packed tokens, which do not tell their sizes",
        4: ": one axis short; a picture is a video of one frame",
    }
    return why.get(len(getattr(latents, "shape", ())), "")
