"""What `lab.families()` says was tested is what the tests of this very session found."""

import json
from pathlib import Path

import pytest
from kit.outcomes import CELLS, OUTCOMES, SIBLING_CELLS, table
from kit.siblings import SIBLINGS, sibling
from kit.zoo import ZOO, member

import stg_lab as lab
from stg_lab.families import FAMILIES

# It tells what the others of the group found, so one worker runs them all, and this after the others.
pytestmark = [pytest.mark.xdist_group("families"), pytest.mark.last]

FILE = Path(lab.__file__).parent / "families" / "tested.json"

#: By tiny pipeline, the cells that tests fill.
WANTED = dict.fromkeys(ZOO, CELLS) | dict.fromkeys(SIBLINGS, SIBLING_CELLS)


def kind(name):
    """The class of a tiny pipeline."""
    return type((sibling if name in SIBLINGS else member)(name).pipe).__name__


def test_the_table_of_families_is_what_the_tests_found(request):
    found = table(request.config.stash[OUTCOMES])
    whole = {name: row for name, row in found.items() if set(row) == set(WANTED[name])}
    if not whole:
        pytest.skip("needs the tests of the families, or of their siblings, in the same session")
    said = json.loads(FILE.read_text(encoding="utf-8"))
    if request.config.getoption("--write-families"):
        said |= {name: {"pipeline": kind(name), **row} for name, row in whole.items()}
        said = {name: row for name, row in said.items() if name in WANTED}
        FILE.write_text(json.dumps(said, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    cells = {name: {cell: said[name][cell] for cell in WANTED[name]} for name in whole}
    assert cells == whole, "write it anew: pytest tests --write-families"


def test_every_family_of_the_zoo_is_in_the_table():
    said = json.loads(FILE.read_text(encoding="utf-8"))
    assert set(said) == set(WANTED)
    assert all(row["record"] == "yes" for row in said.values())
    text = str(lab.families())
    assert all(cell in text for cell in ("record", "decode", "offload"))


def test_every_class_that_a_family_names_was_tested():
    said = json.loads(FILE.read_text(encoding="utf-8"))
    assert {name for family in FAMILIES for name in family.pipelines} == {row["pipeline"] for row in said.values()}
    assert f"tests ran on {len({row['pipeline'] for row in said.values()})} of them" in str(lab.families())
