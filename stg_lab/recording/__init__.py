"""Recordings: every prediction of every step as labelled arrays on disk (xarray on zarr v3).

Written step by step while sampling, readable without a model, a GPU or torch. See `Recording` for what is in one.
"""

from stg_lab.recording.ablation import ablation_preview, open_ablation
from stg_lab.recording.as_recording import BESIDE, Name, Source, as_source, baseline_text, recording_of
from stg_lab.recording.background import BackgroundRecorder
from stg_lab.recording.opener import open_recording
from stg_lab.recording.packed import pack, recordings
from stg_lab.recording.reader import Recording, check_number
from stg_lab.recording.store import IncompleteRecordingWarning
from stg_lab.recording.writer import Recorder

__all__ = [
    "BESIDE",
    "BackgroundRecorder",
    "IncompleteRecordingWarning",
    "Name",
    "Recorder",
    "Recording",
    "Source",
    "ablation_preview",
    "as_source",
    "baseline_text",
    "check_number",
    "open_ablation",
    "open_recording",
    "pack",
    "recording_of",
    "recordings",
]
