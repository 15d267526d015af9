"""The guidance explorer: what every vector is made of, and what any scales would have made of a step."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from stg_lab import analysis
from stg_lab.errors import CallError, RecordingError, did_you_mean
from stg_lab.given import Flag, Number, takes
from stg_lab.guidance import COND, GUIDED, UNCOND
from stg_lab.palette import colour, vector_colour
from stg_lab.recording import Name, check_number, recording_of
from stg_lab.recording.scales import has_frames, scale_text
from stg_lab.sheets import to_bytes
from stg_lab.weak import described
from stg_lab.widgets.base import Explorer, Quantised, Stepped, check_among, module, style
from stg_lab.widgets.sprites import facts, make_sprites
from stg_lab.widgets.still import Still, Strip, cut

if TYPE_CHECKING:
    from stg_lab.recording import Recording
    from stg_lab.sampling import Run

PANELS = ("lengths", "parts", "spectra")
ONTO = ("cond", "x0", "cfg")
STRONG = 0.99  # quantile of a vector's pixels that its picture shows in full
LARGEST = 100.0  # scales beyond this show nothing but saturated pixels


class GuidanceExplorer(Stepped, Explorer):
    """Guidance vectors and any scales of them, with all numbers on board. Make it with `guidance_explorer`.

    Attributes:
        step: the step that is shown, from 0.
        sample: the sample that is shown, from 0.
        frame: the frame of the pictures, from 0.
        playing: whether the frames move.
        scales: by vector, `{"uncond": 4, "skip": 1}`: CFG's in diffusers' convention, 1 is off; a weak model's weight, 0 is
            off. A vector that is not named keeps the scale that the run used at the step.
        rescale: phi of the paper's Alg. 4, 0 (off) to 1.
        panel: which charts are shown: "lengths", "parts" or "spectra".
        onto: the direction of the parts: "cond", "x0" or "cfg".
        common: whether the heat maps share one range of colours.
        view, arrays, sheets: what is shown; fixed.
    """

    _esm, _css = module("guidance_explorer"), style("guidance_explorer")
    STATE = ("step", "sample", "frame", "playing", "scales", "rescale", "panel", "onto", "common")

    frame = traitlets.Int(0).tag(sync=True)
    playing = traitlets.Bool(False).tag(sync=True)
    scales = traitlets.Dict().tag(sync=True)
    rescale = traitlets.Float(0.0).tag(sync=True)
    panel = traitlets.Unicode("lengths").tag(sync=True)
    onto = traitlets.Unicode("cond").tag(sync=True)
    common = traitlets.Bool(False).tag(sync=True)

    @traitlets.validate("frame")
    def _check_frame(self, proposal: Any) -> int:
        if not 0 <= proposal["value"] < self.view["frames"]:
            raise CallError(
                f"frame {proposal['value']} is out of range: the pictures are 0 to {self.view['frames'] - 1}."
            )
        return proposal["value"]

    @traitlets.validate("scales")
    def _check_scales(self, proposal: Any) -> dict[str, float]:
        known = [vector["name"] for vector in self.view["vectors"]]
        for name, scale in proposal["value"].items():
            if name not in known:
                raise CallError(f"no vector {name!r}.{did_you_mean(name, known)} There are: {', '.join(known)}.")
            if not isinstance(scale, int | float) or not abs(scale) <= LARGEST:
                raise CallError(f"the scale of {name!r} is a number from {-LARGEST:g} to {LARGEST:g}, got {scale!r}.")
        return dict(proposal["value"])

    @traitlets.validate("rescale")
    def _check_rescale(self, proposal: Any) -> float:
        if not 0 <= proposal["value"] <= 1:
            raise CallError(f"rescale goes from 0 (off) to 1 (full), got {proposal['value']}.")
        return proposal["value"]

    @traitlets.validate("panel", "onto")
    def _check_choice(self, proposal: Any) -> str:
        name = proposal["trait"].name
        return check_among(name, proposal["value"], PANELS if name == "panel" else ONTO)

    def still(self) -> Still:
        """The conditional prediction, what the sampler used, and each vector around grey, at the step and sample that are shown."""
        unit = self.numbers("unit")[:, self.step, self.sample, None, None, None, None]
        values = (
            self.numbers("pictures")[:, self.step, self.sample] * unit
        )  # [row, frame, height, width, rgb]: x_t, cond, vectors
        recorded = cut(self.sheets[f"{self.view['recorded']}/{self.sample}"], self.view["height"], self.step)
        strips = [
            Strip(COND, colour(COND, []), _side_by_side(values[1])),
            Strip(self.view["recorded"], colour(GUIDED, []), recorded),
        ]
        for vector, change in zip(self.view["vectors"], values[2:], strict=True):
            around_grey = 0.5 + 0.5 * change / max(float(np.quantile(np.abs(change), STRONG)), 1e-9)
            strips.append(Strip(f"cond - {vector['name']}", vector["colour"], _side_by_side(around_grey)))
        return Still(f"Guidance vectors at step {self.step} of 0-{len(self.view['steps']) - 1}, {self.caption}", strips)

    def __repr__(self) -> str:
        view = self.view
        return (
            f"GuidanceExplorer({len(view['steps'])} steps x vectors [{', '.join(v['name'] for v in view['vectors'])}] "
            f"x {len(view['samples'])} samples, at step {self.step})"
        )


@takes(budget=Number(0.01, 200, words="number of megabytes"), hint=Flag())
def guidance_explorer(
    source: Run | Recording | Name,
    *,
    step: int | None = None,
    sample: int = 0,
    budget: float = 5.5,
    fps: float = 8,
    hint: bool = True,
) -> GuidanceExplorer:
    """Look into the guidance vectors of a recorded run, and move their scales.

    The picture under the sliders is the guided one-step prediction of the shown step, exact for that step and painted in the
    browser from the decoded `cond` and vectors. It is not the trajectory that those scales would have taken: there every
    later step would have started elsewhere (sample again for that). Rescaling is the paper's Alg. 4. Recordings of models
    with a learned decoder show the linear preview of their latents.

    Args:
        source: a recorded run, a recording, or the path or name of one.
        step: which step to show first; the middle one by default.
        sample: which sample to show first.
        budget: megabytes of pictures that the widget may hold. Samples that do not fit are left out, and if not even one
            fits its pictures are made smaller; the explorer says so.
        fps: frames a second while it plays.
        hint: whether what was left out comes with what to type for more, which is of no use on a page without Python.

    Returns:
        A widget; its state (`step`, `sample`, `frame`, `playing`, `scales`, `rescale`, `panel`, `onto`, `common`) can be set
        from Python.

    Raises:
        CallError: `source` is none of these, or an argument is out of range.
        RecordingError: not recorded, no guidance vector, no such sample, or latents that cannot be shown without a model.

    >>> explorer = guidance_explorer(lab.open("repair_both"))  # doctest: +SKIP
    >>> explorer.scales = {"uncond": 6, "skip": 2}  # doctest: +SKIP
    """
    if not 0 < fps <= 120:
        raise CallError(f"fps is the number of frames a second, above 0 and at most 120, got {fps}.")
    recording = recording_of(source)
    names = [name for name in analysis.vector_names(recording) if name != GUIDED]
    check_number("sample", sample, len(recording.captions))
    frames, *sides = recording.preview(np.zeros_like(recording.ds.x_t.isel(step=0, sample=[0]))).shape[1:4]
    count, shrink = _fitting(recording, len(names) + 2, frames, *sides, budget=budget * 1e6)
    if sample >= count:
        raise RecordingError(
            f"sample {sample} does not fit: {budget:g} MB hold the first {count}. Give more, such as budget={2 * budget:g}."
        )
    pictures = analysis.mixing_pictures(recording, samples=count, shrink=shrink)
    scales, phi = analysis.recorded_scales(recording)
    recorded = GUIDED if GUIDED in recording.branches else COND
    cells = recording.steps * frames * sides[0] * sides[1]
    sheets = make_sprites(recording, branches=[recorded], cfg=False, budget=cells / shrink**2).samples(count)
    view = facts(recording) | {
        "frames": frames,
        "height": pictures.sizes["height"],
        "width": pictures.sizes["width"],
        "shrink": shrink,
        "fps": fps,
        "recorded": recorded,
        "phi": phi,
        "vectors": [_vector(recording, name, scales.sel(vector=name).values, pictures) for name in names],
        "curves": [_curve(recording, name) for name in analysis.vector_names(recording)],
        "note": _note(recording, count, shrink, hint),
    }
    view["samples"] = view["samples"][:count]
    curves, axes = _curves(recording, count)
    first = recording.steps // 2 if step is None else check_number("step", step, recording.steps)
    state = {"step": first, "sample": sample, "frame": frames // 2, "rescale": phi}
    shown = {name: png for name, png in sheets.sheets.items() if name.startswith(f"{recorded}/")}
    return GuidanceExplorer(view | axes, shown, _numbers(pictures) | curves, **state)


def _side_by_side(clip: np.ndarray) -> np.ndarray:
    """`(frame, height, width, 3)` as one row of pixels."""
    return np.concatenate(list(to_bytes(clip)), axis=1)


def _fitting(
    recording: Recording, rows: int, frames: int, height: int, width: int, *, budget: float
) -> tuple[int, int]:
    """How many samples fit, and by what the sides of pictures are divided."""
    one = 2 * 3 * rows * recording.steps * frames * height * width  # int16, RGB
    count = min(recording.ds.sizes["sample"], int(budget // one))
    if count:
        return count, 1
    return 1, min(math.ceil(math.sqrt(one / budget)), height, width)


def _numbers(pictures: Any) -> dict[str, Any]:
    """Pictures of each row, step and sample in their own range, which `unit` holds: noisy steps are far brighter."""
    values = pictures.values
    unit = np.nan_to_num(np.abs(values)).max((3, 4, 5, 6))
    unit[unit == 0] = 1
    return {"pictures": Quantised(values / unit[..., None, None, None, None]), "unit": unit}


def _curves(recording: Recording, count: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The numbers of the charts, of the first `count` samples, and what they run over."""
    parts, sizes = analysis.vector_parts(recording), analysis.vector_lengths(recording)
    spectra, table = analysis.vector_spectra(recording), analysis.gram(recording)
    density = spectra.space / spectra.space_modes
    named = {"norm": sizes.norm, "in_frames": sizes.frames, "in_channels": sizes.channels, "mean": table["mean"]}
    named |= {"parallel": parts.parallel, "orthogonal": parts.orthogonal, "covariance": table.covariance}
    named |= {"space": density.transpose(..., "radius"), "time": spectra.time / spectra.time_modes}
    axes = {"radius": spectra.radius.values.tolist(), "frequency": spectra.frequency.values.tolist()}
    return {name: values.isel(sample=slice(count)).values for name, values in named.items()}, axes


def _curve(recording: Recording, name: str) -> dict[str, Any]:
    words = {UNCOND: "CFG's (cond − uncond)", GUIDED: "whole push, as recorded"}
    return {"name": name, "label": words.get(name, name), "colour": vector_colour(name, list(recording.weak))}


def _vector(recording: Recording, name: str, scales: np.ndarray, pictures: Any) -> dict[str, Any]:
    """What a slider needs: names, colour, range, the recorded scale and whether the vector is there at each step."""
    is_cfg = name == UNCOND
    low, high = (0.0, 15.0) if is_cfg else (-2.0, 5.0)
    there = np.isfinite(pictures.sel(row=name).isel(sample=0)).all(("picture", "height", "width", "rgb"))
    return {
        "name": name,
        "label": "CFG" if is_cfg else name,
        "note": "g, 1 is off" if is_cfg else f"s, 0 is off: {described(recording.weak[name])}",
        "colour": vector_colour(name, list(recording.weak)),
        "off": 1.0 if is_cfg else 0.0,
        "low": min(low, float(scales.min())),
        "high": max(high, float(scales.max()) * 1.5),
        "recorded": [round(float(scale), 6) for scale in scales],
        "computed": there.values.tolist(),
    }


def _note(recording: Recording, count: int, shrink: int, hint: bool) -> str:
    """What had to be left out."""
    said = []
    total = recording.ds.sizes["sample"]
    if count < total:
        said.append(
            f"the first {count} of {total} samples, so that the page stays small{'; budget=... holds more' * hint}"
        )
    if has_frames(recording):
        said.append(f"the run's CFG scale is {scale_text(recording)}; the slider sets one for all frames")
    if shrink > 1:
        said.append(f"pictures at 1/{shrink} of their size{'; budget=... shows them larger' * hint}")
    return "; ".join(said)
