"""What a recording looks like on disk; writer and reader agree here and nowhere else."""

from __future__ import annotations

import re

FORMAT = 3  # raised when an older reader could no longer make sense of a recording
PLAIN = 1  # of recordings in which `prediction` holds the predictions themselves; later ones say it of each step (`X0_KEPT`)
MARK = "stg_lab_recording"  # root attribute that holds FORMAT
SWEEP_FORMAT = 2  # the same of an ablation
SWEEP_MARK = "stg_lab_ablation"
ID = "stg_lab_id"  # root attribute that tells a recording or sweep from a later one in its place
#: Root attribute with the checksum of every `zarr.json` by its name, the root's own (without this attribute) among them. It is
#: also the list of the arrays that there are.
CHECKSUMS = "stg_lab_checksums"
#: The first format in which everything has a checksum.
CHECKED = {MARK: 3, SWEEP_MARK: 2}

X0_KEPT = "x0_kept"
LATENT_DIMS = ("channel", "frame", "y", "x")
STEP_COORDS = ("timestep", "sigma", "x0_sample", "x0_prediction")
#: Step coordinates that came later; a recording without them is read with these values. `run_step` is the step of the
#: run (NaN: the same as the row), `restart` counts the rounds of Restart, `next_weight` is CFG++'s (NaN: not allowed),
#: `noise` the noise level that windows in sigma mean, which falls over every run (NaN: the same as sigma),
#: `guidance_scale` the pipeline's own CFG scale, which some change on the way (NaN: that of the settings),
#: `edited` whether the latents were changed between the step before and this one, by a callback or the pipeline, `x0_guided`
#: whether x0 follows from what was stepped with, `x0_kept` whether `prediction` holds x0 there (see `half`).
LATER_COORDS = {
    "run_step": float("nan"),
    "restart": 0.0,
    "next_weight": float("nan"),
    "noise": float("nan"),
    "guidance_scale": float("nan"),
    "edited": 0.0,
    "x0_guided": 1.0,
    X0_KEPT: 0.0,
}
PREVIEW = "preview_"  # prefix of the arrays of a `Preview`
WATCHED = "watched_"  # and of what was looked at inside the model, see `lab.Watch`

#: The array that says how far the writer came: [whole steps, 1 if the run ended by itself]. It is written after each
#: step's data, so whatever it counts is there.
PROGRESS = "progress"

_ARRAYS = {
    *("x_t", "prediction", "final", PROGRESS, "step", "branch", "caption", "seed", *STEP_COORDS, *LATER_COORDS),
    *("scores", "made", "x0_cond", "x0_uncond", "x0", "layer", "part", "axis", "score", "weak", "why"),
}
_DOCUMENT = re.compile(r"zarr\.json(\.([0-9a-f]+\.)?partial)?")
_CHUNK = re.compile(r"c([./]\d+)*(\.partial)?")


def is_array(name: str) -> bool:
    """Whether a recording or sweep of the lab may hold an array of this name."""
    return name in _ARRAYS or name.startswith((PREVIEW, WATCHED))


def is_ours(name: str) -> bool:
    """Whether a file of this name, relative to the folder and with "/", is part of a store of the lab, whole or on its way."""
    first, _, rest = name.partition("/")
    return bool(_DOCUMENT.fullmatch(name)) or (
        is_array(first) and bool(_DOCUMENT.fullmatch(rest) or _CHUNK.fullmatch(rest))
    )
