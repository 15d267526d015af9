"""The house stands: every room imports only from floors below it or from itself, and no file is too long to read."""

import ast
import re
from importlib.util import resolve_name
from pathlib import Path

import pytest
from kit import ROOT

PACKAGE = ROOT / "stg_lab"

# From the ground up. Rooms on one floor do not import each other.
FLOORS = (
    ("errors", "_version", "palette"),
    ("given", "preview", "shipped", "undone"),
    ("files",),
    ("sheets",),
    ("gaussians", "opensora", "suites", "videogrid", "videos"),
    ("digits",),
    ("x0",),
    ("guidance",),
    ("loading",),
    ("families",),
    ("patch",),
    ("weak",),
    ("interop", "recommended"),
    ("passes",),
    ("reuse", "seams"),
    ("recording",),
    ("sampling",),
    ("sweeps",),
    ("metrics",),
    ("analysis", "rating"),
    ("plots", "figures"),
    ("widgets",),
    ("report",),
    ("app", "search"),
    ("evidence",),
    ("demo",),
    ("commands",),
    ("cli",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
ROOF = {"__init__", "__main__"}  # may import anything

MODULES = sorted(PACKAGE.rglob("*.py"))
SOURCES = {".py", ".js", ".css", ".html"}
MAX_LINES = 400
MAX_BODY = 50  # lines of a function, its docstring aside
MAX_METHODS = 26
#: Longer for a reason: the text of a model's card; a class that can be made only where diffusers is there.
LONG = {"digits/card.py _card", "sampling/guider.py _guider_class"}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def package_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).parent.parts)


def imported_names(source: str, package: str) -> list[tuple[int, str]]:
    """Line and absolute dotted name of each import anywhere in `source`; `from a import b` counts as `a.b`."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            origin = resolve_name("." * node.level + (node.module or ""), package)
            names += [(node.lineno, f"{origin}.{alias.name}") for alias in node.names]
    return names


def faults(source: str, room: str, package: str) -> list[str]:
    """What `source`, a module of `room` inside `package`, imports against the plan."""
    found = []
    for line, name in imported_names(source, package):
        top, target, *_ = [*name.split("."), ""]
        if top != "stg_lab" or target == room:
            continue
        if target not in FLOOR:
            found.append(f"line {line}: {name} is not in a room of FLOORS; import it from the room that defines it")
        elif FLOOR[target] >= FLOOR[room]:
            found.append(f"line {line}: {room} imports {name}, which is not on a floor below it")
    return found


def test_every_room_is_on_the_plan():
    unknown = {room_of(path) for path in MODULES} - FLOOR.keys() - ROOF
    assert MODULES
    assert not unknown, f"{sorted(unknown)} under stg_lab/: add it to FLOORS and to the plan"


def test_the_documentation_names_every_room():
    page = (PACKAGE.parent / "docs/architecture.md").read_text(encoding="utf-8")
    assert [room for room in FLOOR if f"`{room}`" not in page and room != "_version"] == []


def test_tests_lie_in_folders_as_the_rooms_do():
    """Beside what is about the whole house, or needs a machine of its own; and none of them takes from another."""
    tests, others = PACKAGE.parent / "tests", {"house", "docs", "browser", "gpu", "campaign", "kit", "data"}
    assert [path.name for path in tests.glob("*.py")] == ["conftest.py"]
    assert {path.name for path in tests.iterdir() if any(path.glob("*"))} - FLOOR.keys() - others <= {"__pycache__"}
    taking = [path for path in tests.rglob("*.py") if re.search(r"^(from|import) test_", path.read_text("utf-8"), re.M)]
    assert taking == []


def test_what_the_journey_of_a_step_names_is_there():
    page = (PACKAGE.parent / "docs/architecture.md").read_text(encoding="utf-8")
    journey = page.partition("## The journey of one step")[2].partition("## ")[0]
    files = [PACKAGE / name for name in re.findall(r"`([a-z_/]+\.py)`", journey)]
    assert [file for file in files if not file.exists()] == []
    code = "\n".join(path.read_text(encoding="utf-8") for path in MODULES)
    names = re.findall(r"`(?:[A-Z]\w+\.)?(\w+)`", journey)
    assert len(files) >= 10
    assert [name for name in names if not re.search(rf"\b(?:def|class) {name}\b", code)] == []


@pytest.mark.parametrize("path", [p for p in MODULES if room_of(p) in FLOOR], ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down(path):
    assert faults(path.read_text(encoding="utf-8"), room_of(path), package_of(path)) == []


def test_files_can_be_read_in_one_sitting():
    lengths = {p: len(p.read_text(encoding="utf-8").splitlines()) for p in PACKAGE.rglob("*") if p.suffix in SOURCES}
    assert {str(p.relative_to(PACKAGE)): n for p, n in lengths.items() if n > MAX_LINES} == {}


def too_long(path: Path) -> list[str]:
    """Functions with too many lines, and classes with too many methods."""
    found, where = [], str(path.relative_to(PACKAGE))
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            if body and body[-1].end_lineno - body[0].lineno >= MAX_BODY:
                found.append(f"{where} {node.name}")
        if isinstance(node, ast.ClassDef) and sum(isinstance(one, ast.FunctionDef) for one in node.body) > MAX_METHODS:
            found.append(f"{where} {node.name}")
    return found


def test_functions_and_classes_can_be_read_in_one_sitting():
    assert {name for path in MODULES for name in too_long(path)} - LONG == set()


@pytest.mark.parametrize(
    "source",
    [
        "from stg_lab import sampling",
        "from stg_lab.sampling import sample",
        "import stg_lab.sampling",
        "import stg_lab.sampling as s",
        "import os, stg_lab.sampling",
        "from ..sampling import sample",
        "from .. import errors, sampling",
        "def late():\n    from stg_lab.sampling import sample",
        "if TYPE_CHECKING:\n    from stg_lab import sampling",
    ],
)
def test_an_import_from_above_is_found(source):
    [fault] = faults(source, "weak", "stg_lab.weak")
    assert "weak imports stg_lab.sampling" in fault


@pytest.mark.parametrize(
    ("source", "room"),
    [("from stg_lab import preview", "errors"), ("from . import figures", "plots"), ("import stg_lab.seams", "reuse")],
)
def test_an_import_from_the_same_floor_or_the_next_is_found(source, room):
    assert len(faults(source, room, "stg_lab")) == 1


@pytest.mark.parametrize(
    "source",
    [
        "import stg_lab",
        "import stg_lab as lab",
        "from stg_lab import CFG",
        "from .. import *",
        "import stg_lab.nowhere",
    ],
)
def test_an_import_through_the_roof_or_of_no_room_is_found(source):
    [fault] = faults(source, "weak", "stg_lab.weak")
    assert "is not in a room of FLOORS" in fault


@pytest.mark.parametrize(
    "source",
    [
        "from stg_lab.errors import GuidanceError",
        "from stg_lab import errors, families",
        "from ..families.base import Family",
        "from stg_lab.weak.base import Weak",
        "from . import base",
        "from .base import Weak",
        "import torch, stg_lab_extras",
        "from torch import nn",
    ],
)
def test_an_import_from_below_or_within_is_allowed(source):
    assert faults(source, "weak", "stg_lab.weak") == []


def test_seams_may_reuse():
    assert faults("from stg_lab.passes import Prefix", "seams", "stg_lab") == []
