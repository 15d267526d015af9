"""What a recording looks like on disk; writer and reader agree here and nowhere else."""

from __future__ import annotations

FORMAT = 1  # raised when an older reader could no longer make sense of a recording
MARK = "stg_lab_recording"  # root attribute that holds FORMAT
ID = "stg_lab_id"  # root attribute that tells a recording or sweep from a later one in its place

LATENT_DIMS = ("channel", "frame", "y", "x")
STEP_COORDS = ("timestep", "sigma", "x0_sample", "x0_prediction")
#: Step coordinates that came later; a recording without them is read with these values. `run_step` is the scheduler's own
#: step (NaN: the same as the row), `restart` counts the rounds of Restart, `next_weight` is CFG++'s (NaN: not allowed),
#: `noise` the noise level that windows in sigma mean, which falls over every run (NaN: the same as sigma).
LATER_COORDS = {"run_step": float("nan"), "restart": 0.0, "next_weight": float("nan"), "noise": float("nan")}
PREVIEW = "preview_"  # prefix of the arrays of a `Preview`

#: The array that says how far the writer came: [whole steps, 1 if the run ended by itself]. It is written after each
#: step's data, so whatever it counts is there.
PROGRESS = "progress"
