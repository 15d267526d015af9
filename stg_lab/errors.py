"""Errors of the lab. Each message says what was given, what is allowed, and what to type instead."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LabError(Exception):
    """Base of every error that the lab raises on purpose."""


class GuidanceError(LabError, ValueError):
    """A guidance that cannot be applied as asked."""


class NoTermError(GuidanceError, TypeError):
    """Something in a sum that is no term of one."""


class NothingChangedError(GuidanceError):
    """A weak pass that came out equal to the pass that it was to weaken."""


class CallError(LabError, ValueError):
    """Arguments of a pipeline call that do not fit together."""


class UnsupportedPipelineError(LabError, TypeError):
    """A pipeline of a family that the lab does not know."""


class FamilyError(LabError, ValueError):
    """A model family that cannot be registered."""


class ModelNotFoundError(LabError, FileNotFoundError):
    """A model name that is neither embedded nor a folder nor a reachable repository."""


class UnsafeModelError(LabError, ValueError):
    """A model that loads only by running code that comes with it: pickled weights, or classes of its own."""


class MetricError(LabError, ValueError):
    """Videos or features that a metric cannot measure."""


class RatingError(LabError, ValueError):
    """Ratings that cannot be written, read or taken together."""


class FileError(LabError, OSError):
    """A file that cannot be written."""


class RecordingError(LabError, OSError):
    """A recording that cannot be written or read."""


class RecordingExistsError(RecordingError, FileExistsError):
    """The place for a new recording is taken."""


def did_you_mean(given: object, allowed: Iterable[str]) -> str:
    """A hint to put behind an error, or nothing where no text was given or nothing is like it.

    >>> did_you_mean("digits-joit", ["digits-joint"])
    " Did you mean 'digits-joint'?"
    """
    close = difflib.get_close_matches(given, list(allowed), n=1) if isinstance(given, str) else []
    return f" Did you mean {close[0]!r}?" if close else ""
