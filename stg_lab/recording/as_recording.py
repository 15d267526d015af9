"""What stands for a recording wherever one is looked at: itself, a run that has one, or the path or name of one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Protocol

from stg_lab.errors import CallError, RecordingError
from stg_lab.given import shown
from stg_lab.guidance import UNCOND
from stg_lab.recording.opener import open_recording
from stg_lab.recording.reader import Recording
from stg_lab.recording.scales import scale_text


@dataclass(frozen=True)
class Beside:
    """A run, recorded or not, a recording, or the path or name of one, which is opened; a kind of `stg_lab.given`."""

    def read(self, value: Any) -> Any:
        source = as_source(value)
        if "video" not in dir(source):  # to ask for it would decode it
            recording_of(source)
        return source


BESIDE = Beside()


class Recorded(Protocol):
    """What has a recording, such as a `Run`."""

    @property
    def recording(self) -> Recording: ...


Name = str | os.PathLike[str]
Source = Recording | Recorded | Name


def as_source(source: Any) -> Any:
    """The recording at a path, or that ships under a name; anything else as it is. For who also asks a run for its video.

    Raises:
        RecordingError: see `open_recording`.
    """
    return open_recording(source) if isinstance(source, str | os.PathLike) else source


def recording_of(source: Any) -> Recording:
    """The recording itself, the one behind a run, or the one at a path or that ships under a name.

    Raises:
        CallError: none of these.
        RecordingError: the run was not recorded, or there is no recording of that name.
    """
    source = as_source(source)
    recording = source if isinstance(source, Recording) else getattr(source, "recording", None)
    if not isinstance(recording, Recording):
        raise CallError(
            f"give a Run or a Recording, or the path or name of one, got {type(source).__name__}: {shown(source)}. Type for example "
            "lab.open('run.zarr')."
        )
    return recording


def baseline_text(baseline: Any, recording: Recording) -> str:
    """How the run beside a recorded one was guided, for people: "CFG 4 alone", "no guidance", or all its guidance where it has weak models.

    Args:
        baseline: a recording or a run. A run that was not recorded and has no weak model is taken for the same call without them.
        recording: what it stands beside.
    """
    try:
        own = recording_of(baseline)
    except (CallError, RecordingError):
        guidance = getattr(baseline, "guidance", None)
        if guidance and guidance.weak:
            return str(guidance)
        own = recording
    else:
        if own.weak:
            return own.settings["guidance_text"]
    return f"CFG {scale_text(own)} alone" if UNCOND in own.branches else "no guidance"
