"""What was looked at inside the model while a run was recorded."""

from __future__ import annotations

import numpy as np
import xarray as xr

from stg_lab.errors import RecordingError
from stg_lab.recording import Source, recording_of
from stg_lab.recording.layout import WATCHED
from stg_lab.weak import parse

#: Dimensions of what is looked at, after the step; and what it is, for people.
SEEN = {
    "frames": (("sample", "frame", "to"), "share of a frame's attention that goes to each frame"),
    "entropy": (("sample", "frame"), "entropy of the self-attention of a frame's tokens, in nats"),
    "words": (("sample", "word", "frame", "y", "x"), "attention of each place to each word"),
    "norm": (("sample", "frame"), "RMS of the stream after a layer"),
    "change": (("sample",), "distance of the stream from the watched step before, relative"),
    "attention": (("sample",), "RMS of what the self-attention gives"),
    "cross_attention": (("sample",), "RMS of what the cross-attention gives"),
    "feedforward": (("sample",), "RMS of what the feed-forward gives"),
    "block": (("sample",), "RMS of what the block adds to the stream"),
    "temporal_attention": (("sample",), "RMS of what the attention over time gives"),
    "temporal_cross_attention": (("sample",), "RMS of what the cross-attention of the block for time gives"),
    "temporal_feedforward": (("sample",), "RMS of what the feed-forward of the block for time gives"),
    "temporal_block": (("sample",), "RMS of what the block for time adds to the stream"),
}


def watched(recording: Source) -> xr.Dataset:
    """What `lab.Watch` kept of a run.

    Args:
        recording: of a run whose guidance had a `Watch`.

    Returns:
        Dataset of the arrays that `lab.Watch` names, each with the dimensions `step`, `<what>_layer`, and its own. Steps that were not looked
        at are NaN. `attrs["words"]` has the tokens of every caption, where the pipeline has a tokenizer; the last word of `words`
        is the sum of all others.

    Raises:
        RecordingError: nothing was watched.
    """
    recording = recording_of(recording)
    names = [str(name) for name in recording.ds.data_vars if str(name).startswith(WATCHED)]
    if not names:
        raise RecordingError(
            f"nothing was watched in {recording.path.name}. Record it with lab.Watch(layers): guidance=lab.CFG(4) + lab.Watch([3, 4])."
        )
    terms = (recording.settings.get("guidance") or {}).get("terms", [])
    looks = [parse(term["weak"]) for term in terms if term["method"] == "Watch"]
    layers = {look.what: look.layers for look in looks}  # type: ignore[attr-defined]
    found = {}
    for name in (n.removeprefix(WATCHED) for n in names):
        dims, said = SEEN[name]
        what = (
            "attention"
            if name in ("frames", "entropy", "words")
            else "hidden"
            if name in ("norm", "change")
            else "residual"
        )
        values = recording.ds[WATCHED + name]
        numbers = list(layers.get(what, range(values.shape[1])))[: values.shape[1]]
        coords = {"step": recording.ds.step.values, f"{what}_layer": np.array(numbers)}
        found[name] = xr.DataArray(
            values.values, dims=("step", f"{what}_layer", *dims), coords=coords, attrs={"long_name": said}
        )
    return xr.Dataset(found, attrs={"words": recording.settings.get("words", [])})
