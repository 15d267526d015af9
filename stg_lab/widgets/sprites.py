"""A recording as what a browser needs: one PNG a row and sample, and a plain description of them.

A sprite sheet has a row of pictures for each step and a column for each frame, so that moving through the steps needs
neither a kernel nor a network.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from stg_lab.errors import CallError, GuidanceError, RecordingError, did_you_mean
from stg_lab.guidance import CFG, COND, GUIDED, UNCOND, Guidance, number
from stg_lab.palette import colour
from stg_lab.recording import Recording, baseline_text, recording_of
from stg_lab.recording.scales import scale_text
from stg_lab.sheets import to_bytes
from stg_lab.weak import described

ALONE = "cfg"  # the row of CFG alone, rebuilt from cond and uncond
BUDGET = 6_000_000  # pixels of one sheet; above it pictures are made smaller, or a page would not hold them
GAINS = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True)
class Sprites:
    """Everything the explorer shows.

    Attributes:
        view: plain values that say what is where: steps, samples, rows, picture size.
        sheets: PNG bytes by `"row/sample"`.
    """

    view: dict[str, Any]
    sheets: dict[str, bytes]

    @property
    def size(self) -> int:
        """Bytes of all sheets."""
        return sum(map(len, self.sheets.values()))

    @property
    def pixels(self) -> int:
        """Pixels of one sheet."""
        return len(self.view["steps"]) * self.view["frames"] * self.view["height"] * self.view["width"]

    def samples(self, count: int) -> Sprites:
        """The same with the first `count` samples only."""
        view = self.view | {"samples": self.view["samples"][:count]}
        return Sprites(view, {k: png for k, png in self.sheets.items() if int(k.rpartition("/")[2]) < count})


def final_video(source: Any) -> np.ndarray | None:
    """The final video `(sample, frame, height, width, 3)` of a run or recording; None where it was cut off."""
    if not isinstance(source, Recording) and hasattr(source, "video"):
        return np.asarray(source.video, np.float32)
    recording = recording_of(source)
    return recording.video() if recording.complete else None


def make_sprites(
    source: Any,
    *,
    branches: Iterable[str] | None = None,
    cfg: bool = True,
    baseline: Any = None,
    fps: float = 8,
    budget: float = BUDGET,
) -> Sprites:
    """Pictures of every branch at every step; arguments as for `x0_explorer`, and the pixels that a sheet may have."""
    recording = recording_of(source)
    chosen = _chosen(recording, branches)
    videos = {name: _one_step_videos(recording, name) for name in chosen}
    alone = _cfg_of(recording) if cfg else None
    if alone is not None:
        videos[ALONE] = _alone_videos(recording, alone)
    rows = [_row(recording, name, videos[name], alone) for name in _ordered(videos)]
    finals = _finals(recording, source, baseline, like=videos[chosen[0]])
    shape = videos[chosen[0]].shape  # [step, sample, frame, height, width, 3]
    shrink = math.ceil(math.sqrt(math.prod(shape[:1] + shape[2:5]) / budget))
    sheets = {
        f"{name}/{i}": sheet_png(shrunk(video[:, i], shrink))
        for name, video in {**videos, **{row["name"]: video[None] for row, video in finals}}.items()
        for i in range(video.shape[1])
    }
    view = facts(recording) | {
        "frames": shape[2],
        "height": shape[3] // shrink,
        "width": shape[4] // shrink,
        "shrink": shrink,
        "fps": fps,
        "gain": gain_of(videos),
        "rows": rows,
        "finals": [row for row, _ in finals],
    }
    return Sprites(view, sheets)


def _chosen(recording: Recording, branches: Iterable[str] | None) -> list[str]:
    known = recording.branches
    chosen = known if branches is None else [branches] if isinstance(branches, str) else list(branches)
    for name in chosen:
        if name not in known:
            raise GuidanceError(
                f"no branch {name!r} in this recording.{did_you_mean(name, known)} It has: {', '.join(known)}."
            )
    if not chosen:
        raise GuidanceError(f"no branch to show. This recording has: {', '.join(known)}.")
    return list(dict.fromkeys(chosen))


def _ordered(names: Iterable[str]) -> list[str]:
    """cond, uncond, weak models in their own order, CFG alone, guided."""
    rank = {COND: 0, UNCOND: 1, ALONE: 3, GUIDED: 4}
    return sorted(names, key=lambda name: rank.get(name, 2))


def _one_step_videos(recording: Recording, branch: str) -> np.ndarray:
    """x0 of a branch at all steps, `(step, sample, frame, height, width, 3)`; NaN where it was not computed."""
    return np.stack([recording.video(branch, step=k) for k in range(recording.steps)])


def _cfg_of(recording: Recording) -> Guidance | None:
    """The CFG part of the run's guidance; None where it would show nothing that is not there already."""
    guidance = recording.settings.get("guidance") or {"terms": [], "rescale": 0}
    terms = [CFG(t["scale"], start=t["start"], stop=t["stop"]) for t in guidance["terms"] if t["method"] == "CFG"]
    same_as_guided = len(guidance["terms"]) == len(terms) and not guidance["rescale"]
    if not terms and (recording.settings.get("guidance_scale") or 1) > 1:
        terms = [CFG(recording.settings["guidance_scale"])]
    scale = Guidance(tuple(terms)).cfg_scale()
    return None if UNCOND not in recording.branches or scale == 1 or same_as_guided else Guidance(tuple(terms))


def _alone_videos(recording: Recording, guidance: Guidance) -> np.ndarray:
    x0 = recording.x0(recording.reweight(guidance))
    return np.stack([recording.preview(x0.isel(step=k).values) for k in range(recording.steps)])


def step_latents(recording: Recording, step: int, sample: int, names: Iterable[str]) -> dict[str, np.ndarray]:
    """x0 of rows at one step and sample, `(1, channel, frame, y, x)` each; those that were not computed there are left out."""
    found = {}
    for name in names:
        alone = _cfg_of(recording) if name == ALONE else None
        x0 = recording.x0(name if alone is None else recording.reweight(alone))
        found[name] = x0.isel(step=step, sample=slice(sample, sample + 1)).values
    return {name: values for name, values in found.items() if np.isfinite(values).all()}


def _row(recording: Recording, name: str, video: np.ndarray, alone: Guidance | None) -> dict[str, Any]:
    """Name, words and colour of a branch, and at which steps it was computed."""
    weak = recording.weak
    words = {
        COND: (COND, "conditional"),
        UNCOND: (UNCOND, _uncond_note(recording)),
        ALONE: ("CFG", _cfg_note(recording, alone)),
        GUIDED: (GUIDED, _guided_note(recording, bool(weak))),
    }
    label, note = words.get(name) or (name, f"weak model: {described(weak.get(name, name))}")
    computed = [not bool(np.isnan(step).any()) for step in video]
    return {"name": name, "label": label, "note": note, "colour": colour(name, list(weak)), "computed": computed}


def _uncond_note(recording: Recording) -> str:
    negative = recording.settings.get("call", {}).get("negative_prompt")
    return "unconditional (negative caption)" if negative else "unconditional (empty caption)"


def _cfg_note(recording: Recording, alone: Guidance | None) -> str:
    if alone is None:
        return ""
    asked, own = number(alone.cfg_scale()), scale_text(recording)
    changes = alone.plain_cfg and alone.cfg_scale() == recording.settings.get("guidance_scale") and own != asked
    return (
        f"no weak model: u + g (c\u00a0−\u00a0u), g {own}"
        if changes
        else f"no weak model: u + {asked} (c\u00a0−\u00a0u)"
    )


def _guided_note(recording: Recording, weak: bool) -> str:
    terms = recording.settings.get("guidance", {}).get("terms", [])
    scaled = recording.settings.get("guidance_scale") or 1
    has_cfg = any(t["method"] == "CFG" for t in terms) or scaled > 1
    names = [name for name, there in (("CFG", has_cfg), ("STG", weak)) if there]
    return f"{' + '.join(names) or 'no guidance'}, what the sampler used"


def _finals(
    recording: Recording, source: Any, baseline: Any, *, like: np.ndarray
) -> list[tuple[dict[str, Any], np.ndarray]]:
    """Rows of the final videos that are there, each with its pictures `(sample, frame, height, width, 3)`."""
    text = str(recording.settings.get("guidance_text") or "the sampler's own")
    found = [("final", text, GUIDED, _like_previews(source))]
    if baseline is not None:
        note = baseline_text(baseline, recording)
        like_row = COND if note == "no guidance" else ALONE
        found.append(("baseline", f"{note}, same seed", like_row, _like_previews(baseline)))
    rows = []
    for name, note, like_branch, video in found:
        if video is None:
            continue
        if video.shape != like.shape[1:]:
            raise CallError(
                f"the {name} video is {_size(video.shape)}, but the recording holds {_size(like.shape[1:])}. "
                "Give the run of the same call: baseline=run.baseline."
            )
        rows.append(({"name": name, "label": name, "note": note, "colour": colour(like_branch, [])}, video))
    return rows


def _like_previews(source: Any) -> np.ndarray | None:
    """The final video as the steps are shown: where a decoder is learned, they are previews, and so is it."""
    try:
        recording = getattr(source, "recording", None)
    except RecordingError:  # a run that was not recorded has its final video alone
        recording = None
    if isinstance(recording, Recording) and recording.has_preview and not recording.preview_exact:
        return final_video(recording)
    return final_video(source)


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} x {shape[1]} frames of {shape[2]} x {shape[3]}"


def facts(recording: Recording) -> dict[str, Any]:
    coords = recording.ds.coords
    steps = [
        {name: _finite(coords[name].values[k]) if name in coords else None for name in ("sigma", "timestep", "restart")}
        for k in range(recording.steps)
    ]
    seeds = coords["seed"].values if "seed" in coords else [None] * len(recording.captions)
    samples = [
        {"caption": c, "seed": None if s is None else int(s)} for c, s in zip(recording.captions, seeds, strict=True)
    ]
    guidance = str(recording.settings.get("guidance_text") or "")
    return {"guidance": guidance, "preview": _preview_note(recording), "steps": steps, "samples": samples}


def _preview_note(recording: Recording) -> str:
    """What to say of pictures that are only near what the model's own decoder would show."""
    if recording.preview_exact or recording.preview_r2 is None:
        return ""
    return f"linear preview of the latents, R² {recording.preview_r2:.2f}"


def _finite(value: Any) -> float | None:
    """JSON has no NaN."""
    return float(value) if np.isfinite(value) else None


def gain_of(videos: dict[str, np.ndarray]) -> int:
    """The largest gain at which a typical strong difference from cond does not yet saturate."""
    if COND not in videos or len(videos) == 1:
        return 1
    apart = [np.abs(video - videos[COND]).ravel()[::7] for name, video in videos.items() if name != COND]
    strong = np.nanquantile(np.concatenate(apart), 0.99) if apart else 0.0
    return max((g for g in GAINS if g * strong <= 0.6), default=1)


def shrunk(video: np.ndarray, by: int) -> np.ndarray:
    """`(step, frame, height, width, 3)` with each `by x by` block averaged; 1 changes nothing."""
    if by == 1:
        return video
    steps, frames, height, width, _ = video.shape
    h, w = height // by, width // by
    return video[:, :, : h * by, : w * by].reshape(steps, frames, h, by, w, by, 3).mean((3, 5))


def strip(video: np.ndarray, budget: float = BUDGET) -> tuple[bytes, dict[str, int]]:
    """One clip `(frame, height, width, 3)` as a PNG with a picture for each frame, made smaller where it has more pixels than
    the budget, and how many frames of which size there are."""
    shrink = math.ceil(math.sqrt(math.prod(video.shape[:3]) / budget))
    small = shrunk(video[None], shrink)
    return sheet_png(small), {"frames": small.shape[1], "height": small.shape[2], "width": small.shape[3]}


def sheet_png(video: np.ndarray) -> bytes:
    """`(step, frame, height, width, 3)` as one PNG: steps go down, frames go right; NaN is black."""
    steps, frames, height, width, _ = video.shape
    pixels = to_bytes(np.nan_to_num(video)).transpose(0, 2, 1, 3, 4).reshape(steps * height, frames * width, 3)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()
