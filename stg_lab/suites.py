"""What videos are to show, read from files and from benchmarks' own suites: one reader for all that takes prompts."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stg_lab.errors import CallError, LabError, did_you_mean
from stg_lab.given import Place, read

FILES = (".txt", ".json", ".csv")
COLUMNS = ("prompt", "prompt_en", "caption", "text")  # what a column or field with prompts is called
NAMES = ("file", "video", "name")  # and one with the files that they belong to
VBENCH = "vbench"
_WHERE = "import importlib.util as u; s = u.find_spec('vbench'); print(s.submodule_search_locations[0] if s else '')"


def prompts(source: str | Path) -> list[str]:
    """Prompts of a file or of a suite, each once, in their order: for `lab.sample(prompt=...)` and `lab.search(prompts=...)`.

    Args:
        source: a file: .txt with a prompt a line, .json with a list of prompts, a table by file name, or a list of records, or .csv
            with a column `prompt`; or "vbench", the suite of VBench (Huang et al. 2024) from its package, and
            "vbench:temporal_flickering", those of one dimension. EvalCrafter (Liu et al. 2024) has no package to install: give a
            file of its prompts.

    Raises:
        CallError: no such file or suite, another format, or none in it.
    """
    if isinstance(source, str) and is_suite(source):
        return _vbench(source.partition(":")[2])
    found = read_file(read("a file of prompts", source, Place()))
    listed = list(dict.fromkeys(found.values() if isinstance(found, Mapping) else found))
    if not listed:
        raise CallError(f"{source} holds no prompts. Write one a line.")
    return listed


def is_suite(name: str) -> bool:
    """Whether it names a suite, as "vbench" and "vbench:colour" do."""
    return name.partition(":")[0] == VBENCH


def read_file(path: Path, error: type[LabError] = CallError) -> list[str] | dict[str, str]:
    """What videos are to show, from a file: a list, or by the name of each video's file where the file says these.

    Raises:
        LabError: the `error`; not there, or another format.
    """
    kind = path.suffix.lower()
    try:
        text = path.read_text(encoding="utf-8-sig")
        if kind not in (".json", ".csv"):
            return [line.strip() for line in text.splitlines() if line.strip()]
        found = json.loads(text) if kind == ".json" else list(csv.DictReader(text.splitlines()))
    except (OSError, ValueError, csv.Error) as fault:
        raise error(f"captions could not be read from {path}: {fault}.") from None
    if isinstance(found, list) and found and all(isinstance(one, Mapping) for one in found):
        found = _of_records(found, path, error)
    if not isinstance(found, list | dict) or not all(isinstance(one, str) and one for one in _values(found)):
        raise error(
            f"{path} is to hold captions: lines of text, in .json a list, a table by file name or records, in .csv a column `prompt`."
        )
    return found


def _values(found: list | dict) -> list:
    return list(found.values()) if isinstance(found, dict) else found


def _of_records(records: Sequence[Mapping[str, Any]], path: Path, error: type[LabError]) -> list | dict:
    """The prompts of a table, by the files that they belong to where it has a column of these."""
    fields = list(records[0])
    column = next((name for name in COLUMNS if name in fields), fields[0] if len(fields) == 1 else None)
    if column is None:
        raise error(f"{path} has columns {', '.join(map(str, fields))}; call the one with prompts `prompt`.")
    found = [record.get(column) for record in records]
    files = next((name for name in NAMES if name in fields), None)
    return found if files is None else dict(zip([record.get(files) for record in records], found, strict=True))


def _vbench(dimension: str) -> list[str]:
    """The prompts of VBench, or of one of its dimensions."""
    records = json.loads((_vbench_folder() / "VBench_full_info.json").read_text(encoding="utf-8"))
    known = sorted({name for record in records for name in record["dimension"]})
    if dimension and dimension not in known:
        raise CallError(
            f"VBench has no dimension {dimension!r}.{did_you_mean(dimension, known)} Dimensions: {', '.join(known)}."
        )
    return list(dict.fromkeys(r["prompt_en"] for r in records if not dimension or dimension in r["dimension"]))


def _vbench_folder() -> Path:
    """Where VBench's package lies, here or in the environment that `STG_LAB_VBENCH` names. It is not imported."""
    spec = importlib.util.find_spec(VBENCH)
    if spec is not None and spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    if python := os.environ.get("STG_LAB_VBENCH"):
        try:
            done = subprocess.run([python, "-c", _WHERE], capture_output=True, text=True)
        except OSError as fault:
            raise CallError(f"{python} of STG_LAB_VBENCH could not be started ({fault.strerror}).") from None
        if done.stdout.strip():
            return Path(done.stdout.strip())
    raise CallError(
        "VBench's prompts come with its package, which is not here. Type: pip install --no-deps vbench (its prompts alone), "
        "or give a file of prompts."
    )
