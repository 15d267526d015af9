"""Two runs of one seed under two settings: at which step, in which frames and bands they part, and what differs in the settings."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from stg_lab.errors import RecordingError
from stg_lab.given import Number, takes
from stg_lab.guidance.bands import filtered
from stg_lab.guidance.scores import norm
from stg_lab.recording import Recording, Source, recording_of

#: Bands of the difference, from the finest to the coarsest, along space and along time.
BANDS = ("fine", "middle", "coarse")
AXES = {"space": (3, 4), "time": (2,)}
#: Settings that say when and where a run was made, not how; and what guidance_text says too.
ASIDE = ("guidance.", "created", "path", "versions.python", "platform", "seconds", "reels")


@dataclass(frozen=True, repr=False)
class Comparison:
    """What `compare` found. `str()` says it in words; Jupyter shows a table of the settings that differ.

    Attributes:
        a, b: the recordings.
        settings: what differs, by name with dots: (value in a, value in b); None where one has no such setting.
        ds: distances, relative to the length of what a has there, float64:

            - `x_t (step, sample)`: of the noisy latents that a step starts from;
            - `prediction (branch, step, sample)`: of every branch that both recorded;
            - `frames (step, sample, frame)`: of x_t, frame by frame;
            - `bands (step, sample, axis, band)`: of x_t, in bands of a pyramid along "space" and along "time".

            `parts (sample)` is the first step whose x_t differs, or the number of steps; `other (step)` the step of b that is
            held against each step of a, the one of the nearest noise level.
        tolerance: distances up to it are rounding.
    """

    a: Recording = field(repr=False)
    b: Recording = field(repr=False)
    settings: dict[str, tuple[Any, Any]]
    ds: xr.Dataset = field(repr=False)
    tolerance: float

    def __str__(self) -> str:
        return "\n".join([*self._found(), *(f"  {name}: {a!r} / {b!r}" for name, (a, b) in self.settings.items())])

    __repr__ = __str__

    def _found(self) -> list[str]:
        parts, steps = self.ds.parts.values, self.ds.sizes["step"]
        if (parts == 0).all():
            lines = ["They start from other noise."]
        elif (parts == steps).all():
            lines = ["Every step starts from the same latents."]
        else:
            each = sorted(set(parts.tolist()))
            said = f"step {each[0]}" if len(each) == 1 else f"steps {', '.join(map(str, each))}, by sample"
            lines = [f"They part before {said} of {steps}: until then every step starts from the same latents."]
        last = self.ds.x_t.isel(step=-1)
        if float(last.max()) > self.tolerance:
            frames = self.ds.frames.isel(step=-1).mean("sample")
            bands = self.ds.bands.isel(step=-1).mean("sample")
            most = {axis: str(bands.band.values[int(bands.sel(axis=axis).values.argmax())]) for axis in AXES}
            lines.append(
                f"At the last step they are {float(last.mean()):.2g} of a's length apart, most in frame {int(frames.values.argmax())}, "
                f"in the {most['space']} band of space and the {most['time']} band of time."
            )
        lines.append(f"Settings that differ: {len(self.settings) or 'none'}.")
        return lines

    def _repr_html_(self) -> str:
        cell = 'style="text-align:left;padding:2px 12px 2px 0;vertical-align:top"'
        rows = "".join(
            f"<tr><th {cell}>{html.escape(name)}</th>{''.join(f'<td {cell}>{html.escape(str(v))}</td>' for v in values)}</tr>"
            for name, values in self.settings.items()
        )
        said = "<br>".join(map(html.escape, self._found()))
        return (
            f"<div>{said}<table><tr><th {cell}>setting</th><th {cell}>a</th><th {cell}>b</th></tr>{rows}</table></div>"
        )


@takes(tolerance=Number(0, 1))
def compare(a: Source, b: Source, *, tolerance: float = 1e-5) -> Comparison:
    """Hold two recordings of the same seeds against each other, step by step.

    Runs with other steps are held against each other at the nearest noise levels.

    Args:
        a, b: recorded runs, recordings, or paths or names of some. Their latents must be equally large.
        tolerance: up to which share of its length x_t may differ and still be the same.

    Raises:
        RecordingError: latents of other sizes.

    >>> lab.compare("repair", "repair_unguided").settings["guidance_text"]  # doctest: +SKIP
    """
    a, b = recording_of(a), recording_of(b)
    sizes = [tuple(one.ds.sizes[d] for d in ("sample", "channel", "frame", "y", "x")) for one in (a, b)]
    if sizes[0] != sizes[1]:
        raise RecordingError(
            f"{a.path.name} holds latents (sample, channel, frame, y, x) of {sizes[0]} and {b.path.name} of {sizes[1]}. Compare "
            "recordings of calls that agree in samples and sizes."
        )
    other = _aligned(a, b)
    common = [name for name in a.branches if name in b.branches and a.weak.get(name) == b.weak.get(name)]
    rows = [_step(a, b, k, int(j), common) for k, j in enumerate(other)]
    ds = xr.Dataset(
        {
            "x_t": (("step", "sample"), np.array([row["x_t"] for row in rows])),
            "prediction": (
                ("branch", "step", "sample"),
                np.array([row["prediction"] for row in rows]).transpose(1, 0, 2),
            ),
            "frames": (("step", "sample", "frame"), np.array([row["frames"] for row in rows])),
            "bands": (("step", "sample", "axis", "band"), np.array([row["bands"] for row in rows])),
        },
        coords={
            "step": a.ds.step.values,
            "branch": common,
            "axis": list(AXES),
            "band": list(BANDS),
            "other": ("step", other),
            "sigma": ("step", a.ds.sigma.values),
        },
    )
    apart = ds.x_t.values > tolerance
    ds = ds.assign_coords(parts=("sample", np.where(apart.any(0), apart.argmax(0), len(apart))))
    for name in ds.data_vars:
        ds[name].attrs.update(long_name="distance relative to a", units="1")
    return Comparison(a, b, differing(a.settings, b.settings), ds, tolerance)


def _aligned(a: Recording, b: Recording) -> np.ndarray:
    """For each step of a, the step of b with the nearest noise level."""
    mine, theirs = a.ds.noise.values, b.ds.noise.values
    if mine.shape == theirs.shape and np.allclose(mine, theirs, equal_nan=True):
        return np.arange(len(mine))
    return np.abs(np.nan_to_num(mine)[:, None] - np.nan_to_num(theirs)[None]).argmin(1)


def _step(a: Recording, b: Recording, k: int, j: int, branches: list[str]) -> dict[str, Any]:
    x, y = (np.asarray(one.ds.x_t.isel(step=s).values, np.float64) for one, s in ((a, k), (b, j)))
    apart = y - x
    predictions = [
        [one.ds.prediction.isel(step=s).sel(branch=name).values for one, s in ((a, k), (b, j))] for name in branches
    ]
    bands = [[relative(_band(apart, n, axes), _band(x, n, axes)) for n in range(len(BANDS))] for axes in AXES.values()]
    frames = [relative(apart[:, :, f : f + 1], x[:, :, f : f + 1]) for f in range(x.shape[2])]
    return {
        "x_t": relative(apart, x),
        "prediction": [relative(q.astype(float) - p, p) for p, q in predictions],
        "frames": np.array(frames).T,
        "bands": np.array(bands).transpose(2, 0, 1),
    }


def _band(x: np.ndarray, number: int, axes: tuple[int, ...]) -> np.ndarray:
    return filtered(x, tuple(float(number == n) for n in range(len(BANDS))), axes)


def relative(apart: np.ndarray, to: np.ndarray) -> np.ndarray:
    """Length of each sample of a difference, over that of what it is a difference to; 0 where both are zero."""
    length, reference = norm(apart), norm(to)
    return np.where(length == 0, 0.0, length / np.where(reference == 0, np.nan, reference))


def differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What two nests of settings do not agree in, by names with dots."""
    flat = [_flat(one) for one in (a, b)]
    names = sorted({*flat[0], *flat[1]})
    return {
        name: (flat[0].get(name), flat[1].get(name))
        for name in names
        if flat[0].get(name) != flat[1].get(name) and not name.startswith(ASIDE)
    }


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {
            k: v for key, one in value.items() for k, v in _flat(one, f"{name}.{key}" if name else str(key)).items()
        }
    return {name: value}
