"""Reading videos from files: mp4, webm and their like through ffmpeg, GIF through Pillow, arrays, and recordings of the lab."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from stg_lab.errors import LabError, MetricError, did_you_mean
from stg_lab.given import takes
from stg_lab.recording.packed import SUFFIX as PACKED
from stg_lab.recording.packed import recordings
from stg_lab.shipped import data_folder

FILMS = (".mp4", ".webm", ".mkv", ".mov", ".avi", ".m4v")
ARRAYS = (".npy", ".npz")
SUFFIXES = (*FILMS, ".gif", *ARRAYS)


@dataclass(frozen=True)
class Clip:
    """One video: where it came from and its frames in [0, 1]; a recording tells its caption, latents and seed too."""

    name: str
    video: Float[ndarray, "frame height width 3"]
    caption: str | None = None
    latents: Float[ndarray, "channel frame y x"] | None = None
    seed: int | None = None


def find(places: Sequence[str | Path]) -> list[Path]:
    """The files and recordings that files, folders and patterns name, each once, sorted within a folder or pattern.

    Raises:
        MetricError: a place that is not there, a folder without videos, a kind of file that cannot be read.
    """
    found: dict[Path, None] = {}
    for place in places:
        path = Path(place)
        if path.is_dir() and path.suffix != ".zarr":
            inside, _ = _inside(path)
            if not inside:
                raise MetricError(f"{path} holds no videos. They end in {', '.join(SUFFIXES)} or .zarr (a recording).")
        elif path.exists():
            inside = [path]
        elif str(place) in recordings():
            inside = [data_folder("recordings") / f"{place}{PACKED}"]
        else:
            inside = sorted(Path(p) for p in glob.glob(str(place)))
            if not inside:
                raise MetricError(
                    f"{place} is not there.{did_you_mean(str(place), recordings())} Give files, folders, patterns such as "
                    f"'out/*.mp4', or recordings that ship ({', '.join(recordings())})."
                )
        for one in inside:
            if not (one.suffix.lower() in SUFFIXES or is_recording(one)):
                raise MetricError(f"{one} is no video. Videos end in {', '.join(SUFFIXES)} or .zarr (a recording).")
        found |= dict.fromkeys(inside)
    return list(found)


def _inside(folder: Path) -> tuple[list[Path], list[Path]]:
    """What is measured of a folder, and the films beside its recordings, which are taken for pictures of these."""
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES or is_recording(p))
    recorded = any(map(is_recording, found))
    films = [p for p in found if recorded and p.suffix.lower() in (*FILMS, ".gif")]
    return [p for p in found if p not in films], films


def passed_over(places: Sequence[str | Path]) -> Iterator[str]:
    """A line for each folder of which `find` passes films over."""
    for folder in map(Path, places):
        films = _inside(folder)[1] if folder.is_dir() and folder.suffix != ".zarr" else []
        if films:
            names = ", ".join(p.name for p in films)
            yield f"{names} beside the recordings in {folder}, as pictures of these; name a film to measure it"


def is_recording(path: Path) -> bool:
    """Whether a name is that of a recording."""
    return path.name.endswith((".zarr", PACKED))


def clips(places: Sequence[str | Path]) -> Iterator[Clip]:
    """Every video of some places, one at a time, so that many long ones fit in memory.

    Raises:
        MetricError: as `find`, or a file that cannot be decoded.
    """
    for path in find(places):
        if is_recording(path):
            yield from _recording(path)
        elif path.suffix.lower() in ARRAYS:
            yield from _array(path)
        else:
            yield Clip(str(path), _gif(path) if path.suffix.lower() == ".gif" else _film(path))


@takes(MetricError)
def read_video(path: str | Path) -> Float[ndarray, "batch frame height width 3"]:
    """One file's video or videos, float32 in [0, 1]; arrays and recordings may hold several, a film is one.

    Raises:
        MetricError: not there, or cannot be decoded.
    """
    return np.stack([clip.video for clip in clips([path])])


def _film(path: Path) -> ndarray:
    import imageio_ffmpeg

    try:
        reader = imageio_ffmpeg.read_frames(str(path), pix_fmt="rgb24")
        width, height = next(reader)["size"]
        frames = [np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader]
    except (OSError, RuntimeError, StopIteration, ValueError, KeyError, IndexError) as error:
        raise MetricError(f"{path} could not be decoded: {_first_line(error)}.") from None
    if not frames:
        raise MetricError(f"{path} holds no frames.")
    return np.stack(frames).astype(np.float32) / 255


def _gif(path: Path) -> ndarray:
    from PIL import Image, ImageSequence

    try:
        with Image.open(path) as gif:
            frames = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(gif)]
    except OSError as error:
        raise MetricError(f"{path} could not be decoded: {_first_line(error)}.") from None
    return np.stack(frames).astype(np.float32) / 255


def _array(path: Path) -> Iterator[Clip]:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.lib.npyio.NpzFile):
            with loaded:
                if "video" not in loaded and len(loaded.files) != 1:
                    raise MetricError(f"{path} holds {', '.join(loaded.files)}; name the one to measure 'video'.")
                array = loaded["video" if "video" in loaded else loaded.files[0]]
        else:
            array = loaded
    except (OSError, EOFError, ValueError) as error:
        if isinstance(error, LabError):
            raise
        raise MetricError(f"{path} could not be read: {_first_line(error)}.") from None
    if array.dtype == np.uint8:
        array = array.astype(np.float32) / 255
    if array.ndim == 4:
        array = array[None]
    if array.ndim != 5 or array.shape[-1] != 3 or not np.issubdtype(array.dtype, np.floating):
        raise MetricError(
            f"{path} holds {array.dtype} of shape {array.shape}. A video is uint8, or floats in [0, 1], of shape "
            "(frame, height, width, 3) or (batch, frame, height, width, 3)."
        )
    for i, video in enumerate(array):
        yield Clip(f"{path}[{i}]" if len(array) > 1 else str(path), video.astype(np.float32))


def _recording(path: Path) -> Iterator[Clip]:
    from stg_lab.recording import open_recording

    recording = open_recording(path)
    ds = recording.ds
    seeds = [int(one) for one in ds.seed.values] if "seed" in ds.coords else [None] * ds.sizes["sample"]
    told = zip(recording.video(), recording.captions, ds.final.values, seeds, strict=True)
    for i, (video, caption, latents, seed) in enumerate(told):
        yield Clip(f"{path}[{i}]", video, caption, latents, seed)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
