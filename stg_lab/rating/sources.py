"""What is rated: the videos of each setting, and under which caption and seed each was made."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from stg_lab.errors import CallError, RecordingError
from stg_lab.recording import Recording, as_source
from stg_lab.sheets import to_bytes

WHAT = "a Run, a Recording, the path or name of one, or an array of video (batch, frame, height, width, 3) in [0, 1]"
FOLDERS = re.compile(r"[^(),:]*[/\\]")  # everything of a path but its last part


class Key(NamedTuple):
    """What two videos have in common: they have the same caption and seed, and are the same one of several such."""

    caption: str
    seed: int | None
    turn: int = 0

    def __str__(self) -> str:
        seed = "" if self.seed is None else f", seed {self.seed}"
        return f"{self.caption or '(no caption)'}{seed}{f', number {self.turn}' if self.turn else ''}"


@dataclass(frozen=True)
class Clips:
    """The videos of one setting.

    Attributes:
        name: of the setting.
        video: uint8.
        keys: one a clip, all different.
        fingerprint: of captions, seeds and videos, in any order.
    """

    name: str
    video: UInt8[ndarray, "clip frame height width 3"]
    keys: tuple[Key, ...]
    fingerprint: str

    def __getitem__(self, key: Key) -> UInt8[ndarray, "frame height width 3"]:
        return self.video[self.keys.index(key)]


def gather(*sources: Any, captions: Sequence[str] | None = None) -> list[Clips]:
    """The videos of each source under its name.

    Args:
        *sources: at least two of recordings, runs, or paths or names of recordings, which are called after their guidance; or one
            dict of name -> source, whose sources may also be arrays. Clips are known by caption and seed; as soon as one source
            is an array, those of all sources are known by their place.
        captions: what the clips of arrays were to show, one a clip.

    Raises:
        CallError: fewer than two sources, none of these kinds, two of one name, an array without a name, or videos of different
            sizes, by which a rater would know them.
        RecordingError: no recording of that name, no final video, or only rough pictures of it.
    """
    named = _named(sources)
    by_place = any(_is_array(source) for source in named.values())
    if captions is not None and not by_place:
        raise CallError("captions= is for arrays; recordings and runs bring their own. Leave it out.")
    read = {name: _read(name, source) for name, source in named.items()}
    words = _captions(read, captions) if by_place else None
    clips = [_clips(name, one, words) for name, one in read.items()]
    if len({one.video.shape[1:] for one in clips}) > 1:
        sizes = "; ".join(f"{one.name}: {'{} frames of {} x {}'.format(*one.video.shape[1:4])}" for one in clips)
        raise CallError(f"a rater would know the settings by the size of their videos, which must be equal. {sizes}.")
    return clips


def _named(sources: tuple[Any, ...]) -> dict[str, Any]:
    if len(sources) == 1 and isinstance(sources[0], Mapping):
        named = {str(name): as_source(source) for name, source in sources[0].items()}
    else:
        opened = [as_source(source) for source in sources]
        names = [_guidance(source) for source in opened]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise CallError(f"two sources are {twice.pop()!r}. Give names: lab.rate({{'first': a, 'second': b}}).")
        named = dict(zip(names, opened, strict=True))
    if len(named) < 2:
        raise CallError(
            f"blind pairs need at least two sources, got {len(named)}. Type lab.rate(a, b); each is {WHAT}."
        )
    return named


def _guidance(source: Any) -> str:
    """A name from the guidance. Of paths in it (a checkpoint's) only the last part: they may tell who works where."""
    if _is_array(source):
        raise CallError("an array has no name of its own. Type lab.rate({'CFG': a, 'CFG + STG': b}).")
    if isinstance(source, Recording):
        text = source.settings.get("guidance_text")
    elif hasattr(source, "video"):
        text = getattr(source, "guidance", None)
    else:
        raise CallError(f"a source is {WHAT}, got {type(source).__name__}.")
    return FOLDERS.sub("", str(text or "the pipeline's own"))


def _is_array(source: Any) -> bool:
    return not isinstance(source, Recording) and not hasattr(source, "video") and hasattr(source, "shape")


class _Read(NamedTuple):
    """What was read of one source: clips as uint8, and of each its caption, its seed and what tells it from others."""

    video: ndarray
    captions: list[str] | None
    seeds: list[int | None]
    digests: list[str]


def _read(name: str, source: Any) -> _Read:
    if isinstance(source, Recording):
        return _Read(_recorded(name, source), source.captions, _seeds(source), _digests(_final(source)))
    if hasattr(source, "video"):
        video, recording = to_bytes(_checked(name, source.video)), getattr(source, "_recording", None)
        if recording is not None:
            return _Read(video, recording.captions, _seeds(recording), _digests(_final(recording)))
        given = source.call.get("generator")
        own = given if isinstance(given, list | tuple) else [given] * len(video)
        seeds = [g.initial_seed() if hasattr(g, "initial_seed") else None for g in own]
        return _Read(video, list(source.captions), seeds, _digests(video))
    if not _is_array(source):
        raise CallError(f"{name} is {WHAT}, got {type(source).__name__}.")
    video = to_bytes(_checked(name, source))
    return _Read(video, None, [None] * len(video), _digests(video))


def _digests(clips: ndarray) -> list[str]:
    return [hashlib.sha256(np.ascontiguousarray(clip).data).hexdigest() for clip in clips]


def _recorded(name: str, recording: Recording) -> ndarray:
    if recording.has_preview and not recording.preview_exact:
        raise RecordingError(
            f"{name}: this recording shows its latents through a rough linear preview, and a rater must see what the model's own "
            f"decoder makes. Give the run itself, or lab.rate({{{name!r}: lab.decode(pipe, recording.ds.final), ...}}, captions=...)."
        )
    try:
        return to_bytes(recording.video())
    except RecordingError as error:
        raise RecordingError(f"{name}: {error}") from None


def _final(recording: Recording) -> ndarray:
    """The last latents. They tell clips apart as their videos do, and are the same bytes on every machine; pictures are not."""
    return recording.ds.final.values.astype("<f4")


def _seeds(recording: Recording) -> list[int | None]:
    coords = recording.ds.coords
    return [int(s) for s in coords["seed"].values] if "seed" in coords else [None] * len(recording.captions)


def _checked(name: str, given: Any) -> ndarray:
    video = np.asarray(given)
    if video.ndim != 5 or video.shape[-1] != 3 or video.dtype.kind != "f":
        raise CallError(f"{name} is {video.dtype} of shape {video.shape}; a source is {WHAT}.")
    if not np.isfinite(video).all() or video.min() < -1e-3 or video.max() > 1.001:
        raise CallError(f"{name} has values from {video.min():g} to {video.max():g}; video is finite and in [0, 1].")
    return video


def _captions(read: Mapping[str, _Read], given: Sequence[str] | None) -> list[str]:
    """Captions by place: those given, or those of the sources that have some, which must agree."""
    known = {"captions=": list(given)} if given is not None else {}
    known |= {name: one.captions for name, one in read.items() if one.captions is not None}
    longest = max(len(one.video) for one in read.values())
    words = max(known.values(), key=len, default=[""] * longest)
    for name, others in known.items():
        if words[: len(others)] != others:
            raise CallError(f"beside an array clips are paired by their place, but {name} has other captions there.")
    if len(words) < longest:
        raise CallError(
            f"captions= needs one caption a clip: there are up to {longest} clips, got {len(words)} captions."
        )
    return words


def _clips(name: str, read: _Read, by_place: list[str] | None) -> Clips:
    if by_place is not None:
        keys = [Key(by_place[i], None, i) for i in range(len(read.video))]
    else:
        made = list(zip(read.captions or [], read.seeds, strict=True))
        keys = [Key(*one, made[:i].count(one)) for i, one in enumerate(made)]
    parts = sorted(json.dumps([*key, digest]) for key, digest in zip(keys, read.digests, strict=True))
    whole = json.dumps([read.video.shape[1:], *parts])
    return Clips(name, read.video, tuple(keys), hashlib.sha256(whole.encode()).hexdigest()[:16])
