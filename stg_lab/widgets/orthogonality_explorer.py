"""The orthogonality explorer: two guidance vectors, the angle between them, and what eq. 21 takes away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from stg_lab import analysis
from stg_lab.analysis.directions import chosen_vectors, space_and_time, vector_label
from stg_lab.errors import CallError, GuidanceError
from stg_lab.given import Text, takes
from stg_lab.guidance import COND, UNCOND
from stg_lab.palette import SERIES, colour, vector_colour
from stg_lab.recording import Name, Recording, check_number, recording_of
from stg_lab.weak import described
from stg_lab.widgets.base import Explorer, Stepped, check_among, module, style
from stg_lab.widgets.sprites import facts, make_sprites
from stg_lab.widgets.still import Still, Strip, cut
from stg_lab.widgets.vector_sheets import vector_sheets

if TYPE_CHECKING:
    from stg_lab.sampling import Run

IN_MEMORY = 1_000_000_000  # bytes of a recording that is read once instead of once for each analysis


class OrthogonalityExplorer(Stepped, Explorer):
    """The angle between two guidance vectors, with everything on board. Make it with `orthogonality_explorer`.

    Attributes:
        step: the step that is shown, from 0.
        sample: the sample that is shown, from 0.
        keeps: branch of the vector that eq. 21 leaves as it is; the spatial one in the paper.
        loses: branch of the vector that loses its part along the other; the temporal one in the paper.
        unit: whether the principal components are those of directions, every vector of length 1.
        gain: contrast of the pictures of vectors; at 1 the stronger of the two just fits.
        view, sheets, arrays: what is shown; fixed.
    """

    _esm, _css = module("planes", "orthogonality_explorer"), style("orthogonality_explorer")
    STATE = ("step", "sample", "keeps", "loses", "unit", "gain")

    keeps = traitlets.Unicode("").tag(sync=True)
    loses = traitlets.Unicode("").tag(sync=True)
    unit = traitlets.Bool(True).tag(sync=True)
    gain = traitlets.Float(2.0).tag(sync=True)

    @traitlets.validate("keeps", "loses")
    def _check_vector(self, proposal: Any) -> str:
        return check_among(proposal["trait"].name, proposal["value"], tuple(v["name"] for v in self.view["vectors"]))

    @traitlets.validate("gain")
    def _check_gain(self, proposal: Any) -> float:
        if not 0 < proposal["value"] <= 64:
            raise CallError(f"gain lies above 0 and at most at 64, got {proposal['value']}.")
        return proposal["value"]

    def still(self) -> Still | None:
        """The conditional prediction and the two vectors, signed around grey, at the step and sample that are shown."""
        if not self.sheets:
            return None
        about = {vector["name"]: vector for vector in self.view["vectors"]}
        rows = [(COND, COND, colour(COND, []))]
        rows += [(name, f"{about[name]['label']}", about[name]["colour"]) for name in (self.keeps, self.loses)]
        strips = [
            Strip(label, ink, cut(self.sheets[f"{name}/{self.sample}"], self.view["height"], self.step))
            for name, label, ink in rows
        ]
        title = f"Two guidance vectors at step {self.step} of 0-{len(self.view['steps']) - 1}, {self.caption}"
        return Still(title, strips)


@takes(spatial=Text(), temporal=Text())
def orthogonality_explorer(
    source: Run | Recording | Name,
    *,
    spatial: str | None = None,
    temporal: str | None = None,
    sample: int = 0,
) -> OrthogonalityExplorer:
    """Show the angle between two guidance vectors at every step, and what eq. 21 of the paper makes of them.

    Any two vectors of the recording can be chosen in the explorer. Moving through steps, samples and pairs needs no kernel.

    Args:
        source: a recorded run, a recording, or the path or name of one, with two guidance vectors or more.
        spatial: branch of the vector that is kept; by default the first weak model along space.
        temporal: branch of the vector that loses its part along the other; by default the first weak model along time.
            Without a spatial and a temporal one the first two vectors are shown.
        sample: which sample to show first.

    Returns:
        A widget; its state (`step`, `sample`, `keeps`, `loses`, `unit`, `gain`) can be set from Python.

    Raises:
        CallError: `source` is none of these.
        GuidanceError: no such vector.
        RecordingError: not recorded, no such sample, or fewer than two guidance vectors.

    >>> explorer = orthogonality_explorer(lab.open("space_time"))  # doctest: +SKIP
    >>> explorer.step = 3  # doctest: +SKIP
    """
    recording = recording_of(source)
    names = chosen_vectors(recording, ())
    keeps, loses = _pair(recording, names, spatial, temporal)
    check_number("sample", sample, recording.ds.sizes["sample"])
    held = _in_memory(recording)
    view = {
        **facts(held),
        "vectors": [_about(held, name) for name in names],
        "lines": {"pair": SERIES[6], "removed": SERIES[5], "left": SERIES[2]},
    }
    arrays, numbers = _arrays(held)
    sheets: dict[str, bytes] = {}
    if held.has_preview:
        sprites = make_sprites(held, branches=[COND], cfg=False)
        view |= {name: sprites.view[name] for name in ("frames", "height", "width", "shrink")}
        signed, scale = vector_sheets(held, names, sprites.view["shrink"])
        sheets = {key: png for key, png in sprites.sheets.items() if key.startswith(f"{COND}/")} | signed
        arrays["scale"] = scale
    state = {"step": recording.steps // 3, "sample": sample, "keeps": keeps, "loses": loses}
    return OrthogonalityExplorer(view | numbers, sheets, arrays, **state)


def _pair(recording: Recording, names: list[str], spatial: str | None, temporal: str | None) -> tuple[str, str]:
    given = [name for name in (spatial, temporal) if name is not None]
    chosen_vectors(recording, given, least=0)
    if spatial is not None and spatial == temporal:
        raise GuidanceError(
            f"spatial and temporal are the same vector, {spatial!r}. Choose two of: {', '.join(names)}."
        )
    try:
        found = space_and_time(recording)
    except GuidanceError:
        weak_first = [*(n for n in names if n != UNCOND), *(n for n in names if n == UNCOND)]
        found = (weak_first[0], weak_first[1])
    spatial = spatial or next(n for n in (found[0], *names) if n != temporal)
    return spatial, temporal or next(n for n in (found[1], *names) if n != spatial)


def _in_memory(recording: Recording) -> Recording:
    """The recording, read once where it is small: every analysis reads it again."""
    if recording.ds.nbytes > IN_MEMORY:
        return recording
    ds, path, planned = recording.ds.compute(), recording.path, recording.planned
    return Recording(ds, path, complete=recording.complete, planned=planned, preview=recording._preview)


def _about(recording: Recording, name: str) -> dict[str, str]:
    weak = list(recording.weak)
    note = "cond − uncond" if name == UNCOND else described(recording.weak[name])
    ink = vector_colour(name, weak)
    return {"name": name, "label": vector_label(recording, name), "note": note, "colour": ink}


def _arrays(recording: Recording) -> tuple[dict[str, Any], dict[str, Any]]:
    """Numbers for the browser, samples first; and the few that need no array."""
    found = analysis.angles(recording)
    pair = ("sample", "vector", "other", "step")
    lengths = analysis.norms(recording).norm.sel(vector=found.vector)
    arrays = {
        "angle": found.angle.transpose(*pair).values,
        "cosine": found.cosine.transpose(*pair).values,
        "frame_angle": found.frame_angle.transpose(*pair, "frame").values,
        "chance": analysis.shifted_cosine(recording).transpose(*pair).values,
        "length": lengths.transpose("sample", "vector", "step").values,
        "coefficient": found.coefficient.transpose(*pair).values,
    }
    planes = [
        [analysis.components(recording, sample=i, unit=unit) for i in range(recording.ds.sizes["sample"])]
        for unit in (False, True)
    ]
    for name in ("score", "origin", "explained"):  # [unit, sample, ...]
        arrays[name] = np.array([[plane[name].values.squeeze() for plane in row] for row in planes])
    dimensions = {name: found.attrs[name] for name in ("dimensions", "frame_dimensions")}
    random = {
        name: float(np.degrees(np.arcsin(min(1.0, 2 * analysis.random_cosine(n))))) for name, n in dimensions.items()
    }
    return arrays, {"dimensions": dimensions["dimensions"], "random": random}
