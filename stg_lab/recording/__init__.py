"""Recordings: every prediction of every step as labelled arrays on disk (xarray on zarr v3).

Written step by step while sampling, readable without a model, a GPU or torch. See `Recording` for what is in one.
"""

from stg_lab.recording.reader import IncompleteRecordingWarning, Recording, open_recording
from stg_lab.recording.writer import Recorder

__all__ = ["IncompleteRecordingWarning", "Recorder", "Recording", "open_recording"]
