"""The folder of a search: what was asked, the tasks that are done, and what each step of the race was about."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stg_lab.errors import RecordingError
from stg_lab.files import write
from stg_lab.search.candidates import Candidate
from stg_lab.search.tasks import CELLS, kept, video_of

FILE, EXTRA = "search.json", "user.json"
FORMAT = 1


class Missing(Exception):
    """States that are not there yet; whoever only reads stops here."""


class Folder:
    """What lies in the folder of a search.

    `search.json` holds what was asked ("asked"), and what was decided on the way: the steps of the race with their candidates and
    budgets, the baselines, and which file each state of each candidate lies in. Everything in it follows from the tasks' files
    and what was asked, and is written by rename.

    Attributes:
        path: of the folder.
        told: `search.json`.
    """

    def __init__(self, path: Path, told: dict[str, Any]) -> None:
        self.path, self.told = path, told

    @classmethod
    def begin(cls, path: Path, asked: Mapping[str, Any], *, overwrite: bool) -> Folder:
        """Begin a search, or go on with the one that is there.

        Raises:
            RecordingError: the folder holds another search, or something else.
        """
        asked = json.loads(json.dumps(asked))
        if (path / FILE).exists() and not overwrite:
            found = cls.open(path)
            differ = [name for name in asked if asked[name] != found.told["asked"].get(name)]
            if differ:
                raise RecordingError(
                    f"{path} holds another search: it differs in {', '.join(differ)}. Choose another folder, or pass "
                    "overwrite=True to delete it and begin anew."
                )
            return found
        if (path / FILE).exists():
            (path / FILE).unlink()
            shutil.rmtree(path / CELLS, ignore_errors=True)
        elif path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise RecordingError(f"{path} is there already and holds no search. Choose a new folder.")
        found = cls(
            path, {"format": FORMAT, "asked": asked, "steps": [], "baselines": [], "budget": None, "states": {}}
        )
        found.save()
        return found

    @classmethod
    def open(cls, path: Path) -> Folder:
        """The search in a folder.

        Raises:
            RecordingError: there is none, or it cannot be read.
        """
        try:
            told = json.loads((path / FILE).read_text(encoding="utf-8"))
            if told["format"] != FORMAT or not all(k in told for k in ("asked", "steps", "baselines", "states")):
                raise ValueError("it is of another format")
        except FileNotFoundError:
            raise RecordingError(f"{path} holds no search: it has no {FILE}.") from None
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise RecordingError(f"{path / FILE} cannot be read ({error}).") from None
        return cls(path, told)

    def save(self) -> None:
        write(self.path / FILE, json.dumps(self.told, indent=1).encode())

    # ---- what was decided ----

    def steps(self) -> list[list[Candidate]]:
        """The candidates of each step."""
        return [[Candidate.from_dict(one) for one in step["candidates"]] for step in self.told["steps"]]

    def baselines(self) -> list[Candidate]:
        """Those that the winner is told with; none until there is one."""
        return [Candidate.from_dict(one) for one in self.told["baselines"]]

    def note_states(self, name: str, fresh: bool, ids: Sequence[str]) -> None:
        """Note which files the first states of a candidate lie in; `save` writes it."""
        self.told["states"].setdefault("fresh" if fresh else "chosen", {})[name] = list(ids)

    def ids(self, name: str, fresh: bool) -> list[str]:
        """The files of a candidate's states, in order, as far as it was asked to make them."""
        return self.told["states"].get("fresh" if fresh else "chosen", {}).get(name, [])

    # ---- what was made ----

    def place(self, id: str) -> Path:
        return self.path / CELLS / id

    def cell(self, id: str) -> dict[str, Any] | None:
        """What is kept of a task, a user's own scores among its values; None where it is not done."""
        found = kept(self.place(id))
        own = self.place(id).with_suffix(f".{EXTRA}")
        if found is not None and own.exists():
            found["values"] |= json.loads(own.read_text(encoding="utf-8"))
        return found

    def keep_own(self, id: str, values: Mapping[str, float]) -> None:
        """Keep scores that were not measured with the video."""
        write(self.place(id).with_suffix(f".{EXTRA}"), json.dumps(dict(values)).encode())

    def failure(self, id: str) -> str:
        """Why a task failed, in a line; "" where it did not."""
        file = self.place(id).with_suffix(".failed")
        if not file.exists() or self.place(id).with_suffix(".json").exists():
            return ""
        return (file.read_text(encoding="utf-8").strip().splitlines() or ["it failed"])[-1]

    def has_video(self, id: str) -> bool:
        """Whether a task is done and its video is there: a search that ships keeps only the first of them."""
        return self.cell(id) is not None and self.place(id).with_suffix(".npz").exists()

    def video(self, id: str) -> np.ndarray:
        """A video, `(frame, height, width, 3)` in [0, 1]."""
        return video_of(self.place(id))

    def read(self, names: Sequence[str], first: int, last: int, fresh: bool) -> dict[str, np.ndarray | str]:
        """Values of states as a race asks for them, of what is there.

        Raises:
            Missing: some are not.
        """
        found: dict[str, np.ndarray | str] = {}
        for name in names:
            ids = self.ids(name, fresh)[first:last]
            if why := next((w for id in ids if (w := self.failure(id))), ""):
                found[name] = why
                continue
            cells = [self.cell(id) for id in ids]
            scores = self.told["asked"]["scores"]
            rows = [[c["values"].get(s) for s in scores] if c else [None] for c in cells]
            if len(rows) < last - first or any(value is None for row in rows for value in row):
                raise Missing(name)
            found[name] = np.array(rows, np.float64)
        return found
